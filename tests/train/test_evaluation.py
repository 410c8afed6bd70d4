from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import fcnkit
from fcnkit.errors import DataError
from fcnkit.runtime.pixels.calibration import Calibration
from fcnkit.runtime.predict.segmenter import Segmenter
from fcnkit.train.data.shapes import write_shapes
from fcnkit.train.data.voc import VocFolder, open_voc, read_pair
from fcnkit.train.evaluation import Measure, Protocol, evaluate, measure

CHAPTER = Protocol.of_the_chapter(crop=(96, 96))


@pytest.fixture(scope="module")
def val(shapes_folder: Path) -> VocFolder:
    return open_voc(shapes_folder, split="val")


def counted(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], classes: int) -> list[object]:
    """Count the pairs of labels one by one."""
    matrix = np.zeros((classes, classes), int)
    for target, predicted in pairs:
        for t, p in zip(target.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if t != 255:
                matrix[t, p] += 1
    return matrix.tolist()


@pytest.mark.parametrize("protocol", [Protocol(), CHAPTER], ids=["full", "d2l"])
def test_counts_every_pixel_of_the_protocol(
    protocol: Protocol, val: VocFolder, run_folder: Path
) -> None:
    with fcnkit.load(run_folder / "best.pt", cover="pad") as segmenter:
        result = measure(segmenter, val, protocol=protocol)
        pairs = []
        for sample in protocol.samples(val):
            image_hwc, target_hw = protocol.read(sample, val)
            pairs.append((target_hw, segmenter(image_hwc)))
    assert result.confusion.tolist() == counted(pairs, len(val.classes))
    assert len(result.pictures) == len(pairs) == 4
    target, predicted = pairs[2]
    known = target != 255
    share = (target == predicted)[known].mean()
    assert result.pictures[2].pixel_accuracy == pytest.approx(share)


def test_evaluate_is_the_default_measure(val: VocFolder, run_folder: Path) -> None:
    with fcnkit.load(run_folder / "best.pt") as segmenter:
        assert evaluate(segmenter, val) == measure(segmenter, val).scores


def test_calibration_error_is_measured_and_changes_no_score(
    val: VocFolder, run_folder: Path
) -> None:
    with fcnkit.load(run_folder / "best.pt") as segmenter:
        plain, measured = measure(segmenter, val), measure(segmenter, val, calibration=True)
        expected = Calibration()
        for sample in val.samples:
            image_hwc, target_hw = read_pair(sample, val.labelmap)
            made = segmenter(image_hwc, confidence=True)
            assert made.confidence is not None
            expected.add(target_hw, made.labels, made.confidence)
    assert plain.calibration_error is None
    assert np.array_equal(plain.confusion, measured.confusion)
    assert measured.calibration_error == expected.error()


def test_checkpoint_and_onnx_measure_alike(
    val: VocFolder, run_folder: Path, exported: dict[str, Path]
) -> None:
    def scored(model: Path) -> Measure:
        with fcnkit.load(model, cover="pad") as segmenter:
            assert isinstance(segmenter, Segmenter)
            return measure(segmenter, val, protocol=CHAPTER)

    results = [scored(path) for path in (run_folder / "best.pt", exported["labels"])]
    moved = np.abs(results[0].confusion - results[1].confusion).sum()
    assert moved <= 1e-3 * results[0].confusion.sum()  # ties fall otherwise


def test_chapter_windows_are_seeded_and_have_no_void(val: VocFolder) -> None:
    sample = val.samples[1]
    image_hwc, labels_hw = CHAPTER.read(sample, val)
    assert (image_hwc.shape, labels_hw.shape) == ((96, 96, 3), (96, 96))
    assert 255 in read_pair(sample, val.labelmap)[1]
    assert 255 not in labels_hw
    assert np.array_equal(CHAPTER.read(sample, val)[0], image_hwc)
    others = [Protocol.of_the_chapter(crop=(96, 96), seed=seed) for seed in range(1, 5)]
    assert not all(np.array_equal(other.read(sample, val)[0], image_hwc) for other in others)
    assert Protocol.of_the_chapter().crop == (320, 480)


def test_chapter_leaves_smaller_pictures_out(tmp_path: Path) -> None:
    write_shapes(tmp_path / "data", train=1, val=2, seed=1)
    folder = open_voc(tmp_path / "data", split="val")
    with pytest.raises(DataError) as caught:
        Protocol.of_the_chapter().samples(folder)
    assert str(caught.value) == (
        f"{tmp_path}/data: some picture must be at least 320x480, got 2 smaller ones; "
        "measure full pictures"
    )
