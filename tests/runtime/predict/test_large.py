"""Pictures in row bands: streamed equals whole, and neither picture nor result is held."""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import DataError
from fcnkit.runtime import Segmenter, load
from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.folder import SUFFIX_OF, Format, find_jobs, predict_files
from fcnkit.runtime.predict.outputs import FORMATS, OutputRequest, open_output, read_size
from fcnkit.runtime.predict.overlays import OverlayStyle
from fcnkit.runtime.predict.pictures import read_picture
from fcnkit.runtime.predict.rows import open_rows
from tests.conftest import SHARED
from tests.refusal import refusal
from tests.runtime.models import make_spec, write_model
from tests.runtime.pictures import noise as picture
from tests.runtime.pictures import read


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "m.onnx", make_spec("logits"))


@pytest.fixture(scope="module")
def tiled(model: Path) -> Iterator[Segmenter]:
    with load(model, tile=(32, 64), overlap=12, threads=1) as segmenter:
        yield segmenter


def predict(segmenter: Segmenter, path: Path, out: Path, **options: Any) -> list[Any]:
    suffix = SUFFIX_OF[options.get("format", "labels")]
    jobs = find_jobs([path], out, suffix=suffix)
    return list(predict_files(segmenter, jobs, out, model_sha256="ab", **options))


SIDES = (1, 31, 32, 33, 44, 63, 64, 65, 97, 131)


@pytest.mark.parametrize("height", SIDES)
def test_streamed_equals_whole(tmp_path: Path, tiled: Segmenter, height: int) -> None:
    """A limit of one pixel sends every picture through in bands."""
    for width in SIDES:
        image = picture(height, width)
        Image.fromarray(image).save(tmp_path / "a.ppm")
        (record,) = predict(tiled, tmp_path / "a.ppm", tmp_path / "out", max_pixels=1, resume=False)
        assert (record.status, record.error, record.size) == ("done", None, (height, width))
        assert np.array_equal(read(tmp_path / "out" / "a.png"), tiled(image))


@pytest.mark.parametrize("format", ["labels", "color", "overlay", "npy", "confidence", "tif"])
def test_streamed_equals_whole_in_every_format(
    tmp_path: Path, tiled: Segmenter, format: Format
) -> None:
    Image.fromarray(picture(150, 170)).save(tmp_path / "a.ppm")
    written = []
    for name, limit in (("whole", 10**6), ("bands", 1)):
        options = {"format": format, "max_pixels": limit}
        (record,) = predict(tiled, tmp_path / "a.ppm", tmp_path / name, **options)
        assert record.status == "done"
        written.append(read(tmp_path / name / f"a{SUFFIX_OF[format]}"))
    assert np.array_equal(*written)


def test_tiles_of_any_shape_and_overlap(tmp_path: Path, model: Path) -> None:
    Image.fromarray(picture(140, 150)).save(tmp_path / "a.ppm")
    image = picture(140, 150)
    for tile, overlap in itertools.product([(32, 32), (96, 64), (128, 128)], [0, 5, 31]):
        with load(model, tile=tile, overlap=overlap, threads=1) as segmenter:
            out = tmp_path / f"{tile}{overlap}"
            (record,) = predict(segmenter, tmp_path / "a.ppm", out, max_pixels=1)
            assert record.status == "done"
            assert np.array_equal(read(out / "a.png"), segmenter(image))


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def as_rows(path: Path, count: int = 7) -> NDArray[np.uint8]:
    rows = open_rows(path)
    starts = range(0, rows.height, count)
    return np.concatenate([rows.read(min(count, rows.height - at)).copy() for at in starts])


KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("a.ppm", "RGB", {}),
    ("a.pgm", "L", {}),
    ("a.png", "RGB", {}),
    ("a.png", "RGBA", {}),
    ("a.png", "L", {}),
    ("a.png", "LA", {}),
    ("a.png", "P", {}),
    ("a.png", "1", {}),
    ("a.tif", "RGB", {}),
    ("a.tif", "RGB", {"compression": "tiff_lzw"}),
    ("a.tif", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("a.tif", "L", {}),
]


@pytest.mark.parametrize(("name", "mode", "options"), KINDS)
def test_rows_are_what_read_picture_reads(
    tmp_path: Path, name: str, mode: str, options: dict[str, Any]
) -> None:
    if not name.endswith("m"):
        pytest.importorskip("pyvips")
    image = Image.fromarray(picture(40, 50))
    if "A" in mode:
        alpha = Image.linear_gradient("L").resize(image.size)
        image = image.convert(mode)
        image.putalpha(alpha)
    path = save(tmp_path / name, image.convert(mode), **options)
    expected = read_picture(path).astype(int)
    difference = np.abs(as_rows(path) - expected)
    # Two libraries round a blend with white in two ways.
    assert difference.max() <= (1 if "A" in mode else 0)


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (20, 30), np.uint16)
    for name in ("a.pgm", "a.png", "a.tif"):
        if name != "a.pgm":
            pytest.importorskip("pyvips")
        path = save(tmp_path / name, Image.fromarray(values))
        expected = np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
        assert np.array_equal(as_rows(path), expected)
        assert np.array_equal(read_picture(path), expected)


