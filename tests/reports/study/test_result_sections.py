"""The page of a report: what its first screen says, which sections it has, and what stands in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from golden_pages import assert_golden
from scipy import stats
from synthetic import cells, full_row, measure_row, page, run_row, section, without_plots

from reports.analysis.study_rows import Study, assemble_study
from reports.paper.claims import CLAIMS
from reports.study import report

GRID = [f"N={n} L={level}" for level in (1, 3) for n in (4, 16, 64)]
NEW = [
    "Seeds that learned the far cue",
    "Boundaries and object sizes",
    "Boundary refinement at test",
]
NASTY = [
    "a | b",
    "<script>alert(1)</script>",
    "_under_ score_",
    "*star* `tick`",
    "\\back $x_1$",
    "[link](http://x) &lt;",
]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)


def study(runs: list[dict[str, Any]], kind: str = "ablate", **changes: Any) -> Study:
    return assemble_study(kind, **({"runs": runs, "planned": runs} | changes))


def full(**changes: Any) -> Study:
    """The paper's grid with three seeds and all that rows may hold; N=16 L=3 is best."""
    runs = [
        full_row(
            name,
            seed,
            0.5 + 0.02 * i + 0.001 * seed + 0.1 * (name == "N=16 L=3"),
            lookalike=0.9 if seed < i else 0.5,
            refined=0.49 + 0.02 * i + 0.001 * seed + 0.1 * (name == "N=16 L=3"),
        )
        for i, name in enumerate(GRID)
        for seed in range(3)
    ]
    return study(runs, measures=[measure_row(name) for name in GRID], **changes)


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.*)$", text, flags=re.MULTILINE)


def lines_of(text: str, heading: str) -> dict[str, list[str]]:
    """The table under a heading by its first column."""
    return {line[0]: line[1:] for line in cells(section(text, heading))}


def test_the_whole_page() -> None:
    """The page of a study with all that rows may hold, a run that failed and one that is missing."""
    study_rows = full()
    failed = run_row("N=4 L=1", 3, None, status="diverged", message="loss is nan\n| at 3")
    planned = [*study_rows.runs, failed, {"variant": "N=64 L=3", "seed": 3}]
    measures = [*study_rows.measures.values()][:-1]
    assert_golden("study.md", page(study([*study_rows.runs, failed], planned=planned, measures=measures)))


# --- the first screen -------------------------------------------------------------------------------------------------


def test_question_verdict_table_and_plot_come_first() -> None:
    made = report.study_report_files(full())
    text, html = made["report.md"].decode(), made["report.html"].decode()
    marks = [
        "# How do accuracy",
        "Measured on: data scenes",
        "- Compared with N=16 L=3, mIoU is lower in",
        "## Accuracy",
    ]
    marks += ["| N=4 L=1 | 3 |", "](accuracy.png)", "## Compared with"]
    places = [text.index(mark) for mark in marks]
    assert places[0] == 0
    assert places == sorted(places)
    assert headings(text)[0].startswith("Accuracy, measured")
    assert text.count("![", 0, places[-1]) == 1
    body = html.split("<main>")[1]
    tags = [
        "<h1",
        "Measured on",
        "<ul>\n<li>The cells of the grid",
        "<h2",
        "<table>",
        "<img",
        "<nav",
        '<h2 id="compared',
    ]
    found = [body.index(tag) for tag in tags]
    assert found == sorted(found)


