"""Picture files of every layout, written byte by byte, each with what its pixels mean.

The meaning is worked out here in float64 from the numbers that were written, apart from any reader.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 21, 19

Order = str
Samples = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file."""

    name: str
    suffix: str
    content: bytes
    expected: NDArray[np.float64] | None
    """(H, W, 3), 0..255; None where the file must be refused."""
    off: float = 0
    """How far apart the pixels may be: alpha and CMYK are rounded by different libraries."""
    apart: int = 0
    """How far whole and streamed may be apart: libvips and Pillow undo premultiplied alpha."""
    raw: Samples | None = None
    """What an independent reader must find, (H, W, samples)."""
    streams: bool = True
    range: tuple[int, int] | None = None


def values(bits: int, samples: int, *, seed: int = 0) -> Samples:
    random = np.random.default_rng((bits, samples, seed))
    kind = np.uint8 if bits <= 8 else np.uint16
    return random.integers(0, 1 << bits, (HEIGHT, WIDTH, samples), kind, endpoint=False)


# --- what samples mean ---------------------------------------------------------------------------


def scaled(raw: Samples, bits: int, range: tuple[int, int] | None = None) -> NDArray[np.float64]:
    if bits == 16 and range is None:
        return (raw >> 8).astype(np.float64)
    low, high = range if range and bits == 16 else (0, (1 << bits) - 1)
    return np.rint(((raw.astype(np.float64) - low) * 255 / (high - low)).clip(0, 255))


def rgb_of(colors: NDArray[np.float64]) -> NDArray[np.float64]:
    if colors.shape[2] == 1:
        return np.repeat(colors, 3, axis=2)
    if colors.shape[2] == 4:
        return (255 - colors[..., :3]) * (255 - colors[..., 3:]) / 255
    return colors


def on_white(rgb: NDArray[np.float64], opacity: NDArray[np.float64]) -> NDArray[np.float64]:
    share = opacity[..., None] / 255
    return rgb * share + 255 * (1 - share)


# --- TIFF ----------------------------------------------------------------------------------------


def pack(part: Samples, bits: int, order: Order) -> bytes:
    """Pack samples (rows, columns, samples), each row from a new byte on."""
    if bits >= 8:
        return part.astype(part.dtype.newbyteorder(order)).tobytes()
    rows = part.reshape(len(part), -1)
    bit = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(bit.reshape(len(part), -1).astype(np.uint8), axis=1).tobytes()


def squeeze(data: bytes, compression: int) -> bytes:
    if compression == 5:
        return bytes(imagecodecs.lzw_encode(data))
    if compression == 8:
        return zlib.compress(data)
    if compression == 32773:
        return bytes(imagecodecs.packbits_encode(data))
    return data


def _segments(raw: Samples, *, planes: bool, tile: bool) -> Iterator[Samples]:
    for one in np.split(raw, raw.shape[2], axis=2) if planes else [raw]:
        if not tile:
            yield from (one[top : top + 8] for top in range(0, HEIGHT, 8))
            continue
        grown = np.pad(one, ((0, -HEIGHT % 16), (0, -WIDTH % 16), (0, 0)))
        for top, left in product(range(0, HEIGHT, 16), range(0, WIDTH, 16)):
            yield grown[top : top + 16, left : left + 16]


