"""Names that a terminal, a spreadsheet, a browser or Markdown would compute: each artefact shows them, escaped once."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from synthetic import SETTINGS, full_row, measure_row, run_row, write_study

from bench.launchers.progress import JobClock, PlainDisplay
from bench.launchers.queue import Job, Outcome
from bench.results.csv_text import csv_cell, text_of_cell
from bench.results.store import Store
from reports.formats.data_frames import frame_from_csv
from reports.formats.markdown import bullet_list
from reports.study import terminal
from reports.study.report import study_report_files
from reports.study.write import read_study, write_report
from unept.utils.visible_text import VisibleStream, visible_text

NAMES = (
    "=1+1",
    "'=1+1",
    "''-1",
    "<b>bold</b>",
    "a|b",
    "\\|",
    "`tick`",
    "```",
    "\x1b[31mred",
    "\r=1",
    "caf\udce9",
    "$x^2$ $y_{1}$",
    "\"quoted\" and 'so'",
    "&lt;i&gt; &amp;",
    "[x](javascript:alert(1))",
    "![x](y.png)",
    "__under__ *star* ~~gone~~",
    "- item",
    "+ spatial path",
    "1. first",
    "# head",
    "====",
    "NA",
    "null",
    "0017",
    "1e3",
    "two\nlines",
    "tab\there",
    "\u202eright",
    "@SUM(A1)",
    "＝2",
)
COMPUTED = re.compile(r"[=+@＝＋－＠\t\r\n-]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def shown(name: str) -> str:
    """The name as a cell on one line shows it."""
    return visible_text(" ".join(name.split()))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose variants, classes, data, messages, commands and machine have these names, with its report."""
    out = tmp_path_factory.mktemp("study")
    settings = SETTINGS | {"data": "folder:/x/" + "".join(NAMES)}
    classes = {name: 0.5 for name in NAMES}
    changes = {"settings": settings, "command": "unept-bench " + " ".join(NAMES), "data": {"digest": "a" * 16}}
    runs = []
    for number, name in enumerate(NAMES):
        row = full_row(name, 0, 0.4 + 0.01 * number, axes={"encoder_self": name}, **changes)
        row["metrics"]["iou"] = classes
        row["environment"] = {"cpu": "|".join(NAMES[:3]), name: name}
        runs += [row, run_row(name, 1, None, axes={"encoder_self": name}, message=f"{name} {name}", **changes)]
    measures = [measure_row(name, axes={"encoder_self": name}, settings=settings) for name in NAMES]
    write_study(out, "grid", "ablate", runs, measures, control=NAMES[3])
    Store(out).write_tables()
    write_report(out, "grid")
    return out


@pytest.fixture(scope="module")
def folder(out: Path) -> Path:
    return out / "report" / "grid"


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_comes_back(name: str) -> None:
    cell = csv_cell(name)
    assert NUMBER.fullmatch(cell) or not COMPUTED.match(cell)
    assert text_of_cell(cell) == visible_text(name)


def test_a_name_reaches_every_table_escaped_once_and_comes_back(out: Path, folder: Path) -> None:
    wanted = {visible_text(name) for name in NAMES}
    files = [*folder.glob("*.csv"), *out.glob("*.csv")]
    assert len(files) > 10
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not [cell for cell in cells if COMPUTED.match(cell) and not NUMBER.fullmatch(cell)], path
        frame = frame_from_csv(path)
        if path.name == "comparisons.csv":
            assert {*frame["variant"], *frame["control"]} == wanted
        elif "variant" in frame and len(frame):
            assert {*frame["variant"]} == wanted, path.name
    by_class = frame_from_csv(folder / "class_iou.csv")
    assert {*by_class["class"]} == wanted
    assert [*by_class.columns] == ["class", *map(visible_text, NAMES)]
    failures = frame_from_csv(folder / "failures.csv")
    assert {*failures["message"]} == {visible_text(f"{name} {name}") for name in NAMES}


def inline_tokens(markdown: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(markdown):
        yield token
        yield from token.children or ()


def content_of(token: Token) -> str:
    return "".join(child.content for child in token.children or ())


def test_the_page_in_markdown_holds_text_alone(folder: Path) -> None:
    page = (folder / "report.md").read_text(encoding="utf-8")
    kinds = {token.type for token in inline_tokens(page)}
    assert not kinds & {"html_inline", "html_block", "link_open", "em_open", "strong_open", "s_open", "code_inline"}
    images = [token.attrs["src"] for token in inline_tokens(page) if token.type == "image"]
    assert set(images) <= {path.name for path in folder.iterdir()}
    assert len([token for token in inline_tokens(page) if token.type == "fence"]) == 1
    texts = [content_of(token) for token in inline_tokens(page)]
    for name in NAMES:
        assert texts.count(shown(name)) >= 5, name
    assert not set(page) & {chr(number) for number in range(32) if number not in (9, 10)}


class Cells(HTMLParser):
    """Texts of a page's cells, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: set[str] = set()
        self.inside = False

    def handle_starttag(self, tag: str, _: object) -> None:
        self.elements.add(tag)
        if tag in ("td", "th"):
            self.texts.append("")
        self.inside = tag in ("td", "th") or (self.inside and tag == "code")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def test_the_page_in_html_holds_text_alone(folder: Path) -> None:
    cells = Cells()
    cells.feed((folder / "report.html").read_text(encoding="utf-8"))
    for name in NAMES:
        assert cells.texts.count(shown(name)) >= 5, name
    assert not cells.elements & {"b", "i", "em", "strong", "s", "script"}
    assert "javascript:alert" in "".join(cells.texts)


def test_links_of_the_page_lead_to_its_sections_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))


def test_plots_are_whole(folder: Path) -> None:
    for path in folder.glob("*.svg"):
        ElementTree.fromstring(path.read_bytes())


def test_the_terminal_shows_a_line_for_each(out: Path) -> None:
    study = read_study([out], "grid")
    lines = [*terminal.study_lines(study), *terminal.audit_lines(study, always=True)]
    file = io.StringIO()
    print("\n".join(lines), file=VisibleStream(file))
    said = file.getvalue().splitlines()
    assert len(said) == len(lines)
    assert "\x1b" not in file.getvalue()
    table = said[1 : 2 + len(NAMES)]
    assert [line.startswith(shown(name)) for name, line in zip(NAMES, table[1:], strict=True)] == [True] * len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_progress_is_a_line(name: str) -> None:
    file = io.StringIO()
    job = Job(spec={"kind": "run", "key": "k"}, label=name)
    display = PlainDisplay(JobClock([job], 1, already=0), stream=VisibleStream(file))
    display.started(job)
    display.ended(Outcome(job=job, status="failed", message=name, seconds=1.0, metrics={}))
    assert len(file.getvalue().splitlines()) == 1
    assert file.getvalue().count(shown(name)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_an_item_of_a_list_holds_text_alone(name: str) -> None:
    kinds = [token.type for token in inline_tokens(bullet_list([name]))]
    assert kinds.count("list_item_open") == 1
    (text,) = [content_of(token) for token in inline_tokens(bullet_list([name])) if token.children]
    assert text == shown(name)


def test_the_files_of_a_report_do_not_depend_on_where_they_are_written(out: Path, folder: Path) -> None:
    made = study_report_files(read_study([out], "grid"))
    assert made["report.html"] == (folder / "report.html").read_bytes()
