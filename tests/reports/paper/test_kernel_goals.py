"""The goals held against rows that are made up."""

from __future__ import annotations

from typing import Any

import pytest

from reports.paper.kernel_goals import ENCODER_SHAPES, KernelGoal, judge_goals, kernel_goals

SHAPES = ("small", "deit-encoder", "deit-encoder-2", "r50-decoder", "r50-encoder")


def rows_of(goal: KernelGoal, values: dict[str, float], spread: float = 0.0) -> list[dict[str, Any]]:
    names = ("part", "malloc", "side", "phase", "quantity")
    return [
        {name: getattr(goal, name) for name in names}
        | {"shape": shape, "value": value, "q1": value - spread, "q3": value + spread}
        for shape, value in values.items()
    ]


def speed(**more: Any) -> KernelGoal:
    facts = {"title": "t", "part": "operator", "malloc": "tuned", "side": "mmcv", "phase": "forward"}
    return KernelGoal(**facts, **{"floor": 13, "goal": 15, **more})


def test_the_worst_shape_counts() -> None:
    goal = speed()
    (judged,) = judge_goals(rows_of(goal, {"small": 14.0, "r50-encoder": 30.0}), [goal])
    assert judged.row is not None
    assert judged.row["shape"] == "small"
    assert judged.against(goal.floor) == "reached"
    assert judged.against(goal.goal) == "missed by 7 %"


def test_the_worst_of_a_time_over_a_floor_is_the_largest() -> None:
    goal = speed(more=False, floor=1.6, goal=1.4, shapes=ENCODER_SHAPES)
    (judged,) = judge_goals(rows_of(goal, {"small": 9.0, "deit-encoder": 1.5, "r50-encoder": 1.2}), [goal])
    assert judged.row is not None
    assert judged.row["shape"] == "deit-encoder"
    assert (judged.against(1.6), judged.against(1.4), judged.against(1.5)) == ("reached", "missed by 7 %", "reached")


def test_quartiles_on_both_sides_decide_nothing() -> None:
    goal = speed()
    (judged,) = judge_goals(rows_of(goal, {"small": 14.0}, spread=2.0), [goal])
    assert judged.against(13) == "reached, undecided: quartiles on both sides"
    assert judged.against(15) == "missed by 7 %, undecided: quartiles on both sides"
    assert judged.against(10) == "reached"


def test_rows_of_another_kind_do_not_count() -> None:
    goal = speed()
    others = [
        row | change
        for row in rows_of(goal, {"small": 1.0})
        for change in ({"malloc": "default"}, {"phase": "held"}, {"side": "reference"}, {"quantity": "seconds"})
    ]
    (judged,) = judge_goals(others, [goal])
    assert judged.row is None
    assert judged.against(13) == ""
    assert judged.against(None) == ""


def test_the_most_that_it_could_be_is_that_of_the_worst_shape() -> None:
    goal = speed()
    found = rows_of(goal, {"small": 14.0, "r50-encoder": 30.0})
    most = [row | {"quantity": "ratio_at_most", "value": 2 * row["value"]} for row in found]
    (judged,) = judge_goals([*found, *most], [goal])
    assert judged.row is not None
    assert judged.most is not None
    assert (judged.row["value"], judged.most["value"], judged.most["shape"]) == (14.0, 28.0, "small")
    others = [row | {"phase": "forward+backward"} for row in most]
    assert judge_goals([*found, *others], [goal])[0].most is None


@pytest.mark.parametrize("goal", kernel_goals(), ids=lambda goal: goal.title)
def test_a_goal_is_no_easier_than_its_floor(goal: KernelGoal) -> None:
    if goal.floor is not None:
        assert goal.goal >= goal.floor if goal.more else goal.goal <= goal.floor
    values = dict.fromkeys(goal.shapes or SHAPES, goal.goal)
    (judged,) = judge_goals(rows_of(goal, values), [goal])
    assert judged.against(goal.goal) == "reached"


def test_titles_tell_goals_apart() -> None:
    titles = [goal.title for goal in kernel_goals()]
    assert len(set(titles)) == len(titles) == 16