def tiff(
    raw: Samples,
    bits: int,
    photometric: int,
    *,
    order: Order = "<",
    compression: int = 1,
    planes: bool = False,
    tile: bool = False,
    extra: tuple[int, ...] = (),
    big: bool = False,
    tags: dict[int, tuple[int, ...]] | None = None,
) -> bytes:
    """Write a TIFF of one picture; tags replace those that follow from the arguments."""
    parts = [
        squeeze(pack(part, bits, order), compression)
        for part in _segments(raw, planes=planes, tile=tile)
    ]
    place = 16 if big else 8
    starts = []
    for part in parts:
        starts.append(place)
        place += len(part) + len(part) % 2
    count = raw.shape[2]
    found: dict[int, tuple[int, ...]] = {
        256: (WIDTH,), 257: (HEIGHT,), 258: (bits,) * count, 259: (compression,),
        262: (photometric,), 277: (count,), 284: (2 if planes else 1,),
    }  # fmt: skip
    lengths = tuple(map(len, parts))
    if tile:
        found |= {322: (16,), 323: (16,), 324: tuple(starts), 325: lengths}
    else:
        found |= {273: tuple(starts), 278: (8,), 279: lengths}
    if extra:
        found[338] = extra
    found |= tags or {}
    body = b"".join(part + b"\0" * (len(part) % 2) for part in parts)
    return _with_directory(body, found, order, big=big)


def _with_directory(
    body: bytes, tags: dict[int, tuple[int, ...]], order: Order, *, big: bool
) -> bytes:
    mark = b"II" if order == "<" else b"MM"
    start = (16 if big else 8) + len(body)
    if big:
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, start)
        layout, inline, rest = f"{order}HHQ", 8, start + 8 + 20 * len(tags) + 8
    else:
        head = mark + struct.pack(f"{order}HI", 42, start)
        layout, inline, rest = f"{order}HHI", 4, start + 2 + 12 * len(tags) + 4
    entries, behind = b"", b""
    for tag, numbers in sorted(tags.items()):
        wide = tag in (273, 279, 324, 325)
        data = struct.pack(f"{order}{len(numbers)}{'I' if wide else 'H'}", *numbers)
        if len(data) > inline:
            place = rest + len(behind)
            behind += data + b"\0" * (len(data) % 2)
            data = struct.pack(f"{order}{'Q' if big else 'I'}", place)
        entries += struct.pack(layout, tag, 4 if wide else 3, len(numbers))
        entries += data.ljust(inline, b"\0")
    counted = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    return head + body + counted + entries + bytes(inline) + behind


_COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4}
_EXTRAS: dict[int, list[tuple[int, ...] | None]] = {
    1: [(), (0,), (1,), (2,), None],
    2: [(), (0,), (1,), (2,), None, (0, 0), (2, 0), (0, 2)],
    5: [(), (0,), (2,)],
}
"""ExtraSamples by photometric interpretation; None: a sample more, and no such tag."""


def _tiff_colors() -> Iterator[Case]:
    compressions = (1, 5, 8, 32773)
    number = 0
    for photometric, kinds in _EXTRAS.items():
        for bits, extra, planes, compression, order in product(
            (8, 16), kinds, (False, True), compressions, "<>"
        ):
            colors = _COLORS[photometric]
            count = colors + (1 if extra is None else len(extra))
            if planes and count == 1:
                continue
            number += 1
            tile, big = number % 3 == 0, number % 5 == 0
            for color in (0, 1) if photometric == 1 else (photometric,):
                yield _tiff_case(color, bits, extra, planes, compression, order, tile=tile, big=big)


def _tiff_case(
    photometric: int,
    bits: int,
    extra: tuple[int, ...] | None,
    planes: bool,
    compression: int,
    order: Order,
    *,
    tile: bool,
    big: bool,
    range: tuple[int, int] | None = None,
) -> Case:
    colors = _COLORS[photometric]
    raw = values(bits, colors + (1 if extra is None else len(extra)), seed=photometric)
    content = tiff(
        raw, bits, photometric, order=order, compression=compression, planes=planes, tile=tile,
        extra=extra or (), big=big,
    )  # fmt: skip
    marked = [i for i, kind in enumerate(extra or ()) if kind in (1, 2)]
    off, apart = (1.0 if marked or colors == 4 else 0), 0
    stored = raw[..., :colors]
    if marked:
        opacity = raw[..., colors + marked[0]]
        if extra and extra[marked[0]] == 1:
            off, apart = 2, 2
            most = (1 << bits) - 1
            whole = stored.astype(np.float64) * most / np.maximum(opacity[..., None], 1)
            stored = np.rint(whole.clip(0, most)).astype(raw.dtype)
    level = scaled(stored, bits, range)
    if photometric == 0:
        level = 255 - level
    expected = rgb_of(level)
    if marked:
        expected = on_white(expected, scaled(opacity, bits))
    gray_with_more = colors == 1 and raw.shape[2] > 1
    refused = gray_with_more and (photometric == 0 or extra is None or planes)
    refused |= planes and tile and (bits == 16 or raw.shape[2] > colors)
    name = (
        f"tiff-{photometric}-{bits}-extra{extra}-{'planes' if planes else 'contig'}-{compression}"
    )
    return Case(
        name=f"{name}-{order}-{'tiles' if tile else 'strips'}{'-big' if big else ''}-{range}",
        suffix="tif",
        content=content,
        expected=None if refused else expected,
        off=off,
        apart=apart,
        raw=raw,
        streams=not (planes and tile),
        range=range,
    )