def test_the_verdict_counts_what_failed_and_what_is_due() -> None:
    runs = [full_row("a", 0, 0.5), run_row("a", 1, None), run_row("b", 0, None, status="oom", message="MemoryError")]
    planned = [*runs, {"variant": "b", "seed": 1}, {"variant": "b", "seed": 2}]
    text = page(study(runs, planned=planned, problems=["left out: x_y: <i>"]))
    first = text.partition("\n## ")[0]
    assert "- 3 runs of 2 variants: 1 failed, 1 ok, 1 oom.\n" in first
    assert "- Not all of the plan has been run, 2 runs missing: these figures are not final.\n" in first
    assert "- left out: x_y: \\<i\\>.\n" in first
    assert lines_of(text, "Accuracy")["a"] == ["1", "50.00", "–", "80.00", "–", "1"]
    assert lines_of(text, "Every seed")["b"] == ["oom", "–", "–"]
    assert cells(section(text, "Failures"))[1:] == [
        ["a", "1", "failed", "boom"],
        ["b", "0", "oom", "MemoryError"],
        ["b", "1, 2", "not run", "asked for, and no row is here"],
    ]


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_each_variant_stands_against_the_control_with_its_verdict() -> None:
    values = {
        "control": [0.50, 0.51, 0.52],
        "up": [0.60, 0.61, 0.62],
        "down": [0.40, 0.41, 0.42],
        "same": [0.50, 0.512, 0.522],
        "once": [0.9],
    }
    runs = [run_row(name, seed, value) for name, found in values.items() for seed, value in enumerate(found)]
    text = page(study(runs))
    found = lines_of(text, "Compared with control, measured (scenes, split val, 64 px, 500 steps)")
    assert list(found) == ["variant", "up", "down", "same", "once"]
    assert [line[0] for line in found.values()] == [
        "verdict",
        "higher",
        "lower",
        "no difference seen",
        "cannot be judged",
    ]
    points = {name: [100 * value for value in values[name]] for name in values}
    test = stats.ttest_ind(points["same"], points["control"], equal_var=False)
    low, high = test.confidence_interval(1 - 0.05 / 3)
    assert found["same"][1:5] == ["3", "+0.13", f"{low:.2f} to {high:.2f}", f"{test.pvalue:.3f}"]
    assert found["same"][7] == "0.100"  # two of the twenty ways to deal six values to two sides
    assert found["once"] == ["cannot be judged", "1 and 3", "+39.00", *["–"] * 7]
    least, strictest = map(float, found["up"][8].split(" to "))
    assert 0 < least < strictest
    assert "mIoU is higher in up by 10.00 points" in text.partition("\n## ")[0]


@pytest.mark.parametrize(("declared", "expected"), [("", "N=16 L=3"), ("N=4 L=1", "N=4 L=1"), ("gone", "N=16 L=3")])
def test_the_control_is_named_and_stands_in_no_line(declared: str, expected: str) -> None:
    text = page(full(control=declared))
    (heading,) = [line for line in headings(text) if line.startswith("Compared with")]
    assert heading == f"Compared with {expected}, measured (scenes, split val, 64 px, 500 steps)"
    found = lines_of(text, "Compared with")
    assert expected not in found
    assert set(found) == {"variant", *GRID} - {expected}


def test_one_variant_has_no_comparison() -> None:
    text = page(study([run_row("alone", seed, 0.5 + seed / 100) for seed in range(3)]))
    assert "There is no second variant to compare with." in text
    assert "## Compared" not in text


# --- the far cue ------------------------------------------------------------------------------------------------------


def test_seeds_that_learned_are_counted_with_their_jumps() -> None:
    runs = [full_row("a", seed, 0.5, lookalike=score) for seed, score in enumerate((0.9, 0.5, 0.76, 0.74))]
    runs += [full_row("b", 0, 0.5, lookalike=0.4), full_row("c", 0, 0.5)]
    text = page(study(runs))
    found = {line[0]: line[1:] for line in cells(section(text, "Seeds that learned the far cue"))[:4]}
    assert found["a"] == ["2 of 4", "0.12 to 0.88", "50.00 ± 0.00", "50.00 to 50.00", "0: 400, 2: 400", "100 steps"]
    assert found["b"] == ["0 of 1", "0.00 to 0.85", "–", "–", "–", "100 steps"]
    assert found["c"] == ["0 of 0", *["–"] * 5]
    assert "at least 75 % are right" in section(text, "Seeds that learned")
    assert "Seeds fall in two groups" in text.partition("\n## ")[0]
    assert "a (2 of 4)" in text.partition("\n## ")[0]


# --- the paper's claims -----------------------------------------------------------------------------------------------


