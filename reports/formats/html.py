"""A report as one HTML page that needs nothing else: no script, no network, pictures and style inside.

The page has the content of the Markdown report. Raw HTML in the Markdown stays text, since names of variants and
messages of failures come from whoever made the rows; a policy in the head forbids scripts and every outside address.
"""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from unept.utils.visible_text import visible_text

MIME = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MIN_CONTENTS_SECTIONS = 3  # sections that make a table of contents worth its room
MAX_BRIEF_CHARACTERS = 18  # characters of a first column that need no second line on a phone
PARAGRAPH_TOKENS = ["paragraph_open", "inline", "paragraph_close"]
STYLESHEET = """
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5b6068; --page: #fff; --line: #d9dce1; --stripe: #f6f7f9;
  --link: #0059a8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6ea; --quiet: #a2a8b1; --page: #16181c; --line: #383c44; --stripe: #1e2126; --link: #7fbaf5; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(.9rem, 3vw, 2.5rem) 4rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: clamp(1.3rem, 1rem + 1.6vw, 1.9rem); line-height: 1.25; margin: .6rem 0; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.2rem 0 .6rem; padding-top: .7rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.5rem 0 .4rem; }
p, ul, ol { margin: .6rem 0; max-width: 50rem; }
p:has(> img:only-child) { max-width: none; }
ul, ol { padding-left: 1.3rem; }
li { margin: .25rem 0; }
a { color: var(--link); }
nav { margin: 2.2rem 0 0; padding: .7rem 0 0; border-top: 1px solid var(--line); font-size: .9rem; }
nav p { margin: 0; color: var(--quiet); }
nav ul { list-style: none; margin: .2rem 0 0; padding: 0; max-width: none; columns: 17rem; column-gap: 2rem; }
nav li { margin: 0; padding: .22rem 0; break-inside: avoid; }
.table { overflow-x: auto; margin: .9rem 0; max-width: 100%; }
.table:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
th, td { padding: .36rem .75rem; text-align: left; vertical-align: top; background: var(--page);
  border-bottom: 1px solid var(--line); }
th { vertical-align: bottom; font-weight: 600; border-bottom-width: 2px; }
tbody tr:nth-child(even) > * { background: var(--stripe); }
.number { text-align: right; }
td.number { white-space: nowrap; }
.wide th:first-child, .wide td:first-child { position: sticky; left: 0; z-index: 1; border-right: 1px solid var(--line);
  max-width: min(42vw, 20rem); min-width: min(30vw, 8rem); }
.brief th:first-child, .brief td:first-child { white-space: nowrap; min-width: 0; }
.pair { display: flex; flex-wrap: wrap; align-items: center; column-gap: 1.5rem; }
.pair .table { min-width: 0; }
.pair p { flex: 1 1 20rem; max-width: 36rem; margin: 0; }
pre { background: var(--stripe); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .88em/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
img { display: block; max-width: 100%; height: auto; margin: .9rem 0; padding: .4rem; background: #fff;
  border-radius: 6px; }
@media (max-width: 40rem) {
  th, td { padding: .3rem .5rem; }
  table { font-size: .85rem; }
  img { padding: .1rem; }
  nav li { padding: .4rem 0; }
}
@media print { nav { display: none; } .table { overflow: visible; } }
"""


