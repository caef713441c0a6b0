"""What all plots share."""

from __future__ import annotations

import os

import matplotlib

from reports.plots.style import RC_PARAMS, figure_files, new_figure, write_caption


def test_a_caption_may_name_any_folder() -> None:
    """A name that is not UTF-8, one that steers a terminal, and one that looks like a formula."""
    with matplotlib.rc_context(RC_PARAMS):
        figure = new_figure(2)
        write_caption(figure, f"measured: folder:{os.fsdecode(b'caf' + bytes([0xE9]))} \x1b[31m $x^$")
        assert figure.get_supxlabel() == "measured: folder:caf\\xe9 \\x1b[31m $x^$"
        assert figure_files(figure)["png"].startswith(b"\x89PNG")
