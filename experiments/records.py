"""Make the verdicts of the committed records again from their rows: `python -m experiments.records`, `make docs`.

After a change of the analysis the tables and the page of each record in reports/records/ follow it. What needs rows
that a record does not keep stays as it is. With --check nothing is written; the exit code is 1 if a record is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from reports.study.record import accuracy_plot, record_files

RECORDS = Path(__file__).parents[1] / "reports" / "records"


def main(words: Sequence[str] | None = None, records: Path = RECORDS) -> int:
    """Write every stale file of the records, or name it.

    Args:
        words: Arguments of the command line.
        records: Folder of the records.

    Returns:
        1 if `--check` found a stale file, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    options = parser.parse_args(words)
    stale = [
        (folder / name, data)
        for folder in sorted(path.parent for path in records.glob("*/results.csv"))
        for name, data in record_files(folder).items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != data
    ]
    if not options.check:  # plots differ with the version of Matplotlib in their bytes, and follow the table
        for folder in {path.parent for path, _ in stale if path.name == "accuracy.csv"}:
            (folder / "accuracy.png").write_bytes(accuracy_plot(folder))
    for path, data in stale:
        print(f"{path.relative_to(records)}: {'stale' if options.check else 'written'}")
        if not options.check:
            path.write_bytes(data)
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
