"""What all plots share."""

from __future__ import annotations

import os
import time

import matplotlib

from reports.plots.style import RC_PARAMS, figure_files, jitter, new_figure, write_caption


def test_a_caption_may_name_any_folder() -> None:
    """A name that is not UTF-8, one that steers a terminal, and one that looks like a formula."""
    with matplotlib.rc_context(RC_PARAMS):
        figure = new_figure(2)
        write_caption(figure, f"measured: folder:{os.fsdecode(b'caf' + bytes([0xE9]))} \x1b[31m $x^$")
        assert figure.get_supxlabel() == "measured: folder:caf\\xe9 \\x1b[31m $x^$"
        assert figure_files(figure)["png"].startswith(b"\x89PNG")


def test_many_dots_are_kept_apart_soon() -> None:
    began = time.process_time()
    places = [jitter(rank, 20_000) for rank in range(20_000)]
    assert time.process_time() - began < 10
    assert len(set(places)) == 20_000
    assert (min(places), max(places)) == (-1, 1)
