"""The contact sheet shows the samples, their labels and their boundaries."""

import numpy as np
import pytest
from PIL import Image

from unept.data.contact_sheet import GAP, WHEEL, contact_sheet, main
from unept.data.sample import Sample
from unept.data.scenes import PALETTE, SceneConfig, Scenes


def test_what_stands_where():
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    samples = [Sample(image=image, label=label, name="a"), Sample(image=255 - image, label=1 - label, name="b")]
    sheet = contact_sheet(samples * 2, ((1, 2, 3), (4, 5, 6)), columns=3, zoom=1)
    assert sheet.shape == (2 * 120 + GAP, 3 * 40 + 2 * GAP, 3)
    np.testing.assert_array_equal(sheet[:40, :40], image)
    np.testing.assert_array_equal(sheet[:40, 42:82], 255 - image)
    np.testing.assert_array_equal(sheet[40, [0, 39]], [[1, 2, 3], [4, 5, 6]])
    truth = sheet[80:120, :40]
    assert not truth[:, :15].any()
    assert not truth[:, 25:].any()
    # Inward is away from the boundary: left (0) in the left half, right (4) in the right one.
    np.testing.assert_array_equal(truth[20, [16, 23]], [WHEEL[0], WHEEL[4]])


def test_zoom_repeats_pixels():
    sample = Scenes(SceneConfig(), "val")[0]
    sheet = contact_sheet([sample], PALETTE, zoom=3)
    assert sheet.shape == (3 * 3 * 64, 3 * 64, 3)
    np.testing.assert_array_equal(sheet[1:192:3, 2:192:3], sample.image)


@pytest.mark.parametrize(("name", "options"), [("scenes", ["--data", "scenes:v1"]), ("scenes-v2", ["--count", "8"])])
def test_the_committed_pictures_are_what_the_commands_make(name, options, tmp_path, request):
    main([str(tmp_path / "scenes.png"), *options])
    committed = request.config.rootpath / "docs" / "images" / f"{name}.png"
    with Image.open(committed) as kept, Image.open(tmp_path / "scenes.png") as made:
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(made))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.png", "--data", "scene"], "did you mean scenes"),
        (["x.png", "--split", "all"], "split 'all'"),
        (["no/where/x.png"], "cannot write the picture"),
        (["x.unknown"], "cannot write the picture"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
