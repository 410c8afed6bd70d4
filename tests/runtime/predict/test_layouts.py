"""One meaning per file: read whole, read row by row, and by an independent reader."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fcnkit.errors import DataError, PictureWarning
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.rows import open_rows
from fcnkit.runtime.predict.tiff import tags_of
from tests.refusal import refusal
from tests.runtime.predict.layout_files import Case, chunk, layouts, png, values

pytest.importorskip("pyvips")

_NO_STREAM = re.compile(
    "must be PPM or PGM of kind P5 or P6, PNG, JPEG or TIFF, got a|must not have planes in tiles"
)
Read = Callable[[Path, tuple[int, int] | None], NDArray[np.uint8]]


def whole(path: Path, range: tuple[int, int] | None) -> NDArray[np.uint8]:
    return read_picture(path, range=range)


def streamed(path: Path, range: tuple[int, int] | None) -> NDArray[np.uint8]:
    rows = open_rows(path, range=range)
    counts = [min(6, rows.height - top) for top in np.arange(0, rows.height, 6).tolist()]
    return np.concatenate([rows.read(count).copy() for count in counts])


def outcome(read: Read, path: Path, case: Case) -> NDArray[np.uint8] | str:
    """The pixels, or the text of the refusal; anything else that is raised is a crash."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PictureWarning)  # of 12 bits and the like: other tests
        try:
            return read(path, case.range)
        except DataError as error:
            return str(error)


def independent(case: Case) -> NDArray[np.generic] | None:
    """The stored samples as tifffile or imagecodecs finds them, (H, W, samples)."""
    if case.raw is None:
        return None
    if case.suffix == "png":
        found = np.asarray(imagecodecs.png_decode(case.content))
        return found if found.ndim == 3 else found[..., None]
    with tifffile.TiffFile(io.BytesIO(case.content)) as file:
        page = file.pages[0]
        found = page.asarray()
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            found = np.moveaxis(found, 0, -1)
    return found.reshape(case.raw.shape).astype(case.raw.dtype)


def fault_of(case: Case, path: Path) -> str | None:
    """Say what is wrong with how a file is read, None if nothing is."""
    one, other = outcome(whole, path, case), outcome(streamed, path, case)
    if case.expected is None:
        if not isinstance(one, str) or one != other:
            return f"whole {one!r:.200}, streamed {other!r:.200}"
        return None if ", got a TIFF of " in one else one
    if isinstance(one, str):
        return f"whole: {one}"
    if not case.streams:
        told = isinstance(other, str) and _NO_STREAM.search(other) is not None
        return None if told and np.abs(one - case.expected).max() <= case.off else f"{other!r:.99}"
    if isinstance(other, str):
        return f"streamed: {other}"
    far = (np.abs(one - case.expected).max(), np.abs(other - case.expected).max())
    between = np.abs(one.astype(int) - other).max()
    if max(far) > case.off or between > case.apart:
        return f"off by {far[0]} whole and {far[1]} streamed, {between} apart"
    return None


def test_every_layout_means_one_thing(tmp_path: Path) -> None:
    cases = layouts()
    faults: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for case in cases:
        path = tmp_path / f"a.{case.suffix}"
        path.write_bytes(case.content)
        fault = fault_of(case, path)
        if fault is not None:
            faults[case.name] = fault
        found = independent(case)
        if found is not None and case.raw is not None:
            few = case.suffix == "png" and case.raw.max() < 16  # imagecodecs scales these
            assert few or np.array_equal(found, case.raw), case.name
        kinds[f"{case.suffix} {'refused' if case.expected is None else 'read'}"] += 1
    print(f"{len(cases)} layouts: {dict(kinds)}, {len(faults)} different")
    assert faults == {}
    assert len(cases) >= 300


def infrared(path: Path) -> Path:
    """An RGB TIFF whose fourth sample is infrared."""
    raw = np.random.default_rng(3).integers(0, 256, (64, 96, 4), np.uint8)
    tifffile.imwrite(path, raw, photometric="rgb", extrasamples=["unspecified"])
    return path


def test_infrared_is_no_transparency(tmp_path: Path) -> None:
    path = infrared(tmp_path / "a.tif")
    expected = tifffile.imread(path)[..., :3]
    assert np.array_equal(whole(path, None), expected)
    assert np.array_equal(streamed(path, None), expected)


def test_the_refusal_names_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    bands = np.zeros((9, 9, 4), np.uint16)
    tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="contig")
    text = (
        f"{path}: a gray TIFF must have one sample, or a second one that is named and beside it, "
        "got a TIFF of 4 gray samples of 16 bits, extra: unspecified and unspecified and "
        "unspecified; convert it to RGB of 8 bits"
    )
    for read in (whole, streamed):
        with refusal(DataError, text):
            read(path, None)


def test_a_png_turned_behind_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    raw = values(8, 3)
    path = tmp_path / "a.png"
    path.write_bytes(png(raw, 8, 2, behind=chunk(b"eXIf", data)))
    assert np.array_equal(whole(path, None), np.rot90(raw, -1))
    text = (
        f"{path}: a picture read row by row must be stored upright, got orientation 6; "
        "rotate it first, with vips autorot"
    )
    with refusal(DataError, text):
        streamed(path, None)


def test_geotiff_tags_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    raw = values(8, 3)
    tags = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (42113, 2, 4, "-99", True)]
    tifffile.imwrite(path, raw, photometric="rgb", extratags=tags)
    assert np.array_equal(whole(path, None), raw)
    assert np.array_equal(streamed(path, None), raw)


def test_reading_tags_leaves_other_warnings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may warn of its image meanwhile, and filters belong to the process."""
    path = tmp_path / "a.tif"
    Image.new("L", (4, 3)).save(path)
    load = TiffImagePlugin.ImageFileDirectory_v2.load

    def load_beside_a_warning(tags: Any, file: Any) -> None:
        warnings.warn("of another image", PictureWarning, stacklevel=1)
        load(tags, file)

    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", load_beside_a_warning)
    with pytest.warns(PictureWarning, match="of another image"):
        tags = tags_of(path)
    assert tags is not None
    assert (tags[256], tags[257]) == (4, 3)


def test_tags_that_are_cut_short_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("L", (4, 3)).save(path)
    content = path.read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) - 20])
    assert tags_of(tmp_path / "cut.tif") is None