def html_page(markdown: str, images: Mapping[str, bytes], *, title: str) -> str:
    """Return a Markdown report as one HTML page. The same arguments give the same text.

    Args:
        markdown: The report.
        images: Bytes by the names that the Markdown uses, with suffixes of `MIME`. Where the Markdown shows `x.png`
            and `x.svg` is among them, the page has the latter. An image that is not among them leaves its
            description as text.
        title: Title of the page.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    headings = list(_name_headings(tokens))
    for token in tokens:
        token.children = token.children and [_embedded(child, images) for child in token.children]
        _align(token)
    body = parser.renderer.render(list(_arranged(tokens, headings)), parser.options, {})
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        f"<title>{html.escape(visible_text(title))}</title>\n<style>{STYLESHEET}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _name_headings(tokens: Sequence[Token]) -> Iterator[tuple[str, str, str]]:
    """Give each heading an id of its own; yields tag, id and words of each."""
    taken: set[str] = set()
    for token, inline in itertools.pairwise(tokens):
        if token.type != "heading_open":
            continue
        words = _words(inline.children or [])
        base = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "section"
        names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        token.attrSet("id", name)
        yield token.tag, name, words


def _words(children: Sequence[Token]) -> str:
    """Inline content without its marks."""
    return "".join(" " if child.type == "softbreak" else child.content for child in children)


def _embedded(token: Token, images: Mapping[str, bytes]) -> Token:
    """The token, and where it is a picture: with its bytes inside, or as words if there are none."""
    if token.type != "image":
        return token
    name = unquote(str(token.attrs["src"]))
    vector = str(PurePosixPath(name).with_suffix(".svg")) if PurePosixPath(name).name else name
    chosen = vector if vector in images else name
    if chosen not in images:
        return Token("text", "", 0, content=f"(no picture: {_words(token.children or []) or name})")
    data = base64.b64encode(images[chosen]).decode("ascii")
    token.attrs["src"] = f"data:{MIME[PurePosixPath(chosen).suffix.lower()]};base64,{data}"
    return token


def _align(token: Token) -> None:
    """Replace the style of a cell that is aligned right by a class."""
    if token.type in ("th_open", "td_open") and token.attrs.pop("style", "") == "text-align:right":
        token.attrSet("class", "number")


def _arranged(tokens: Sequence[Token], headings: Sequence[tuple[str, str, str]]) -> Iterator[Token]:
    """The tokens with a container around each table, and the contents in front of the second section.

    A table and a picture right after it share one more container, which puts them side by side where there is room.
    """
    contents = [(name, words) for tag, name, words in headings if tag == "h2"]
    heading, sections, pair_ends = "", 0, -1
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = _words(tokens[index + 1].children or [])
            sections += token.tag == "h2"
            if token.tag == "h2" and sections == 2 and len(contents) >= MIN_CONTENTS_SECTIONS:
                yield _raw(_contents(contents))
        if token.type == "table_open":
            end = next(later for later in range(index, len(tokens)) if tokens[later].type == "table_close")
            if _is_picture(tokens[end + 1 : end + 4]):
                pair_ends = end + 3
                yield _raw('<div class="pair">\n')
            label = html.escape(f"Table: {heading}" if heading else "Table")
            kind = _kind(tokens[index:end])
            yield _raw(f'<div class="table{kind}" role="region" aria-label="{label}" tabindex="0">\n')
        yield token
        if token.type == "table_close":
            yield _raw("</div>\n")
        if index == pair_ends:
            yield _raw("</div>\n")


def _is_picture(tokens: Sequence[Token]) -> bool:
    """Return True if these three tokens are a paragraph of one image."""
    children = tokens[1].children or [] if [token.type for token in tokens] == PARAGRAPH_TOKENS else []
    return [child.type for child in children] == ["image"]


def _kind(table: Sequence[Token]) -> str:
    """Classes of a table: one with numbers keeps its first column in sight, on one line where that takes no room."""
    if not any(token.attrs.get("class") == "number" for token in table):
        return ""
    firsts = [table[i + 2].content for i, token in enumerate(table[:-2]) if token.type == "tr_open"]
    return " wide brief" if max(map(len, firsts)) <= MAX_BRIEF_CHARACTERS else " wide"


def _contents(entries: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f'<li><a href="#{name}">{html.escape(words)}</a></li>\n' for name, words in entries)
    return f'<nav aria-label="Contents">\n<p>On this page</p>\n<ul>\n{lines}</ul>\n</nav>\n'


def _raw(text: str) -> Token:
    return Token("html_block", "", 0, content=text)
