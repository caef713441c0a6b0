"""Where the names of a plot's marks stand."""

from __future__ import annotations

import math

from matplotlib.transforms import Bbox

from reports.plots import point_labels


def test_many_or_long_names_are_numbered() -> None:
    few = ("N=4", "N=16")
    assert point_labels.point_label_texts(few) == {name: name for name in few}
    assert point_labels.numbered_names(point_labels.point_label_texts(few)) == []
    many = tuple(f"v{i}" for i in range(11))
    assert list(point_labels.point_label_texts(many).values())[:2] == ["1", "2"]
    long = ("1", "a variant with quite a long name")
    assert point_labels.point_label_texts(long) == {"1": "1", long[1]: "2"}
    assert point_labels.numbered_names(point_labels.point_label_texts(long)) == ["1  1", f"2  {long[1]}"]


def test_a_name_goes_where_it_covers_nothing() -> None:
    frame = Bbox([[0, 0], [400, 300]])
    size, mark = (60.0, 12.0), (200.0, 150.0)
    taken = [point_labels.box_around(mark, 6, 6)]
    for _ in range(12):
        offset = point_labels.best_offset(size, mark, 1.0, frame, taken, [])
        name = point_labels.box_around((mark[0] + offset[0], mark[1] + offset[1]), 30, 6)
        assert not any(name.overlaps(other) for other in taken)
        assert (Bbox.intersection(name, frame).size == name.size).all()
        taken.append(name)


def test_a_name_stays_near_and_inside() -> None:
    frame = Bbox([[0, 0], [400, 300]])
    free = point_labels.best_offset((60, 12), (200, 150), 1.0, frame, [], [])
    assert free[0] > 30, "right of the mark, by more than half its own width"
    assert abs(free[1]) < 1
    assert free[0] < 60
    assert point_labels.best_offset((60, 12), (390, 150), 1.0, frame, [], [])[0] < 0
    busy = [Bbox([[200, 140], [300, 160]])]
    assert point_labels.best_offset((60, 12), (200, 150), 1.0, frame, [], busy)[0] < 0


def test_of_two_close_marks_each_has_its_own_name_beside_it() -> None:
    frame = Bbox([[0, 0], [400, 300]])
    marks = [(200.0, 150.0), (207.0, 151.0)]
    taken = [point_labels.box_around(mark, 6, 6) for mark in marks]
    for own, other in (marks, marks[::-1]):
        offset = point_labels.best_offset((12, 10), own, 1.0, frame, taken, [], [other])
        middle = (own[0] + offset[0], own[1] + offset[1])
        assert math.dist(middle, own) < math.dist(middle, other)
        taken.append(point_labels.box_around(middle, 6, 5))
