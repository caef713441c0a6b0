"""Scores of checkpoints on a data set, as lines and as a page: by which protocol, and how far apart they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.formats import markdown

Record = Mapping[str, Any]

SCORES = (
    ("miou", "mIoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("boundary_iou", "boundary IoU"),
    ("boundary_f", "boundary F"),
    ("interior_miou", "interior mIoU"),
)
METRICS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
CAVEAT = (
    "The interval is the uncertainty of the choice of test pictures (paired bootstrap over pictures, 10,000 resamples) "
    "for these very checkpoints. How much another training seed would change them is not in it."
)


def evaluation_lines(records: Sequence[Record], pairs: Sequence[Record]) -> list[str]:
    """Return the scores in percent, a line for each checkpoint and kind, then the comparisons."""
    made = []
    for record in records:
        for kind, scores in record["scores"].items():
            figures = ", ".join(f"{title} {format_percent(scores[name])}" for name, title in SCORES)
            made.append(f"{_called(record, kind)}: {figures} (%; interior: {_classes_inside(scores)})")
    made += [comparison_line(pair) for pair in pairs]
    return [*made, *[CAVEAT] * bool(pairs)]


def comparison_line(pair: Record) -> str:
    """Return one comparison with its verdict: `B - A, mIoU: +1.20 points, 95 % interval +0.80 to +1.60 (500 pictures):
    ...`.
    """
    value = pair["value"]
    difference, low, high = (100 * number for number in (value["first"] - value["second"], value["low"], value["high"]))
    verdict = "the interval includes 0" if low <= 0 <= high else f"{pair['first' if low > 0 else 'second']} is better"
    return (
        f"{pair['first']} - {pair['second']}, {METRICS[value['metric']]}: {difference:+.2f} points, 95 % interval "
        f"{low:+.2f} to {high:+.2f} ({pair['pictures']} pictures): {verdict}"
    )


def evaluation_markdown(records: Sequence[Record], pairs: Sequence[Record], command: str) -> str:
    """Return the scores, comparisons, IoU of each class, protocols and command in Markdown."""
    first = records[0]
    title = markdown.heading(f"Evaluation on {first['data']}, {first['split']}", 1)
    head = (
        f"{title}\n"
        f"Measured on {first['pictures']} pictures{_digest(first)}, in percent. "
        "Refined: after boundary refinement, in the same pass.\n"
    )
    columns = ["checkpoint", *(title for _, title in SCORES), "interior: mean over"]
    rows = [
        [_called(record, kind), *(format_percent(scores[name]) for name, _ in SCORES), _classes_inside(scores)]
        for record in records
        for kind, scores in record["scores"].items()
    ]
    parts = [head, markdown.markdown_table(columns, rows)]
    if pairs:
        parts += ["## Comparisons\n", markdown.bullet_list(map(comparison_line, pairs)), f"{CAVEAT}\n"]
    parts += ["## IoU of each class\n", _classes(records)]
    protocols = {record["name"]: record["protocol"]["words"] for record in records}
    parts += ["## Protocol\n", markdown.bullet_list(f"{name}: {words}" for name, words in protocols.items())]
    parts += ["## Checkpoints\n", markdown.bullet_list(_origin(record) for record in records)]
    return "\n".join([*parts, "## Command\n", markdown.code_block(command)])


def format_percent(value: float | None) -> str:
    """Return a fraction in percent to two decimals; a dash for None."""
    return markdown.DASH if value is None else f"{100 * value:.2f}"


def _classes_inside(scores: Mapping[str, Any]) -> str:
    """Return `8 classes`: those with true pixels in the interior, which its mIoU is the mean of."""
    number = scores["interior_classes"]
    return f"{number} class" if number == 1 else f"{number} classes"


def _called(record: Record, kind: str) -> str:
    return f"{record['name']}, {kind}" if len(record["scores"]) > 1 else str(record["name"])


def _classes(records: Sequence[Record]) -> str:
    columns = [_called(record, kind) for record in records for kind in record["scores"]]
    ious = [scores["iou"] for record in records for scores in record["scores"].values()]
    names = records[0]["classes"]
    rows = [[name, *(format_percent(iou[number]) for iou in ious)] for number, name in enumerate(names)]
    return markdown.markdown_table(["class", *columns], rows)


def _digest(record: Record) -> str:
    return f" of data with the digest {record['data_digest']}" if record.get("data_digest") else ""


def _origin(record: Record) -> str:
    facts = record["facts"]
    known = ", ".join(
        f"{name} {facts[name]}" for name in ("source", "data", "step", "seed") if facts.get(name) is not None
    )
    return f"{record['name']}: {record['checkpoint']}, SHA-256 {record['sha256'][:16]}…" + f" ({known})" * bool(known)
