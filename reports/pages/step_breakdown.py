"""Page of a training step's parts: the time of each part in each case, one backend beside the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.results.step_parts import ATTENTION, BACKBONE, CONTEXT, SUMMED_PARTS, WHOLE_STEP, PartTime
from reports.formats.markdown import DASH, bullet_list, heading, markdown_table


def step_breakdown_markdown(cases: Mapping[str, Sequence[PartTime]], setting: Sequence[str]) -> str:
    """Return the page in Markdown.

    Args:
        cases: Times of the parts by heading.
        setting: Machine and protocol, a line each.
    """
    text = (
        "# Where a training step goes\n\n"
        "Every figure on this page is *measured*: milliseconds, median and quartiles. Parts are run forward and "
        "backward, one by one, on the inputs they have in a real step; parts and backends take turns. The last line is "
        "what the parts do not explain of the whole step.\n\n"
    )
    text += bullet_list(setting)
    for name, times in cases.items():
        text += f"\n{heading(name)}\n{_table(times)}\n{bullet_list(_findings(times))}"
    return text


def _table(times: Sequence[PartTime]) -> str:
    time_of = {(time.part, time.backend): time for time in times}
    backends = [*dict.fromkeys(time.backend for time in times)]
    columns = ["part", *(f"{name}, ms" for name in backends), *(f"{name} over {backends[0]}" for name in backends[1:])]
    rows = []
    for part in dict.fromkeys(time.part for time in times):
        own = [time_of[part, name] for name in backends]
        ratios = [f"{time.seconds / own[0].seconds:.2f}x" for time in own[1:]]
        rows.append([part, *(_spread(time) for time in own), *ratios])
    rest = [1e3 * _rest(time_of, name) for name in backends]
    rows.append(["the rest of the step", *(f"{left:.1f}" for left in rest), *[DASH] * (len(backends) - 1)])
    return markdown_table(columns, rows)


def _spread(time: PartTime) -> str:
    return f"{1e3 * time.seconds:.1f} ({1e3 * time.low:.1f} to {1e3 * time.high:.1f})"


def _rest(time_of: Mapping[tuple[str, str], PartTime], backend: str) -> float:
    return time_of[WHOLE_STEP, backend].seconds - sum(time_of[part, backend].seconds for part in SUMMED_PARTS)


def _findings(times: Sequence[PartTime]) -> list[str]:
    """Context branch against the backbone, and the gain of a backend in the whole step, a sentence each."""
    seconds = {(time.part, time.backend): time.seconds for time in times}
    backends = [*dict.fromkeys(time.backend for time in times)]
    lines = []
    for name in backends:
        context, backbone, attention = (seconds[part, name] for part in (CONTEXT, BACKBONE, ATTENTION))
        word = "less" if context < backbone else "more"
        lines.append(
            f"{name}: the context branch takes {context / backbone:.2f} of the backbone's time, {word} than it; "
            f"its attention (with its linear layers) {attention / backbone:.2f}."
        )
    first = backends[0]
    slower = {name: seconds[WHOLE_STEP, name] / seconds[WHOLE_STEP, first] for name in backends[1:]}
    return lines + [
        f"With {name} a whole step takes {x:.2f} times as long as with {first}." for name, x in slower.items()
    ]
