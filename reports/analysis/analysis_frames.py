"""The tables that a study's verdict is made of, by the file that a report writes them to."""

from __future__ import annotations

import pandas as pd

from reports.analysis.axis_effects import axis_effects_frame
from reports.analysis.comparisons import comparison_frame
from reports.analysis.learned_cue import learned_cue_frame, learning_frame
from reports.analysis.study_rows import Study
from reports.analysis.time_to_learn import time_to_learn_frame


def analysis_frames(study: Study) -> dict[str, pd.DataFrame]:
    """Return the tables of the verdict on a study's mIoU by the names of their CSV files."""
    return {
        "axes.csv": axis_effects_frame(study),
        "comparisons.csv": comparison_frame(study),
        "learned.csv": learned_cue_frame(study),
        "learning.csv": learning_frame(study),
        "time_to_learn.csv": time_to_learn_frame(study),
    }
