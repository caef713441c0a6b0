"""The two classifiers behind the figures of docs/data.md: one cannot see the cue, the other is told it."""

import pytest
import torch

from experiments.scene_sanity_check import LocalNet, SceneScore, cue_plane, main, results_table, train_and_score
from unept.data.scenes import SceneConfig


def test_the_receptive_field_is_what_it_says_and_less_than_the_cue_distance():
    """By gradients: the farthest input pixel that moves any score of a pixel."""
    torch.manual_seed(0)
    net = LocalNet(3).eval()
    image = torch.randn(1, 3, 96, 96, requires_grad=True)
    reach = 0
    for row, column in ((48, 48), (49, 49), (48, 49)):
        (gradient,) = torch.autograd.grad(net(image)[0, :, row, column].sum(), image)
        _, _, rows, columns = gradient.nonzero().T
        reach = max(reach, int((rows - row).abs().max()), int((columns - column).abs().max()))
    assert reach <= LocalNet.receptive_field // 2 + 1
    assert reach < SceneConfig().scene_cue_distance


def test_cue_plane_tells_the_pair_and_nothing_else():
    label = torch.zeros(4, 6, 6, dtype=torch.int64)
    label[0, 2, 2], label[1, 2, 2], label[2, 0, 0] = 2, 5, 7
    label[1, 3, 3] = 3
    plane = cue_plane(label)
    assert plane.shape == (4, 1, 6, 6)
    assert [plane[i].unique().tolist() for i in range(4)] == [[-1], [1], [0], [0]]


def test_a_run_is_scored_and_reproducible():
    scenes = SceneConfig(scene_val=4)
    first, again = (train_and_score(scenes, told=True, seed=1, steps=2) for _ in range(2))
    assert first == again
    assert first.told
    assert 0 <= first.pairs_iou <= first.pairs_accuracy <= 1
    assert 0 < first.miou < 0.5


def test_a_net_that_could_see_the_emblem_is_refused():
    with pytest.raises(AssertionError, match="would be seen"):
        train_and_score(SceneConfig(scene_cue_distance=12), told=False, seed=0, steps=1)


@pytest.mark.slow
def test_told_beats_guessing():
    blind, told = (train_and_score(SceneConfig(), told=told, seed=0, steps=300) for told in (False, True))
    assert blind.pairs_iou < 0.35
    assert told.pairs_iou > 0.6


def test_table():
    rows = [
        SceneScore(told=t, seed=s, miou=0.5 + t / 5, pairs_iou=0.2, pairs_accuracy=0.1 * s)
        for t in (0, 1)
        for s in (0, 1)
    ]
    text = results_table(rows)
    assert "| neighbourhood only | 2 | 50.0 (50.0 to 50.0) | 20.0 (20.0 to 20.0) | 5.0 (0.0 to 10.0) |" in text
    assert "| neighbourhood and cue | 2 | 70.0" in text


def test_command_prints_runs_and_table(capsys, monkeypatch):
    import experiments.scene_sanity_check as module

    monkeypatch.setattr(
        module,
        "train_and_score",
        lambda _, **k: SceneScore(told=k["told"], seed=k["seed"], miou=0, pairs_iou=0, pairs_accuracy=0),
    )
    main(["--seeds", "2", "--steps", "3"])
    assert capsys.readouterr().out.count('"seed"') == 4
