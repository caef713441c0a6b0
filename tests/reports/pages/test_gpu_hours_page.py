"""The page of predicted GPU-hours, from records that are made up."""

from __future__ import annotations

import csv
import io

from golden_pages import assert_golden

from bench.results.gpu_assumption import GpuAssumption
from reports.pages import gpu_hours

RECORDS = [
    {"table": "Table 5", "row": "baseline", "gmacs": 90.0, "training_tflop": 7.2e5, "evaluation_tflop": 3.6e4},
    {"table": "Table 6", "row": "N=4 L=1", "gmacs": 90.0, "training_tflop": 7.2e5, "evaluation_tflop": 3.6e4},
]
RECORDS = [RECORDS[0] | {"same_as": ""}, RECORDS[1] | {"same_as": "Table 5, baseline"}]
GPU = GpuAssumption(name="a GPU", peak=20.0, share=0.5)  # 10 TFLOP/s


def test_page_and_counts() -> None:
    made = gpu_hours.gpu_hours_report_files(RECORDS, GPU, 5, (512, 683))
    assert_golden("gpu_hours.md", made["report.md"].decode())
    first, second = csv.DictReader(io.StringIO(made["hours.csv"].decode()))
    assert float(first["training_tflop"]) == 7.2e5
    assert (first["same_as"], second["same_as"]) == ("", "Table 5, baseline")


def test_hours_are_work_over_the_sustained_rate() -> None:
    assert GPU.hours(7.2e5) == 20.0
    *_, total = gpu_hours.gpu_hours_lines(RECORDS[:1], {"baseline": 3}, GPU, (512, 683))
    assert f"{3 * (20 + 1):,.0f} GPU-hours" in total