def test_only_the_claims_of_the_right_table_are_judged() -> None:
    text = page(full())
    judged = cells(section(text, "The paper's claims: Table 6"))[1:]
    assert len(judged) == sum(claim.table == 6 for claim in CLAIMS)
    outcomes = {(line[0], line[3]): line[1] for line in judged}
    assert outcomes["16 points rather than 64 raise mIoU at L=3", "mIoU"] == "agrees"
    assert outcomes["64 points rather than 16 raise mIoU at L=1", "mIoU"] == "agrees"
    assert {line[1] for line in judged} <= {"agrees", "disagrees", "undetermined", "not run"}
    ladder = ["baseline", "+ pyramid features", "+ spatial path", "+ stronger backbone"]
    falling = [run_row(name, seed, 0.6 - 0.1 * i + 0.001 * seed) for i, name in enumerate(ladder) for seed in range(3)]
    text = page(study(falling, "table 5"))
    judged = cells(section(text, "The paper's claims: Table 5"))[1:]
    assert len(judged) == sum(claim.table == 5 for claim in CLAIMS)
    assert {line[1] for line in judged if ladder[1].removeprefix("+ ") in line[0]} == {"disagrees"}
    assert "Table 6" not in "".join(headings(text))
    assert not [line for line in headings(page(study([run_row("width=8", 0, 0.4)]))) if "paper's claims" in line]


# --- boundaries -------------------------------------------------------------------------------------------------------


def test_boundaries_sizes_and_trimap_with_what_the_rows_say_of_them() -> None:
    runs = [full_row("a", 0, 0.5), full_row("a", 1, 0.6), full_row("b", 0, 0.4), run_row("b", 1, None)]
    found = section(page(study(runs)), "Boundaries and object sizes, measured (scenes, split val, 64 px, 500 steps)")
    assert "2 to 3 px" in found
    assert "within 1 px" in found
    assert re.search(r"1 ?% to 10 ?%", found)
    tables = cells(found)
    metrics = dict(zip(tables[0], tables[1], strict=True))
    assert metrics == {
        "variant": "a",
        "Boundary IoU": "35.00 ± 7.07",
        "boundary F": "45.00 ± 7.07",
        "interior mIoU (7 classes)": "75.00 ± 7.07",
        "errors near a boundary": "80.00 ± 0.00",
        "IoU, small (1 class)": "45.00 ± 7.07",
        "IoU, medium (8 classes)": "55.00 ± 7.07",
        "IoU, large (6 classes)": "65.00 ± 7.07",
    }
    assert tables[2] == ["b", "20.00", "30.00", "60.00", "80.00", "30.00", "40.00", "50.00"]
    assert tables[3:] == [
        ["variant", *(f"{radius} px (8 classes)" for radius in (1, 2, 13, 40))],
        ["a", "45.0", "50.0", "54.2", "54.8"],
        ["b", "30.0", "35.0", "39.2", "39.8"],
    ]


def test_scores_of_regions_that_were_averaged_over_other_classes_are_left_out_and_said() -> None:
    older, newer = full_row("a", 0, 0.5), full_row("a", 1, 0.7)
    for name in ("interior_classes", "size_classes", "trimap_classes"):
        del older["metrics"][name]
    heading = "Boundaries and object sizes"
    mixed = section(page(study([older, newer])), heading)
    assert "Interior, trimap and size scores of 1 run are left out" in mixed
    assert dict(zip(*cells(mixed)[:2], strict=True))["interior mIoU (7 classes)"] == "90.00"  # of the newer alone
    old = section(page(study([older])), heading)
    assert cells(old)[0] == ["variant", "Boundary IoU", "boundary F", "errors near a boundary"]
    assert "trimap)" not in old
    assert "Interior mIoU: over" not in old


def test_the_number_of_classes_is_a_span_where_variants_differ() -> None:
    other = full_row("b", 0, 0.5)
    other["metrics"]["interior_classes"] = 5
    found = section(page(study([full_row("a", 0, 0.5), other])), "Boundaries and object sizes")
    assert "interior mIoU (5 to 7 classes)" in cells(found)[0]


def test_definitions_without_facts_claim_none() -> None:
    row = full_row("a", 0, 0.5)
    del row["evaluation"]
    found = section(page(study([row])), "Boundaries and object sizes")
    assert not re.search(r"\d px (inside|wide)|within \d px", found)
    assert "10%" not in found


