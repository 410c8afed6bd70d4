"""Many small pictures, some of them broken, for runs over folders."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fcnkit.runtime.predict.folder import MANIFEST


def write_pictures(folder: Path, count: int, *, side: int = 40) -> Path:
    """Write pictures of about that side, smooth enough to be small files, named by number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng(number)
        height, width = side + number % 7, side + number % 5
        coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((width, height))
        picture.save(folder / f"{number:05}.png", compress_level=1)
    return folder


def _png(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _jpeg(content: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, format="JPEG")
    return buffer.getvalue()


def _float(content: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.float32)).save(buffer, format="TIFF")
    return buffer.getvalue()


def _bomb(content: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return content[:8] + _png(b"IHDR", header) + _png(b"IDAT", b"") + _png(b"IEND", b"")


def _bad_deflate(content: bytes) -> bytes:
    head = content[:33]
    return head + _png(b"IDAT", b"\x78\x01" + bytes(40)) + _png(b"IEND", b"")


WAYS: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: b"hello",
    lambda content: content[: len(content) // 2],
    lambda content: content[:20],
    lambda content: bytes(len(content)),
    lambda content: _jpeg(content)[:-60],
    lambda content: b"<html><body>404</body></html>",
    _float,
    _bomb,
    _bad_deflate,
]
"""Ten ways in which a file is not a picture that can be labeled."""


def break_some(folder: Path, *, every: int) -> dict[str, int]:
    """Break files at regular intervals, each way in turn; return the way by the file's name."""
    broken = {}
    for number, path in enumerate(sorted(folder.iterdir())[::every]):
        way = number % len(WAYS)
        path.write_bytes(WAYS[way](path.read_bytes()))
        broken[path.name] = way
    return broken


def manifest_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) of random bytes, the same for the same size."""
    random = np.random.default_rng(height * 999 + width)
    return random.integers(0, 256, (height, width, 3), np.uint8)


def read(path: Path) -> NDArray[np.uint8]:
    """Read a result: an array or an image file."""
    if path.suffix == ".npy":
        labels: NDArray[np.uint8] = np.load(path)
        return labels
    with Image.open(path) as image:
        return np.array(image)