def _tiff_few_bits() -> Iterator[Case]:
    for bits, photometric, order, compression in product(
        (1, 2, 4, 8), (0, 1, 3), "<>", (1, 5, 8, 32773)
    ):
        raw = values(bits, 1)
        tags: dict[int, tuple[int, ...]] = {}
        if photometric == 3:
            colormap = np.random.default_rng(bits).integers(0, 65536, (3, 1 << bits))
            tags[320] = tuple(colormap.ravel().tolist())
            expected = (colormap.T[raw[..., 0]] >> 8).astype(np.float64)
        else:
            level = scaled(raw, bits)
            expected = rgb_of(255 - level if photometric == 0 else level)
        content = tiff(raw, bits, photometric, order=order, compression=compression, tags=tags)
        name = f"tiff-{photometric}-{bits}-{order}-{compression}"
        yield Case(name=name, suffix="tif", content=content, expected=expected, raw=raw)


def _tiff_ranges() -> Iterator[Case]:
    for photometric, extra, planes, order, range in product(
        (0, 1, 2), ((), (0,), (2,)), (False, True), "<>", ((0, 4095), (1000, 50000))
    ):
        if planes and photometric != 2:
            continue
        yield _tiff_case(
            photometric, 16, extra, planes, 8, order, tile=False, big=False, range=range
        )


