"""What a checkpoint says of any picture: the heads' maps are those of the model, whatever the picture's size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoint
import torch
from PIL import Image
from torch.nn import functional as F

from bench.evaluation.image_paths import image_paths
from bench.evaluation.options import PredictRequest, ProtocolOverrides
from bench.evaluation.predict import direction_colours, load_predictors, predict_image
from unept.boundary import OFFSETS
from unept.inference import prepare

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    tiny_checkpoint.write(path, facts={"step": 1})
    return path


@pytest.mark.parametrize("head", ["binary", "two_class"])
def test_the_maps_are_those_of_the_heads(tmp_path: Path, head: str) -> None:
    path = tmp_path / "m.safetensors"
    tiny_checkpoint.write(path, boundary_head=head, refine_test=False)
    (one,) = load_predictors(
        PredictRequest(checkpoints=(path,), overrides=ProtocolOverrides(mode="whole"), device="cpu")
    )
    found = one(PICTURE)
    with torch.no_grad():
        output = one.model(prepare(torch.from_numpy(PICTURE).permute(2, 0, 1), (64, 64))[None])
        boundary, direction = (
            F.interpolate(maps, size=(64, 64), mode="bilinear", align_corners=True)[0]
            for maps in (output.boundary, output.direction)
        )
    expected = boundary.sigmoid()[0] if head == "binary" else boundary.softmax(0)[1]
    assert found.boundary is not None
    assert found.direction is not None
    assert np.abs(found.boundary - expected.numpy()).max() < 1e-5
    assert (found.direction == direction.argmax(0).numpy()).mean() > 0.999
    assert len(np.unique(found.direction)) > 2
    assert (found.plain == output.logits[0].argmax(0).numpy()).all()
    assert found.refined is not None, "a model with heads refines, whatever it did in training"
    assert found.best is found.refined
    assert (found.refined == output.refined[0].argmax(0).numpy()).mean() > 0.999


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (3, 2), (150, 90)])
@pytest.mark.parametrize("mode", ["slide", "whole"])
def test_pictures_smaller_and_larger_than_the_crop(checkpoint: Path, size: tuple[int, int], mode: str) -> None:
    (one,) = load_predictors(
        PredictRequest(checkpoints=(checkpoint,), overrides=ProtocolOverrides(mode=mode), device="cpu")
    )  # type: ignore[arg-type]
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    for made in one(image):
        assert made is not None
        assert made.shape == size
    assert one.protocol.base is None


def test_a_model_without_heads(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tiny_checkpoint.write(path, architecture="ccnet")
    (one,) = load_predictors(PredictRequest(checkpoints=(path,), device="cpu"))
    found = one(PICTURE)
    assert (found.refined, found.boundary, found.direction) == (None, None, None)
    assert found.best is found.plain


def test_checkpoints_side_by_side_have_as_many_classes(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    tiny_checkpoint.write(other, classes=3)
    with pytest.raises(ValueError, match="checkpoints of 3 and 7 classes"):
        load_predictors(PredictRequest(checkpoints=(checkpoint, other)))


def test_names_of_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png", "deep/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    out = tmp_path / "results"
    out.mkdir()
    (out / "a-mask.png").write_bytes(b"")  # of another time
    assert [*image_paths(tmp_path, out)] == ["a.jpg", "a.png", "b", "deep/a"]
    assert [*image_paths(tmp_path / "b.png", tmp_path)] == ["b"]
    with pytest.raises(ValueError, match="no such picture or folder"):
        image_paths(tmp_path / "nothing", out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no pictures in it"):
        image_paths(tmp_path / "empty", out)
    with pytest.raises(ValueError, match="the pictures lie there, and results would be among them"):
        image_paths(tmp_path, tmp_path)


def test_want_of_memory_is_the_pictures_and_other_faults_are_not(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    made = load_predictors(PredictRequest(checkpoints=(checkpoint,), device="cpu"))
    photo, found = predict_image(tmp_path / "a.png", made)
    assert (photo.image == PICTURE).all()
    assert [*found] == ["model"]
    for error, expected in (
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), ValueError),
        (MemoryError(), ValueError),
        (RuntimeError("size mismatch"), RuntimeError),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(made[0].protocol.__class__, "predict_labels", fail)
        with pytest.raises(expected, match=r"memory|size mismatch"):
            predict_image(tmp_path / "a.png", made)


def test_the_wheel_has_every_direction_once() -> None:
    assert [(down, right) for down, right, _ in direction_colours()] == [*OFFSETS]
    assert len({colour for _, _, colour in direction_colours()}) == 8
