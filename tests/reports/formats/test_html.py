"""The page of a report: whole in itself, safe whatever rows say, and within the width of the window."""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.formats.html import html_page
from reports.formats.markdown import escape_cell, markdown_table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300"><rect width="900" height="300"/></svg>'
LONG = "a_variant_with_a_name_of_one_very_long_word_that_no_line_of_a_phone_can_hold_" * 2
WIDE = markdown_table(["variant", *(f"seed {i}" for i in range(30))], [[LONG, *["68.76 / 93.02"] * 30]])
SAMPLE = f"""# A question of {LONG}?

- a verdict

## Accuracy

{WIDE}
![plot](accuracy.png)

## Cost

`{LONG * 3}`

```
unept-bench ablate --grid {LONG * 4}
```

## Failures

{markdown_table(["what", "value"], [["message", LONG * 3], ["short", "words " * 200]], left=2)}

## Environment

None.
"""


def sample() -> str:
    return html_page(SAMPLE, {"accuracy.svg": SVG, "accuracy.png": b"png"}, title="study")


MEASURE = """<script>onload = () => {
  const inside = document.querySelector("iframe").contentDocument;
  const background = inside.defaultView.getComputedStyle(inside.body).backgroundColor;
  document.title = [inside.documentElement.scrollWidth, inside.defaultView.innerWidth, background].join(" ");
}</script>"""


def measured(page_text: str, folder: Path, width: int, *flags: str) -> tuple[int, int, str]:
    """Width of the content, width of the window and background of the page as the browser shows it.

    The page stands in a frame of this width, since a browser's window cannot be as narrow as a phone.
    """
    assert CHROMIUM
    frame = f'<iframe style="width: {width}px; height: 800px; border: 0" srcdoc="{html.escape(page_text)}"></iframe>'
    (folder / "frame.html").write_text(f"<!DOCTYPE html><meta charset=utf-8>{MEASURE}{frame}")
    profile = folder / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--window-size=1400,900", *flags, "--dump-dom"]
    done = subprocess.run([*command, f"file://{folder}/frame.html"], capture_output=True, text=True, timeout=60)
    found = re.search(r"<title>(\d+) (\d+) ([^<]*)</title>", done.stdout)
    assert found, f"the browser measured nothing: {done.stderr[-500:]}"
    return int(found[1]), int(found[2]), found[3]


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page's width is not checked")


@needs_chromium
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_the_window(tmp_path: Path, width: int) -> None:
    scroll, inner, _ = measured(sample(), tmp_path, width)
    assert inner == width
    assert 0 < scroll <= width


@needs_chromium
def test_the_width_is_really_measured(tmp_path: Path) -> None:
    scroll, inner, _ = measured(sample().replace("overflow-x: auto", ""), tmp_path, 360)
    assert scroll > inner


@needs_chromium
def test_dark_colours_follow_the_reader(tmp_path: Path) -> None:
    bright, dark = (
        measured(sample(), tmp_path, 1280, f"--blink-settings=preferredColorScheme={scheme}")[2] for scheme in (1, 0)
    )
    assert (bright, dark) == ("rgb(255, 255, 255)", "rgb(22, 24, 28)")


@pytest.mark.parametrize("outside", ["<script", "http:", "https:", "<link", "<iframe", "@import", "url(", "onload"])
def test_the_page_needs_nothing_else(outside: str) -> None:
    assert outside not in sample().replace(POLICY_ATTRIBUTE, "")


POLICY_ATTRIBUTE = 'http-equiv="Content-Security-Policy"'


def test_the_policy_forbids_scripts_and_the_network() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', sample())
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "script-src" not in rules


@pytest.mark.parametrize("escape", [escape_cell, str])
def test_a_variant_called_script_is_text(escape: object) -> None:
    assert callable(escape)
    name = "<script>alert(1)</script>"
    made = html_page(f"# {escape(name)}\n\n| variant |\n| --- |\n| {escape(name)} |\n\n{name}\n", {}, title=name)
    assert "<script" not in made
    assert made.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 5
    assert "<title>&lt;script&gt;" in made


@pytest.mark.parametrize("address", ["javascript:alert(1)", "JaVaScript:alert(1)", "vbscript:x", "file:///etc/passwd"])
def test_harmful_links_are_refused(address: str) -> None:
    assert "href" not in html_page(f"[x]({address}) <{address}>", {}, title="t")


def test_ordinary_links_are_links() -> None:
    assert '<a href="class_iou.csv">classes</a>' in html_page("[classes](class_iou.csv)", {}, title="t")


@pytest.mark.parametrize("name", ["https://example.org/x.png", "gone.png", "//example.org/x.png", ".", "..", "a/"])
def test_a_picture_that_is_not_given_is_said_and_not_fetched(name: str) -> None:
    made = html_page(f"![a plot]({name})", {"x.png": b"png"}, title="t")
    assert "<img" not in made
    assert "(no picture: a plot)" in made


def test_pictures_are_inside_as_drawings_where_given() -> None:
    made = sample()
    assert f'src="data:image/svg+xml;base64,{base64.b64encode(SVG).decode()}" alt="plot"' in made
    assert "accuracy.png" not in made
    png = html_page("![a *b*](my%20plot.png)", {"my plot.png": b"bytes"}, title="t")
    assert f'src="data:image/png;base64,{base64.b64encode(b"bytes").decode()}" alt="a b"' in png


def test_headings_have_ids_and_the_contents_follow_the_first_section() -> None:
    made = html_page("# Q\n\n## One & *two*\n\ntext\n\n## Same\n\n## Same\n\n## \n", {}, title="t")
    assert re.findall(r'<h\d id="([^"]*)"', made) == ["q", "one-two", "same", "same-2", "section"]
    assert re.findall(r'href="#([^"]*)">([^<]*)<', made) == [
        ("one-two", "One &amp; two"),
        ("same", "Same"),
        ("same-2", "Same"),
        ("section", ""),
    ]
    assert made.index("<h2") < made.index("text</p>") < made.index("<nav") < made.index('id="same"')
    assert made.count("<nav") == 1


def test_few_sections_need_no_contents() -> None:
    assert "<nav" not in html_page("# Q\n\n## One\n\n## Two\n", {}, title="t")


def test_tables_scroll_in_a_container_of_their_own() -> None:
    made = html_page("## Cost\n\n" + markdown_table(["variant", "x"], [["a", "1"]]) + "\ntext", {}, title="t")
    assert '<div class="table wide brief" role="region" aria-label="Table: Cost" tabindex="0">\n<table>' in made
    assert '<td class="number">1</td>' in made
    assert "style=" not in made.split("<body>")[1]
    assert 'class="pair"' not in made
    assert 'class="table wide" ' in html_page(markdown_table(["variant", "x"], [["a" * 30, "1"]]), {}, title="t")
    assert 'class="table" ' in html_page(markdown_table(["what", "value"], [["a", "b"]], left=2), {}, title="t")


def test_a_table_and_its_plot_stand_side_by_side() -> None:
    body = sample().split("<body>")[1]
    assert body.count("<div") == body.count("</div>") == 3
    pair = body[body.index('<div class="pair">') :]
    assert pair.index("</table>") < pair.index("<img") < pair.index("</p>\n</div>") < pair.index("<nav")


def test_same_report_same_page() -> None:
    assert sample() == sample()
    assert sample() != html_page(SAMPLE, {}, title="study")