def _tiff_refused() -> Iterator[Case]:
    gray, rgb = values(8, 1), values(8, 3)
    deep = values(16, 1)
    files = {
        "signed-8": tiff(gray, 8, 1, tags={339: (2,)}),
        "signed-16": tiff(deep, 16, 1, tags={339: (2,)}),
        "unsigned-32": tiff(gray.astype(np.uint32), 32, 1),
        "signed-32": tiff(gray.astype(np.int32), 32, 1, tags={339: (2,)}),
        "float-32": tiff(gray.astype(np.float32), 32, 1, tags={339: (3,)}),
        "float-64": tiff(gray.astype(np.float64), 64, 1, tags={339: (3,)}),
        "float-16": tiff(deep, 16, 1, tags={339: (3,)}),
        "rgb-float-32": tiff(rgb.astype(np.float32), 32, 2, tags={339: (3, 3, 3)}),
        "complex": tiff(gray.astype(np.complex64), 64, 1, tags={339: (6,)}),
        "12-bits": tiff(gray[:, : WIDTH // 3 * 2], 8, 1, tags={258: (12,), 256: (WIDTH // 3,)}),
        "mixed-bits": tiff(rgb, 8, 2, tags={258: (8, 8, 16)}),
        "5-6-5": tiff(values(16, 1), 16, 2, tags={258: (5, 6, 5), 277: (3,)}),
        "gray-3": tiff(rgb, 8, 1, extra=(0, 0)),
        "gray-4": tiff(values(8, 4), 8, 1, extra=(0, 0, 0)),
        "gray-4-no-tag": tiff(values(8, 4), 8, 1),
        "gray-4-planes": tiff(values(8, 4), 8, 1, extra=(0, 0, 0), planes=True),
        "gray-4-16-bits": tiff(values(16, 4), 16, 1, extra=(0, 0, 0)),
        "gray-13": tiff(values(8, 13), 8, 1, extra=(0,) * 12),
        "rgb-2": tiff(values(8, 2), 8, 2),
        "palette-extra": tiff(values(8, 2), 8, 3, extra=(0,), tags={320: tuple(range(768))}),
        "palette-alpha": tiff(values(8, 2), 8, 3, extra=(2,), tags={320: tuple(range(768))}),
        "palette-16": tiff(deep, 16, 3, tags={320: (0,) * 9}),
        "mask": tiff(values(1, 1), 1, 4),
        "ycbcr": tiff(rgb, 8, 6),
        "lab": tiff(rgb, 8, 8),
        "icc-lab": tiff(rgb, 8, 9),
        "cfa": tiff(gray, 8, 32803),
        "linear-raw": tiff(rgb, 8, 34892),
        "logluv": tiff(rgb, 8, 32845),
        "inks": tiff(values(8, 4), 8, 5, tags={332: (2,)}),
        "inks-6": tiff(values(8, 6), 8, 5, tags={332: (2,)}),
        "webp": tiff(rgb, 8, 2, tags={259: (50001,)}),
        "jpeg2000": tiff(rgb, 8, 2, tags={259: (34712,)}),
        "lerc": tiff(gray, 8, 1, tags={259: (34887,)}),
        "jpeg-xl": tiff(rgb, 8, 2, tags={259: (50002,)}),
        "old-jpeg": tiff(rgb, 8, 6, tags={259: (6,)}),
        "unknown-compression": tiff(rgb, 8, 2, tags={259: (999,)}),
    }
    for name, content in files.items():
        yield Case(name=f"tiff-{name}", suffix="tif", content=content, expected=None)


# --- PNG -----------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


_ADAM7 = [
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
]
"""First row and column, and steps, of the passes of an interlaced PNG."""


def png(
    raw: Samples, bits: int, color: int, *, interlaced: bool = False, extra: bytes = b"",
    behind: bytes = b"",
) -> bytes:  # fmt: skip
    """Write a PNG; extra chunks stand before the pixels, others behind them."""
    passes = _ADAM7 if interlaced else [(0, 0, 1, 1)]
    rows = b""
    for top, left, down, right in passes:
        part = raw[top::down, left::right]
        if part.size:
            packed = pack(part, bits, ">")
            step = len(packed) // len(part)
            rows += b"".join(b"\0" + packed[at : at + step] for at in range(0, len(packed), step))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, color, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra
    return start + pixels + behind + chunk(b"IEND", b"")


_PNG_KINDS = [
    *((0, bits) for bits in (1, 2, 4, 8, 16)),
    *((color, bits) for color in (2, 4, 6) for bits in (8, 16)),
]
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}


def _png_colors() -> Iterator[Case]:
    for (color, bits), interlaced, key, range in product(
        _PNG_KINDS, (False, True), (False, True), (None, (0, 4095))
    ):
        if (key and color > 2) or (range and bits < 16):
            continue
        raw = values(bits, _PNG_SAMPLES[color])
        colors = 1 if color in (0, 4) else 3
        expected = rgb_of(scaled(raw[..., :colors], bits, range))
        extra = b""
        if key:
            # One pixel's color, another that differs in the last bit, and bits that do not count.
            wanted = raw[3, 4].astype(">u2")
            raw[5, 6] = raw[3, 4] ^ 1
            expected = rgb_of(scaled(raw, bits, range))
            extra = chunk(b"tRNS", wanted.tobytes())
            expected[(raw == raw[3, 4]).all(axis=-1)] = 255
        if color > 2:
            expected = on_white(expected, scaled(raw[..., colors], bits))
        yield Case(
            name=f"png-{color}-{bits}{'-interlaced' * interlaced}{'-key' * key}-{range}",
            suffix="png",
            content=png(raw, bits, color, interlaced=interlaced, extra=extra),
            expected=expected,
            off=1 if color > 2 else 0,
            raw=None if key else raw,
            range=range,
        )


def _png_palettes() -> Iterator[Case]:
    for bits, interlaced, clear in product(
        (1, 2, 4, 8), (False, True), ("", "one", "some", "gray")
    ):
        raw = values(bits, 1)
        random = np.random.default_rng(bits)
        palette = random.integers(0, 256, (1 << bits, 3), np.uint8)
        if clear == "gray":
            palette[:] = palette[:, :1]
        expected = palette[raw[..., 0]].astype(np.float64)
        extra = chunk(b"PLTE", palette.tobytes())
        if clear in ("one", "some"):
            opacity = np.full(1 << bits, 255, np.uint8)
            opacity[1] = 0
            if clear == "some":
                opacity = random.integers(0, 256, 1 << bits, np.uint8)
            extra += chunk(b"tRNS", opacity.tobytes())
            expected = on_white(expected, opacity[raw[..., 0]].astype(np.float64))
        yield Case(
            name=f"png-3-{bits}{'-interlaced' * interlaced}-{clear}",
            suffix="png",
            content=png(raw, bits, 3, interlaced=interlaced, extra=extra),
            expected=expected,
            off=1 if clear in ("one", "some") else 0,
        )


# --- PPM -----------------------------------------------------------------------------------------


def _plain_files() -> Iterator[Case]:
    for kind, most, range in product(
        (2, 3, 5, 6), (1, 15, 100, 255, 256, 1023, 4095, 65535), (None, (100, 900))
    ):
        if range and (most < 256 or kind < 5):
            continue
        colors = 1 if kind in (2, 5) else 3
        random = np.random.default_rng((kind, most))
        raw = random.integers(0, most + 1, (HEIGHT, WIDTH, colors))
        head = f"P{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{most}\n".encode()
        if kind < 5:
            content = head + b" ".join(str(value).encode() for value in raw.ravel())
        else:
            content = head + raw.astype(">u2" if most > 255 else "u1").tobytes()
        if range:
            level = np.rint(((raw - range[0]) * 255 / (range[1] - range[0])).clip(0, 255))
        elif most > 255 and colors == 1:
            level = (np.rint(raw / most * 65535).astype(int) >> 8).astype(np.float64)
        else:
            level = np.rint(raw / most * 255)
        yield Case(
            name=f"P{kind}-{most}-{range}",
            suffix="ppm",
            content=content,
            expected=rgb_of(level),
            off=1 if kind < 5 else 0,  # Pillow rounds values in text in its own way
            streams=kind >= 5,
            range=range,
        )
    bit = values(1, 1)[..., 0]
    expected = rgb_of(255.0 * (1 - bit[..., None]))
    text = f"P1\n{WIDTH} {HEIGHT}\n".encode() + b" ".join(str(b).encode() for b in bit.ravel())
    packed = f"P4\n{WIDTH} {HEIGHT}\n".encode() + np.packbits(bit, axis=1).tobytes()
    for name, content in (("P1", text), ("P4", packed)):
        yield Case(name=name, suffix="pbm", content=content, expected=expected, streams=False)


# --- formats that are lossy, or written by Pillow ------------------------------------------------


def _smooth() -> Image.Image:
    rows, columns = np.mgrid[0:48, 0:64]
    image = np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1)
    return Image.fromarray(image.astype(np.uint8))


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _jpegs() -> Iterator[Case]:
    for mode, subsampling, progressive in product(
        ("L", "RGB", "CMYK"), ("4:4:4", "4:2:2", "4:2:0"), (False, True)
    ):
        options = {"subsampling": subsampling, "progressive": progressive, "quality": 90}
        for extra in ({}, {"restart_marker_rows": 1}, {"keep_rgb": True}):
            if "keep_rgb" in extra and (mode != "RGB" or subsampling != "4:4:4"):
                continue
            content = _saved(_smooth().convert(mode), "JPEG", **options, **extra)
            raw = np.asarray(imagecodecs.jpeg8_decode(content)).astype(np.float64)
            if mode == "CMYK":
                raw = 255 - raw  # Adobe's way, which Pillow writes
            expected = rgb_of(raw if raw.ndim == 3 else raw[..., None])
            name = f"jpeg-{mode}-{subsampling}-{progressive}-{''.join(extra)}"
            yield Case(name=name, suffix="jpg", content=content, expected=expected, off=2, apart=2)