def test_tiled_tiff(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    image = picture(300, 500)
    source = pyvips.Image.new_from_array(image)
    for options in ({"compression": "none"}, {"compression": "lzw"}, {"compression": "deflate"}):
        path = tmp_path / "a.tif"
        source.tiffsave(str(path), tile=True, tile_width=128, tile_height=64, **options)
        assert np.array_equal(as_rows(path, count=50), image)


@pytest.mark.parametrize("kind", ["P5", "P6"])
@pytest.mark.parametrize("most", [1, 15, 255, 256, 1000, 65535])
def test_plain_values_are_scaled_as_pillow_does(tmp_path: Path, kind: str, most: int) -> None:
    random = np.random.default_rng(most)
    channels = 3 if kind == "P6" else 1
    values = random.integers(0, most + 1, (11, 13, channels)).astype(">u2" if most > 255 else "u1")
    path = tmp_path / f"a.{'ppm' if kind == 'P6' else 'pgm'}"
    path.write_bytes(f"{kind} 13 11 {most}\n".encode() + values.tobytes())
    assert np.array_equal(as_rows(path), read_picture(path))


def test_plain_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6 # a comment\n# 9 9\n2\t1\n255\n" + bytes(range(6)))
    assert as_rows(path).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    path.write_bytes(b"P5 2 1 15\n" + bytes([0, 15]))
    assert as_rows(path).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_broken_large_pictures_fail_alone(tmp_path: Path, tiled: Segmenter) -> None:
    source = tmp_path / "in"
    source.mkdir()
    whole = save(source / "b.ppm", Image.fromarray(picture(200, 90))).read_bytes()
    (source / "a.ppm").write_bytes(whole[:30000])
    (source / "c.ppm").write_bytes(whole[:-1])
    records = predict(tiled, source, tmp_path / "out", max_pixels=1)
    assert sorted((record.input[-5:], record.status) for record in records) == [
        ("a.ppm", "failed"),
        ("b.ppm", "done"),
        ("c.ppm", "failed"),
    ]
    failed = next(record for record in records if record.input.endswith("a.ppm"))
    assert failed.error == (
        f"{source / 'a.ppm'}: must be a whole picture file, got a file that ends early; "
        "replace the file"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.png", "manifest.jsonl"]


def test_other_kinds_and_pipes_do_not_reach_libvips(tmp_path: Path, tiled: Segmenter) -> None:
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(picture(60, 70)).save(source / "good.png")
    os.mkfifo(source / "pipe.png")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"/>'
    (source / "picture.png").write_text(svg)
    records = predict(tiled, source, tmp_path / "out", max_pixels=1)
    said = {Path(record.input).name: record.error for record in records}
    assert said == {
        "good.png": None,
        "picture.png": f"{source}/picture.png: must be a picture file, got something else; "
        "replace the file",
        "pipe.png": f"{source}/pipe.png: must be a picture file, got no regular file; "
        "check the path",
    }
    with pytest.raises(DataError, match="P5 or P6, PNG, JPEG or TIFF, got something else"):
        open_rows(source / "picture.png")


def test_a_real_photograph_streams(tmp_path: Path, model: Path) -> None:
    photograph = SHARED / "images" / "terrain1.jpg"
    if not photograph.is_file():
        pytest.skip("the photograph is not beside the checkout")
    with load(model, tile=(512, 512), overlap=64, threads=1) as segmenter:
        (record,) = predict(segmenter, photograph, tmp_path, max_pixels=1)
        expected = segmenter(read_picture(photograph))
    labels = read(tmp_path / record.output)
    assert labels.shape == expected.shape == record.size
    # libvips and Pillow decode a JPEG to values one or two apart.
    assert (labels == expected).mean() > 0.98


def test_pillows_own_limit_does_not_stop_what_streams(
    tmp_path: Path, tiled: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # beyond twice of it Pillow refuses
    Image.fromarray(picture(60, 70)).save(tmp_path / "a.ppm")
    (record,) = predict(tiled, tmp_path / "a.ppm", tmp_path / "out", max_pixels=1000)
    assert (record.status, record.size) == ("done", (60, 70))
    (tmp_path / "a.ppm").write_text("P6 60 70")
    (record,) = predict(tiled, tmp_path / "a.ppm", tmp_path / "out", max_pixels=1000)
    assert record.status == "failed"


def test_broken_files_of_libvips(tmp_path: Path) -> None:
    pytest.importorskip("pyvips")
    path = save(tmp_path / "a.png", Image.fromarray(picture(200, 90)))
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(DataError, match=re.escape(f"{path}: must be a whole picture file, got ")):
        as_rows(path)
    deep = save(tmp_path / "a.tif", Image.fromarray(np.zeros((50, 50), np.float32)))
    text = (
        f"{deep}: a picture has unsigned samples of at most 16 bits, "
        "got a TIFF of 1 gray sample of 32 float bits; "
        "convert it: only you know which values are black and white"
    )
    with refusal(DataError, text):
        open_rows(deep)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "a.jpg", Image.fromarray(picture(20, 30)), exif=exif)
    text = (
        f"{turned}: a picture read row by row must be stored upright, got orientation 6; "
        "rotate it first, with vips autorot"
    )
    with refusal(DataError, text):
        open_rows(turned)


@pytest.mark.parametrize("kind", ["tif", "tiled.tif", "jpg", "png"])
def test_a_picture_that_ends_early_is_no_gray_area(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("pyvips")
    path = save(tmp_path / f"a.{kind}", Image.fromarray(picture(300, 200)))
    if kind == "tiled.tif":
        import pyvips

        whole = pyvips.Image.new_from_file(str(path)).copy_memory()
        whole.tiffsave(str(path), tile=True, tile_width=64, tile_height=64)
    assert as_rows(path).shape == (300, 200, 3)
    data = path.read_bytes()
    if kind.endswith("tif"):
        # Its directory may lie behind the pixels: the last strip or tile is put outside.
        with Image.open(path) as opened:
            places = opened.tag_v2[324 if kind == "tiled.tif" else 273]
        at = data.index(struct.pack("<I", places[-1]))
        data = data[:at] + struct.pack("<I", 2**31) + data[at + 4 :]
    elif kind == "jpg":
        # As a copy that was cut and closed: the end marker is there.
        data = data[: len(data) // 2] + b"\xff\xd9"
    else:
        data = data[: len(data) // 2]
    path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(f"{path}: must be a whole picture file, got ")):
        as_rows(path)


@pytest.mark.parametrize("name", [os.fsdecode(b"\xff\xfe.png"), "a.png[shrink=2]", "[n=1].png"])
def test_names_are_names_to_libvips(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyvips")
    Image.fromarray(picture(9, 9)).save(tmp_path / "a.png")
    expected = picture(20, 30)
    with (tmp_path / name).open("wb") as file:
        Image.fromarray(expected).save(file, "PNG")
    np.testing.assert_array_equal(as_rows(tmp_path / name), expected)


def test_without_pyvips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    path = save(tmp_path / "a.png", Image.fromarray(picture(20, 30)))
    text = (
        f"{path}: reading row by row: needs the package pyvips, got no such package; "
        "pip install 'fcnkit[large]'"
    )
    with refusal(ImportError, text):
        open_rows(path)


def test_every_format_has_a_row() -> None:
    assert tuple(FORMATS) == get_args(Format)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (77, 33)])
@pytest.mark.parametrize("format", list(SUFFIX_OF))
def test_outputs_in_bands(tmp_path: Path, size: tuple[int, int], format: Format) -> None:
    """The PNG is checked chunk by chunk, for Pillow forgives much."""
    spec = make_spec("labels")
    image, labels = picture(*size), picture(*size)[..., 0] % 4
    path = tmp_path / f"a{SUFFIX_OF[format]}"
    style = OverlayStyle(legend=False)
    output, _ = open_output(path, OutputRequest(size=size, spec=spec, format=format, style=style))
    assert read_size(str(path)) is None
    for at in range(0, size[0], 10):
        band = labels[at : at + 10]
        output.write(image[at : at + 10], Prediction(band, confidence=band + 9))
        assert read_size(str(path)) is None
    output.close()
    assert read_size(str(path)) == size
    if format in ("labels", "npy", "tif"):
        assert np.array_equal(read(path), labels)
    if format == "confidence":
        assert np.array_equal(read(path), labels + 9)
    if SUFFIX_OF[format] == ".png":
        assert _chunks(path.read_bytes())[0] == "IHDR"


def _chunks(content: bytes) -> list[str]:
    names, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length]) == (
            zlib.crc32(body),
        )
        names.append(body[:4].decode())
        at += 12 + length
    assert names[-1] == "IEND"
    return names


# Not getrusage: it counts what the process that started this one held, and that is a lot.
MEASURE = """
import sys
from pathlib import Path
from fcnkit.cli import main
try:
    main(sys.argv[1:])
finally:
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of one program")
def test_memory_does_not_grow_with_the_height(tmp_path: Path, model: Path) -> None:
    """Neither picture nor labels nor logits of it are held: 4 times the rows, the same memory."""
    peaks = []
    for height in (4000, 16000):  # both have more rows than are read ahead of the model
        path = tmp_path / f"{height}.ppm"
        with path.open("wb") as file:
            file.write(b"P6 3000 %d 255\n" % height)
            file.truncate(file.tell() + 9000 * height)  # 144 MB of zeros, sparse
        arguments = ["predict", model, path, "-o", tmp_path / "out", "--tile", "256x512"]
        options = ["--max-pixels", "1000", "--threads", "1", "--stats"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, *map(str, arguments), *options],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert " MB of memory; see " in done.stdout
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] < peaks[0] + 40
