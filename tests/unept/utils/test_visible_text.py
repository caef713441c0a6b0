"""What steers a terminal, or cannot be written at all, is spelled out."""

from __future__ import annotations

import errno
import io
import os

import pytest

from unept.utils.visible_text import VisibleStream, raw_stream, visible_text

SPELLED = {
    "\x1b[31mred": r"\x1b[31mred",
    "a\rb\x07\x00\x7f": r"a\x0db\x07\x00\x7f",
    "\x9b31m": r"\x9b31m",
    "\u202egnp.exe\u2066": r"\u202egnp.exe\u2066",
    "caf\udce9.png": r"caf\xe9.png",  # a file's name that is not UTF-8
    "\ud800": r"\ud800",
    "\U000e0041": r"\U000e0041",
    "one\ntwo\tthree": "one\ntwo\tthree",
    "Grüße 日本 نام\u200cها 👩\u200d🔬 \\x1b": "Grüße 日本 نام\u200cها 👩\u200d🔬 \\x1b",
}


@pytest.mark.parametrize("text", SPELLED)
def test_spelling(text: str) -> None:
    shown = visible_text(text)
    assert shown == SPELLED[text]
    assert visible_text(shown) == shown
    shown.encode()


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"\xe9 \u65e5 \x1b"), ("latin-1", "é \\u65e5 \\x1b")])
def test_a_stream_shows_what_its_encoding_lacks_by_number(encoding: str, shown: str) -> None:
    file = io.BytesIO()
    stream = VisibleStream(io.TextIOWrapper(file, encoding=encoding))
    print("é 日 \x1b", file=stream, flush=True)
    assert file.getvalue() == f"{shown}\n".encode(encoding)


def test_a_pipe_whose_reader_has_gone_is_noted_and_the_rest_is_dropped() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as file:
        stream = VisibleStream(file)
        stream.probe()
        assert stream.error is None, "nothing was written"
        print("one", file=stream, flush=True)
        assert stream.error is not None
        assert stream.error.errno == errno.EPIPE
        print("two", file=stream, flush=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_device_is_known_before_anything_is_written() -> None:
    with open("/dev/full", "w", encoding="utf-8") as file:
        stream = VisibleStream(file)
        stream.probe()
        assert stream.error is not None
        assert stream.error.errno == errno.ENOSPC


def test_a_stream_that_was_closed_before_takes_everything() -> None:
    print("x", file=VisibleStream(None), flush=True)


def test_a_display_writes_below() -> None:
    plain = io.StringIO()
    assert raw_stream(VisibleStream(plain)) is plain
    assert raw_stream(plain) is plain