def _tiffs_of_jpeg() -> Iterator[Case]:
    for mode, tile in product(("L", "RGB"), (False, True)):
        image = np.asarray(_smooth().convert(mode))
        file = io.BytesIO()
        options: dict[str, Any] = {"tile": (32, 32)} if tile else {}
        photometric = "minisblack" if mode == "L" else "rgb"
        tifffile.imwrite(file, image, compression="jpeg", photometric=photometric, **options)
        expected = np.asarray(tifffile.imread(io.BytesIO(file.getvalue()))).astype(np.float64)
        yield Case(
            name=f"tiff-jpeg-{mode}-{tile}", suffix="tif", content=file.getvalue(),
            expected=rgb_of(expected if expected.ndim == 3 else expected[..., None]),
            off=2, apart=2,
        )  # fmt: skip
    content = _saved(_smooth(), "TIFF", compression="jpeg", quality=90)  # YCbCr
    expected = np.asarray(tifffile.imread(io.BytesIO(content))).astype(np.float64)
    yield Case(
        name="tiff-jpeg-ycbcr", suffix="tif", content=content, expected=expected, off=2, apart=2
    )
    for compression in ("group3", "group4"):
        image = _smooth().convert("1")
        content = _saved(image, "TIFF", compression=compression)
        expected = rgb_of(255.0 * np.asarray(image)[..., None])
        yield Case(name=f"tiff-{compression}", suffix="tif", content=content, expected=expected)


