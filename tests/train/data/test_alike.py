"""Images of different splits that look alike are counted, and others are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from fcnkit.train.data.alike import NEAR, matches
from fcnkit.train.data.check import check_folder

from .sets import Drawing, names_of, save_image
from .test_faults import copy_to_val, planted, texts


def frames(root: Path, change: Callable[[Image.Image], Image.Image]) -> None:
    """Make val's first three pictures frames of the scenes of train's."""
    for number in range(3):
        scene = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8)
        frame = Image.fromarray(scene).resize((32, 24), Image.Resampling.BICUBIC)
        save_image(root, f"train{number}", np.asarray(frame))
        save_image(root, f"val{number}", np.asarray(change(frame)))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: ImageEnhance.Brightness(frame).enhance(0.8),
        lambda frame: Image.fromarray(
            np.asarray(frame) ^ np.eye(24, 32, dtype=np.uint8)[..., None]
        ),
        lambda frame: frame.resize((16, 12)).resize((32, 24)),
        lambda frame: Image.fromarray(np.asarray(frame) // 16 * 16),
    ],
    ids=["darker", "noisy", "shrunk", "posterized"],
)
def test_frames_alike_in_two_splits_are_counted_in_a_note(
    change: Callable[[Image.Image], Image.Image], tmp_path: Path
) -> None:
    root = Drawing().write(tmp_path / "d")
    frames(root, change)
    report = check_folder(root)
    assert (report.ok, texts(report)) == (True, [])
    assert report.notes == (
        (
            "alike",
            f"{root}/ImageSets/Segmentation: pictures of train.txt and val.txt should not look "
            "alike, got 3 of 4 in val.txt that do (val0 like train0, val1 like train1, val2 "
            "like train2): at most 5 of the 64 bits of a hash differ; if they are frames of one "
            "scene, keep them on one list with fcnkit data split --force --group REGEX",
        ),
    )


def test_plain_images_and_copies_are_not_called_alike(tmp_path: Path) -> None:
    root = Drawing().write(tmp_path / "d")
    for number, name in enumerate([*names_of(root, "train"), *names_of(root, "val")]):
        plain = np.full((24, 32, 3), 90 + number, np.uint8)
        plain[number, number] = 255
        save_image(root, name, plain)
    assert check_folder(root).notes == ()
    root = planted(copy_to_val, tmp_path / "copies")
    assert [remark.kind for remark in check_folder(root).warnings] == ["copies"]
    assert check_folder(root).notes == ()


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
@settings(max_examples=30)
def test_alike_images_are_those_that_a_slow_count_of_bits_finds(
    seed: int, first: int, second: int, changes: int
) -> None:
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (first + second, 64), np.uint8)
    for row in range(first, first + min(second, first)):
        bits[row] = bits[row - first]
        flipped = random.choice(64, int(random.integers(0, changes + 1)), replace=False)
        bits[row, flipped] ^= 1
    looks = {f"{n}": np.packbits(row).tobytes() for n, row in enumerate(bits)}
    names = list(looks)
    known = {name: looks[name] for name in names[:first]}
    others = {name: looks[name] for name in names[first:]}
    found = {other: name for name, other in matches(known, {**others, "plain": b""})}
    for other in names[first:]:
        distances = [int((bits[int(other)] != bits[int(name)]).sum()) for name in known]
        nearest = min(distances, default=64)
        assert (other in found) == (nearest <= NEAR)
        if other in found:
            assert distances[int(found[other])] == nearest