def test_refinement_has_a_table_only_where_something_was_refined() -> None:
    runs = [full_row("a", seed, 0.5, refined=value) for seed, value in enumerate((0.52, 0.48, 0.53))]
    runs.append(full_row("b", 0, 0.4))
    found = lines_of(page(study(runs)), "Boundary refinement at test")
    changes = [2.0, -2.0, 3.0]
    low, high = stats.t.interval(0.95, 2, 1.0, stats.sem(changes))
    change = ["+1.00", f"{low:.2f} to {high:.2f}"]
    assert found["a"] == ["3", "51.00 ± 2.65", *change * 3]
    assert found["b"] == ["0", *["–"] * 7]
    assert "Boundary refinement at test" not in page(study(runs[3:]))


# --- rows of all ages -------------------------------------------------------------------------------------------------


def test_rows_without_the_new_fields_have_no_sections_of_them() -> None:
    old = [run_row(name, seed, 0.4 + seed / 100) for name in GRID for seed in range(2)]
    made = headings(page(study(old)))
    assert not [line for line in made for name in NEW if line.startswith(name)]
    assert [name for name in NEW if not any(line.startswith(name) for line in headings(page(full())))] == []
    mixed = page(study([*old, full_row("N=4 L=1", 2, 0.5, lookalike=0.8, refined=0.6)]))
    assert lines_of(mixed, "Boundary refinement")["N=16 L=1"] == ["0", *["–"] * 7]
    assert lines_of(mixed, "Seeds that learned")["N=4 L=1"] == [
        "1 of 1",
        "0.15 to 1.00",
        "50.00",
        "–",
        "2: 400",
        "100 steps",
    ]
    assert lines_of(mixed, "Boundaries and object sizes")["N=16 L=1"] == ["–"] * 4


@pytest.mark.parametrize("field", ["metrics", "training", "evaluation", "settings", "environment", "axes"])
@pytest.mark.parametrize("value", [None, {}])
def test_rows_that_lack_a_part_are_reported(field: str, value: Any) -> None:
    runs = [full_row("N=4", seed, 0.5 + seed / 100, lookalike=0.8, refined=0.5) for seed in range(2)]
    runs.append(full_row("N=16", 0, 0.5, lookalike=0.8, refined=0.5) | {field: value})
    text = page(study(runs))
    assert "3 runs of 2 variants: 3 ok." in text
    assert lines_of(text, "Accuracy")["N=4"][0] == "2"


# --- any names --------------------------------------------------------------------------------------------------------


class Shown(HTMLParser):
    """The words of headings and cells, and every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {"h": [], "t": []}
        self.tags: set[str] = set()
        self.within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.tags.add(tag)
        if tag in ("h1", "h2", "th", "td"):
            self.within = tag[0]
            self.found[self.within].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "th", "td"):
            self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within:
            self.found[self.within][-1] += data


def plain(heading: str) -> str:
    """A heading without escapes and emphasis."""
    return re.sub(r"\\(.)|\*", r"\1", heading)


@pytest.mark.parametrize("names", [GRID[:2], NASTY], ids=["plain", "nasty"])
def test_the_page_holds_what_the_markdown_does(names: list[str]) -> None:
    runs = [
        full_row(name, seed, 0.4 + 0.05 * i + 0.01 * seed, lookalike=0.9, refined=0.5)
        for i, name in enumerate(names)
        for seed in range(2)
    ]
    runs.append(run_row(names[1], 2, None, message="<b>|_*"))
    runs[0]["metrics"]["iou"] = {f"class {name}": 0.5 for name in names}
    made = report.study_report_files(study(runs, measures=[measure_row(name) for name in names], control=names[1]))
    text, shown = made["report.md"].decode(), Shown(made["report.html"].decode())
    tables = cells(text)
    assert shown.found["t"] == [words for line in tables for words in line]
    assert shown.found["h"] == [plain(words) for words in re.findall(r"^##? (.*)$", text, flags=re.MULTILINE)]
    assert f"Compared with {names[1]}, measured" in "".join(shown.found["h"])
    assert not shown.tags & {"script", "b", "strong", "code"}
    assert sum(line[0] == name for line in tables for name in names) >= 8 * len(names)
    for table in re.split(r"\n\n", text):
        assert len({len(line) for line in cells(table)}) <= 1