def _others() -> Iterator[Case]:
    """Formats that do not stream."""
    image = _smooth()
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        source = clear if mode == "RGBA" else image.convert(mode)
        # The fourth byte of such a BMP means nothing by its specification.
        expected = np.asarray(source.convert("RGB")).astype(np.float64)
        content = _saved(source, "BMP")
        yield Case(
            name=f"bmp-{mode}", suffix="bmp", content=content, expected=expected, off=1,
            streams=False,
        )  # fmt: skip
    for source in (image, clear):
        content = _saved(source, "WEBP", lossless=True, exact=True)
        expected = np.asarray(imagecodecs.webp_decode(content)).astype(np.float64)
        if expected.shape[2] == 4:
            expected = on_white(expected[..., :3], expected[..., 3])
        yield Case(
            name=f"webp-{source.mode}", suffix="webp", content=content, expected=expected, off=1,
            streams=False,
        )  # fmt: skip
    for interlace, clear_index in product((0, 1), (None, 3)):
        options = {} if clear_index is None else {"transparency": clear_index}
        source = image.quantize(16)
        content = _saved(source, "GIF", interlace=interlace, **options)
        expected = np.asarray(source.convert("RGB")).astype(np.float64)
        if clear_index is not None:
            expected[np.asarray(source) == clear_index] = 255
        yield Case(
            name=f"gif-{interlace}-{clear_index}", suffix="gif", content=content,
            expected=expected, off=1, streams=False,
        )  # fmt: skip


def layouts() -> list[Case]:
    """Return every case whose meaning is known from the numbers that were written."""
    found = [
        *_tiff_colors(),
        *_tiff_few_bits(),
        *_tiff_ranges(),
        *_tiff_refused(),
        *_png_colors(),
        *_png_palettes(),
        *_plain_files(),
        *_jpegs(),
        *_tiffs_of_jpeg(),
        *_others(),
    ]
    assert len({case.name for case in found}) == len(found)
    return found
