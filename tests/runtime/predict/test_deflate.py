"""PNG results hold the same pixels whichever library compresses them."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fcnkit.runtime.pixels.prediction import Prediction
from fcnkit.runtime.predict.codecs import describe_codecs
from fcnkit.runtime.predict.deflate import compressor, deflate_library
from fcnkit.runtime.predict.outputs import Format, open_output
from tests.runtime.models import make_spec

pytest.importorskip("isal")


def without_isal(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "isal.isal_zlib", None)
    deflate_library.cache_clear()


def chunks_of(path: Path) -> list[tuple[bytes, bytes]]:
    """Return kinds and contents of a PNG's chunks, after a check of their sums."""
    content, at, found = path.read_bytes(), 8, []
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        assert content[at + 8 + length : at + 12 + length] == struct.pack(
            ">I", zlib.crc32(kind + data)
        )
        found.append((kind, data))
        at += 12 + length
    return found


def write(path: Path, format: Format, labels_hw: np.ndarray, *, rows: int) -> None:
    height, width = labels_hw.shape
    image_hwc = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    output, _ = open_output(path, height, width, make_spec("labels"), format=format)
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        output.write(image_hwc[part], Prediction(labels_hw[part], 255 - labels_hw[part]))
    output.close()


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    format=st.sampled_from(("labels", "color", "overlay", "confidence")),
    height=st.integers(1, 90),
    width=st.integers(1, 200),
    rows=st.integers(1, 90),
    noisy=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_same_pixels_and_the_same_other_chunks(
    tmp_path: Path, format: Format, height: int, width: int, rows: int, noisy: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shape = (height, width) if noisy else (height, 1)
    labels_hw = np.broadcast_to(random.integers(0, 4, shape, np.uint8), (height, width)).copy()
    fast, plain = tmp_path / "fast.png", tmp_path / "plain.png"
    write(fast, format, labels_hw, rows=rows)
    with pytest.MonkeyPatch.context() as patch:
        without_isal(patch)
        write(plain, format, labels_hw, rows=rows)
    deflate_library.cache_clear()
    one, other = chunks_of(fast), chunks_of(plain)
    assert [c for c in one if c[0] != b"IDAT"] == [c for c in other if c[0] != b"IDAT"]
    with Image.open(fast) as ours, Image.open(plain) as theirs:
        assert ours.mode == theirs.mode
        assert ours.getpalette() == theirs.getpalette()
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
        if format == "labels":
            np.testing.assert_array_equal(np.asarray(ours), labels_hw)


def test_which_library_compresses() -> None:
    from isal import isal_zlib

    assert deflate_library() is isal_zlib
    assert type(compressor(zlib.Z_RLE)).__module__ == "isal_zlib"
    assert describe_codecs()["png"].startswith("isal ")
    with pytest.MonkeyPatch.context() as patch:
        without_isal(patch)
        assert isinstance(compressor(zlib.Z_RLE), type(zlib.compressobj()))
        assert describe_codecs()["png"] == "zlib (the extra fast brings isal)"
    deflate_library.cache_clear()
