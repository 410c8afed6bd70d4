"""``benchmarks.host`` and ``benchmarks.large_peers``: what they run and what their tables say."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import host, large_peers
from fcnkit.runtime.bench.stages import example_picture
from fcnkit.runtime.pixels import _kernels
from tests.conftest import ROOT


def ran(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_data(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """Write images and masks in VOC layout."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for number, (height, width) in enumerate(sizes):
        example_picture(height, width).save(folder / "JPEGImages" / f"{number}.jpg")
        labels = np.random.default_rng(number).integers(0, 5, (height, width), np.uint8)
        labels[labels == 4] = 255
        mask = Image.fromarray(labels)
        mask.putpalette(bytes(range(256)) * 3)
        mask.save(folder / "SegmentationClass" / f"{number}.png")
    names = "".join(f"{number}\n" for number in range(len(sizes)))
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text(names)
    return folder


def test_images_have_one_size(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", [(40, 50), (40, 51)])
    with pytest.raises(SystemExit) as caught:
        host.inputs_of(data, None)
    assert caught.value.code == f"{data}: the images must have one size, got 2"


def test_every_way_around_a_model_writes_the_same_labels(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", [(40, 50)] * 6)
    old = tmp_path / "old"  # another place with the same package
    package = old / "fcnkit"
    shutil.copytree(ROOT / "src" / "fcnkit", package)
    for part in ("runtime", "train", "export"):
        shutil.copytree(ROOT / part, package / part)
    shutil.copy2(_kernels.__file__, package / "runtime" / "pixels")
    result = tmp_path / "host.json"
    said = ran(
        "-m", "benchmarks.host", data, "--limit", 4, "--rounds", 2, "--old", old,
        "--folder", tmp_path, "--json", result,
    )  # fmt: skip
    found = json.loads(result.read_text())
    assert list(found["rows"]) == ["fast", "plain", "old"]
    for held in found["rows"].values():
        assert set(held) == {*host.STEPS, "steps", "rate 1", "busy_ms 1", "rate 2", "busy_ms 2"}
        assert all(len(values) == 2 and min(values) > 0 for values in held.values())
        assert held["steps"] == pytest.approx(
            [sum(held[step][number] for step in host.STEPS) for number in range(2)]
        )
    assert host.show(found) in said


def test_the_table_compares_with_the_last_way() -> None:
    def held(factor: float) -> dict[str, list[float]]:
        steps = dict.fromkeys(host.STEPS, [factor] * 3)
        rates = {"rate 1": [500 / factor] * 3, "rate 2": [800 / factor] * 3}
        return {**steps, "steps": [4 * factor] * 3, **rates, "busy_ms 1": [3.0] * 3,
                "busy_ms 2": [2.0] * 3}  # fmt: skip

    text = host.show({"cores": 2, "rows": {"fast": held(1.0), "old": held(2.0)}})
    _, _, fast, old = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
    assert fast[1:8] == ["fast", "1.000", "1.000", "1.000", "1.000", "4.000", "2.00x"]
    # 500 images/s of 3 ms each are 1.5 of 2 cores.
    assert fast[8:16] == ["500.0", "2.00", "3.00", "75 %", "800.0", "2.00", "2.00", "80 %"]
    assert old[6:8] == ["8.000", "1.00x"]
    assert old[8:10] == ["250.0", "1.00"]


@given(side=st.integers(1, 3000), tile=st.integers(2, 600), share=st.floats(0, 0.9))
def test_slices_cover_an_image(side: int, tile: int, share: float) -> None:
    overlap = int(share * tile)
    begins = large_peers.slices(side, tile, overlap)
    covered = set[int]()
    for begin in begins:
        assert 0 <= begin <= max(0, side - tile)
        covered |= set(range(begin, min(side, begin + tile)))
    assert covered == set(range(side))
    assert all(b - a <= tile - overlap for a, b in itertools.pairwise(begins))
    # No more tiles than needed.
    assert len(begins) == (1 if side <= tile else 1 + -(-(side - tile) // (tile - overlap)))


def test_a_large_image_beside_others(run_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="MONAI is not installed")
    pytest.importorskip("pyvips", reason="pyvips is not installed")
    result = tmp_path / "large.json"
    said = ran(
        "-m", "benchmarks.large_peers", run_folder / "best.pt", tmp_path / "work", "--side", 224,
        "--tile", 128, "--overlap", 32, "--threads", 1, "--json", result,
    )  # fmt: skip
    found = json.loads(result.read_text())
    assert large_peers.show(found) in said
    assert tuple(found["rows"]) == large_peers.WAYS
    for way, row in found["rows"].items():
        assert "error" not in row, (way, row)
        assert row["seconds"][0] > 0
        assert row["peak_mb"][0] > 0
    same = {way: row["same_labels"] for way, row in found["rows"].items()}
    assert same["fcnkit"] == 1
    # Two tiles a side lie in one way only, so that all who average agree.
    assert min(same["monai over onnxruntime"], same["monai over torch"]) > 0.999
    assert min(same.values()) > 0.3


def test_a_way_that_fails_is_a_line_with_its_reason() -> None:
    rows = {
        "fcnkit": {"seconds": [2.0], "peak_mb": [100.0], "same_labels": 1.0},
        "whole": {"seconds": [], "peak_mb": [], "error": "MemoryError"},
        "slices": {"seconds": [3.0], "peak_mb": [250.0], "same_labels": 0.99},
    }
    lines = large_peers.show({"rows": rows}).splitlines()[2:]
    assert lines == [
        "| fcnkit | 2.0 | 1.00 | 100 | 1.00 | 100.000 % |",
        "| whole | failed |  |  |  | MemoryError |",
        "| slices | 3.0 | 1.50 | 250 | 2.50 | 99.000 % |",
    ]
