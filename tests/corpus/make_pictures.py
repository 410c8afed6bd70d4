"""Broken and odd pictures, made by this script, each with what reading it must give.

    python -m tests.corpus.make_pictures FOLDER

The same files come out every time. Headers are written by hand where Pillow would refuse to write
what is wrong with them.
"""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_PIXELS = 4_000_000
"""The limit under which the corpus is read."""

COLOR = (200, 100, 50)
DARK = (60, 50, 40)
TOLERANCE = 16
SIZE = (30, 40)
BROKEN = "must be a picture file"
UNREADABLE = "must be a picture file that can be read"
"""Or ``a whole picture file``: where Pillow draws the line between the two is its own affair."""
LARGE = f"a picture has at most {MAX_PIXELS} pixels"
DEPTH = "a picture has unsigned samples of at most 16 bits"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One file of the corpus and what reading it must give: a picture, or a refusal."""

    name: str
    content: bytes | None
    """None: something that is not a file."""
    size: tuple[int, int] | None = None
    """Height and width of the picture; None where it must be refused."""
    color: tuple[int, int, int] | None = COLOR
    """Of the first pixel, give or take what JPEG does; None where it does not matter. Where it is
    COLOR, every tenth row is DARK."""
    rule: str | None = None
    """What the refusal says must hold."""
    beside: str | None = None
    """``pipe``, ``folder``, ``loop`` (a link to itself), ``gone`` or ``secret`` (mode 0)."""


def right(
    name: str,
    content: bytes,
    size: tuple[int, int] = SIZE,
    color: tuple[int, int, int] | None = COLOR,
) -> Picture:
    return Picture(name=name, content=content, size=size, color=color)


def wrong(name: str, content: bytes, rule: str = BROKEN) -> Picture:
    return Picture(name=name, content=content, rule=rule)


def fault_of(expected: Picture, got: NDArray[np.uint8] | str, *, path: Path) -> str | None:
    """Say what is wrong with an outcome, the picture or the refusal's text; None if nothing is."""
    if isinstance(got, str):
        if expected.rule is None:
            return f"refused: {got}"
        rule = re.escape(expected.rule).replace("a\\ picture", r"a\ (whole\ )?picture")
        what = re.escape(" ".join(f"{path}:".split()))
        whole = re.fullmatch(rf"{what} {rule}, got [^\n]+; [^;\n]+", got)
        return None if whole else f"refused with other words: {got}"
    if expected.size is None or got.shape != (*expected.size, 3):
        return f"a picture of {got.shape[0]}x{got.shape[1]}"
    rows = [(0, expected.color)]
    if expected.color == COLOR and expected.size == SIZE:
        rows += [(top, DARK if top % 10 == 9 else COLOR) for top in (9, 14, 29)]
    for top, color in rows:
        if color is not None and np.abs(got[top].astype(int) - color).max() > TOLERANCE:
            return f"row {top} begins with {got[top, 0].tolist()}"
    return None


def corpus() -> list[Picture]:
    """Return every picture of the corpus, names all different."""
    found = [
        *_jpeg(),
        *_jpeg_exif(),
        *_png(),
        *_png_bombs(),
        *_tiff(),
        *_others(),
        *_liars(),
        *_no_files(),
    ]
    # A folder of them can be predicted: every result has its own name.
    names = [Path(picture.name).stem for picture in found]
    assert len(set(names)) == len(names)
    return found


def write_corpus(folder: Path) -> list[Picture]:
    """Write the corpus into an empty folder and return it."""
    pictures = corpus()
    for picture in pictures:
        path = folder / picture.name
        if picture.content is not None:
            path.write_bytes(picture.content)
        if picture.beside == "pipe":
            os.mkfifo(path)
        elif picture.beside == "folder":
            path.mkdir()
        elif picture.beside == "loop":
            path.symlink_to(path.name)
        elif picture.beside == "gone":
            path.symlink_to("no such file")
        elif picture.beside == "secret":
            path.chmod(0)
    return pictures


def _image(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a picture of one color in which every tenth row is darker, (height, width)."""
    image = Image.new("RGB", size[::-1], COLOR)
    for top in range(9, size[0], 10):
        image.paste(DARK, (0, top, size[1], top + 1))
    return image.convert(mode)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# --- JPEG ----------------------------------------------------------------------------------------


def _segments(jpeg: bytes) -> list[int]:
    """Return where each marker before the pixels starts, and where the pixels do."""
    at, found = 2, [0, 2]
    while jpeg[at + 1] != 0xDA:
        at += 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        found.append(at)
    found.append(at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0])
    return found


def _marks(jpeg: bytes, kinds: bytes, *, start: int) -> list[int]:
    """Return where markers of some kinds begin, from a byte on."""
    places = range(start, len(jpeg) - 1)
    return [at for at in places if jpeg[at] == 0xFF and jpeg[at + 1] in kinds]


def _jpeg() -> Iterator[Picture]:
    plain = _saved(_image(), "JPEG")
    progressive = _saved(_image(), "JPEG", progressive=True)
    yield right("baseline.jpg", plain)
    yield right("progressive.jpg", progressive)
    yield right("cmyk.jpg", _saved(_image("CMYK"), "JPEG"))
    yield right("gray.jpg", _saved(_image("L"), "JPEG"), color=(124, 124, 124))
    yield right("restarts.jpg", _saved(_image(), "JPEG", restart_marker_blocks=1))
    yield right("garbage-behind.jpg", plain + bytes(range(256)) * 40)
    yield right("1x1.jpg", _saved(_image(size=(1, 1)), "JPEG"), (1, 1))
    wide, tall = (_saved(_image(size=size), "JPEG") for size in ((1, 65500), (65500, 1)))
    yield right("1x65500.jpg", wide, (1, 65500))
    yield right("65500x1.jpg", tall, (65500, 1))
    for kind, content in (("baseline", plain), ("progressive", progressive)):
        marks = _segments(content)
        for number, at in enumerate(marks):
            yield wrong(f"cut-{kind}-at-{number:02}.jpg", content[:at])
        yield wrong(f"cut-{kind}-in-pixels.jpg", content[: (marks[-1] + len(content)) // 2])
        yield wrong(f"cut-{kind}-at-the-end.jpg", content[:-2])
    # The scans of a progressive file after its first, each with its tables.
    for at in _marks(progressive, b"\xc4\xda", start=_segments(progressive)[-1]):
        yield wrong(f"cut-progressive-at-byte-{at}.jpg", progressive[:at])
    restarts = _saved(_image(), "JPEG", restart_marker_blocks=1)
    every = _marks(restarts, bytes(range(0xD0, 0xD8)), start=2)
    for number in (0, len(every) // 2, len(every) - 1):
        yield wrong(f"cut-at-restart-{number}.jpg", restarts[: every[number]])
    frame = plain.index(b"\xff\xc0")
    for name, height, width, rule in (
        ("no-rows.jpg", 0, 40, BROKEN),
        ("jpg-no-columns.jpg", 30, 0, BROKEN),
        ("jpg-bomb.jpg", 65500, 65500, LARGE),
    ):
        sides = struct.pack(">HH", height, width)
        yield wrong(name, plain[: frame + 5] + sides + plain[frame + 9 :], rule)
    yield wrong("twelve-bits.jpg", plain[: frame + 4] + b"\x0c" + plain[frame + 5 :])
    yield wrong("long-segment.jpg", plain[:4] + b"\xff\xff" + plain[6:])
    yield wrong("no-tables.jpg", plain[:2] + plain[frame:])


def _jpeg_exif() -> Iterator[Picture]:
    lying_down = Image.Exif()
    lying_down[0x0112] = 6
    content = _saved(_image(), "JPEG", exif=lying_down)
    yield right("orientation-6.jpg", content, SIZE[::-1], None)
    entry = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"
    for name, exif in (
        ("empty", b"Exif\0\0"),
        ("half", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
        ("orientation-99", entry + b"\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"),
        ("orientation-text", entry + b"\x02\0\x04\0\0\0abc\0\0\0\0\0"),
        ("far-away", entry + b"\x05\0\x01\0\0\0\xff\xff\0\0\0\0\0\0"),
        ("itself", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"),
    ):
        yield right(f"exif-{name}.jpg", _saved(_image(), "JPEG", exif=exif))


# --- PNG -----------------------------------------------------------------------------------------


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_of(
    height: int, width: int, bits: int, color_type: int, rows: bytes, *extra: bytes
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _png() -> Iterator[Picture]:
    def wide(*values: int) -> bytes:
        return (b"\0" + struct.pack(f">{len(values)}H", *values) * SIZE[1]) * SIZE[0]

    white = (255, 255, 255)
    plain = _saved(_image(), "PNG")
    yield right("plain.png", plain)
    yield right("rgb-16-bit.png", _png_of(*SIZE, 16, 2, wide(257, 5140, 7710)), color=(1, 20, 30))
    yield right("clear-16-bit.png", _png_of(*SIZE, 16, 6, wide(9, 9, 9, 0)), color=white)
    yield right("gray-16-bit.png", _png_of(*SIZE, 16, 0, wide(257 * 77)), color=(77, 77, 77))
    yield right("one-bit.png", _saved(_image("1"), "PNG"), color=None)
    yield right("gray-alpha.png", _saved(_image("LA"), "PNG"), color=(124, 124, 124))
    palette = _image().quantize(4)
    yield right("palette.png", _saved(palette, "PNG"))
    alpha = bytes([0] * 256)
    yield right("palette-clear.png", _saved(palette, "PNG", transparency=alpha), color=white)
    frames = [Image.new("RGB", SIZE[::-1], (0, 0, 255))] * 20
    yield right("animated.png", _saved(_image(), "PNG", save_all=True, append_images=frames))
    yield right("png-1x1.png", _saved(_image(size=(1, 1)), "PNG"), (1, 1))
    yield right("png-1x65500.png", _saved(_image(size=(1, 65500)), "PNG"), (1, 65500))
    yield right("png-garbage-behind.png", plain + b"garbage" * 99)
    # IHDR ends at byte 33; then comes IDAT, and IEND's 12 bytes are the last.
    for name, length in (("signature", 8), ("header", 20), ("pixels", 60), ("pixels-length", 37)):
        yield wrong(f"cut-in-{name}.png", plain[:length])
    # What ends before IEND does, or within it, has all its pixels.
    for name, length in (("before", 12), ("within", 6)):
        yield right(f"cut-{name}-the-end.png", plain[:-length])
    yield wrong("wrong-checksum.png", plain[:29] + b"abcd" + plain[33:])
    # The pixels are complete before the length of their chunk is found to be wrong.
    yield right("long-chunk.png", plain[:33] + b"\x7f\xff\xff\xff" + plain[37:])
    yield right("negative-chunk.png", plain[:33] + b"\xff\xff\xff\xff" + plain[37:])
    yield wrong("no-pixels.png", _png_of(*SIZE, 8, 2, b""))
    yield wrong("too-few-pixels.png", _png_of(*SIZE, 8, 2, bytes(1000)))
    yield wrong("no-columns.png", _png_of(30, 0, 8, 2, b""))
    yield wrong("color-type-7.png", _png_of(*SIZE, 8, 7, bytes(5000)))


def _png_bombs() -> Iterator[Picture]:
    many = zlib.compress(bytes(100_000_000))
    gray = bytes(SIZE[0] * (SIZE[1] + 1))
    black = (0, 0, 0)
    yield wrong("bomb.png", _png_of(60_000, 60_000, 8, 2, bytes(1000)), LARGE)
    yield wrong("bomb-32-bit.png", _png_of(2**31 - 1, 2**31 - 1, 8, 2, b""), LARGE)
    yield wrong("bomb-one-row.png", _png_of(1, 2**31 - 1, 8, 0, b""), LARGE)
    # The rows are there and 100 MB follow them: what is not wanted must not be unpacked.
    yield right("bomb-behind-pixels.png", _png_of(*SIZE, 8, 0, bytes(100_000_000)), color=black)
    text = _chunk(b"zTXt", b"a\0\0" + many)
    yield wrong("bomb-in-text.png", _png_of(*SIZE, 8, 0, gray, text))
    profile = _chunk(b"iCCP", b"a\0\0" + many)
    yield wrong("bomb-in-profile.png", _png_of(*SIZE, 8, 0, gray, profile))
    texts = [_chunk(b"tEXt", b"a\0b")] * 5000
    yield right("many-chunks.png", _png_of(*SIZE, 8, 0, gray, *texts), color=black)


# --- TIFF and the rest ---------------------------------------------------------------------------


def _tiff_of(entries: list[tuple[int, int, int, int]], rest: bytes, *, following: int = 0) -> bytes:
    """Return a little-endian TIFF: entries (tag, type, count, value), then what they point to."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    directory = struct.pack("<H", len(entries)) + body + struct.pack("<I", following)
    return b"II*\0\x08\0\0\0" + directory + rest


def _gray_tiff(height: int, width: int, strip: int, length: int) -> list[tuple[int, int, int, int]]:
    """Entries of an uncompressed gray TIFF of one strip."""
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, length),
    ]  # fmt: skip


def _tiff() -> Iterator[Picture]:
    start = 8 + 2 + 9 * 12 + 4
    gray = bytes([77]) * (SIZE[0] * SIZE[1])
    dark = (77, 77, 77)
    good = _gray_tiff(*SIZE, start, len(gray))
    yield right("tif-plain.tif", _tiff_of(good, gray), color=dark)
    yield right("pages-in-a-circle.tif", _tiff_of(good, gray, following=8), color=dark)
    pages = [Image.new("RGB", (400, 300))]
    yield right("pages.tif", _saved(_image(), "TIFF", save_all=True, append_images=pages))
    yield right("lzw.tif", _saved(_image(), "TIFF", compression="tiff_lzw"))
    yield right("tif-cmyk.tif", _saved(_image("CMYK"), "TIFF"))
    yield right("fax.tif", _saved(_image("1"), "TIFF", compression="group4"), color=None)
    deep = np.asarray(_image("L")).astype(np.uint16) * 257
    lighter = (124, 124, 124)
    yield right("tif-16-bit.tif", _saved(Image.fromarray(deep), "TIFF"), color=lighter)
    for name, height, width in (("rows", 0, 40), ("columns", 30, 0)):
        nothing = _tiff_of(_gray_tiff(height, width, start, len(gray)), gray)
        yield wrong(f"tif-no-{name}.tif", nothing)
    yield wrong("floats.tif", _saved(_image("F"), "TIFF"), DEPTH)
    yield wrong("integers.tif", _saved(_image("I"), "TIFF"), DEPTH)
    yield wrong("tif-bomb.tif", _tiff_of(_gray_tiff(100_000, 100_000, start, 99), gray), LARGE)
    yield wrong("huge-sides.tif", _tiff_of(_gray_tiff(2**31, 2**31, start, 99), gray), LARGE)
    yield wrong("strip-outside.tif", _tiff_of(_gray_tiff(*SIZE, 2**31, len(gray)), gray))
    yield wrong("strip-cut.tif", _tiff_of(good, gray[:500]))
    yield wrong("no-strips.tif", _tiff_of([e for e in good if e[0] != 273], gray))
    yield wrong("cut-directory.tif", _tiff_of(good, gray)[:40])
    yield wrong("directory-outside.tif", b"II*\0\xff\xff\xff\x7f")
    lzw = _saved(_image(), "TIFF", compression="tiff_lzw")
    yield wrong("cut-lzw.tif", lzw[: len(lzw) // 2])
    many = [(e[0], e[1], 2**30 if e[0] == 273 else e[2], e[3]) for e in good]
    yield wrong("billion-strips.tif", _tiff_of(many, gray))


def _others() -> Iterator[Picture]:
    webp, bmp = _saved(_image(), "WEBP", lossless=True), _saved(_image(), "BMP")
    yield right("webp-plain.webp", webp)
    frames = [Image.new("RGB", SIZE[::-1], (0, 0, 255))] * 5
    yield right(
        "webp-animated.webp",
        _saved(_image(), "WEBP", lossless=True, save_all=True, append_images=frames),
    )
    for length in (10, 20, len(webp) - 9):
        yield wrong(f"cut-at-{length}.webp", webp[:length])
    yield right("bmp-plain.bmp", bmp)
    yield wrong("cut.bmp", bmp[:200])
    yield wrong("bmp-bomb.bmp", bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:], LARGE)
    yield wrong("negative.bmp", bmp[:18] + struct.pack("<ii", -40, 30) + bmp[26:], LARGE)
    yield wrong("bmp-no-columns.bmp", bmp[:18] + struct.pack("<ii", 0, 30) + bmp[26:])
    yield wrong("bmp-no-rows.bmp", bmp[:18] + struct.pack("<ii", 40, 0) + bmp[26:])
    gif = _saved(_image(), "GIF")
    yield right("gif-plain.gif", gif)
    yield right("gif-without-its-end.gif", gif[:-1])
    for length in (6, 10, 20, len(gif) // 2):
        yield wrong(f"cut-gif-at-{length}.gif", gif[:length])
    deep = np.asarray(_image()).astype(np.uint16) * 257
    header = f"{SIZE[1]} {SIZE[0]}"
    yield right("ppm-16-bit.ppm", f"P6 {header} 65535 ".encode() + deep.astype(">u2").tobytes())
    few = np.asarray(_image()).astype(float) * 1000 / 255
    few_rows = few.round().astype(">u2").tobytes()
    yield right("ten-bit.ppm", f"P6 {header} 1000 ".encode() + few_rows)
    for name, sides in (("columns", "0 30"), ("rows", "40 0"), ("sign", "-40 30")):
        yield wrong(f"ppm-no-{name}.ppm", f"P6 {sides} 255 ".encode() + bytes(3600))
    for maximum in (0, 70_000):
        body = f"P6 {header} {maximum} ".encode() + bytes(7200)
        yield wrong(f"maximum-{maximum}.ppm", body)
    yield right("ppm-plain.ppm", _saved(_image(), "PPM"))
    yield right("comment.ppm", b"P5\n# a comment\n1 1\n255\n\x09", (1, 1), (9, 9, 9))
    yield right("text.ppm", b"P3 1 1 255 200 100 50\n", (1, 1))
    yield wrong("ppm-cut.ppm", b"P6 40 30 255 " + bytes(100))
    yield wrong("no-maximum.ppm", b"P6 40 30 ")
    yield wrong("long-number.ppm", b"P6 " + b"9" * 5000 + b" 30 255 ")
    yield wrong("ppm-bomb.ppm", b"P6 60000 60000 255 ", LARGE)


def _liars() -> Iterator[Picture]:
    """Files whose names say something else."""
    animation = [Image.new("RGB", SIZE[::-1], (0, 0, 255))] * 5
    gif = _saved(_image(), "GIF", save_all=True, append_images=animation)
    yield right("is-png.jpg", _saved(_image(), "PNG"))
    yield right("is-jpeg.png", _saved(_image(), "JPEG"))
    yield right("is-animated-gif.jpg", gif)
    yield wrong("gif-bomb.png", gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:], LARGE)
    # Pillow would hand this one to Ghostscript, which would run the program in it.
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n"
    yield wrong("is-eps.jpg", program)
    yield wrong("is-pdf.jpg", _saved(_image(), "PDF"))
    yield wrong("is-icon.png", _saved(_image(), "ICO"))
    yield wrong("is-text.jpg", b"not a picture\n")
    yield wrong("is-html.jpg", b"<!DOCTYPE html><title>404</title>")
    yield wrong("is-svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    yield wrong("is-zip.png", b"PK\x03\x04" + bytes(100))
    yield wrong("empty.jpg", b"")
    yield wrong("zeros.png", bytes(10_000))
    yield wrong("one-byte.jpg", b"\xff")


def _no_files() -> Iterator[Picture]:
    """Names that are odd, and things that are not files."""
    plain = _saved(_image(), "PNG")
    yield right("name with\na line break.png", plain)
    yield right(os.fsdecode(b"not utf-8 \xff\xfe.png"), plain)
    yield right("-o.png", plain)
    yield right("\u202egnp.png", plain)
    yield right("é" * 120 + ".png", plain)  # 244 of the 255 bytes that a name may have
    yield Picture(name="pipe.jpg", content=None, rule=BROKEN, beside="pipe")
    yield Picture(name="folder.jpg", content=None, rule=BROKEN, beside="folder")
    yield Picture(name="gone.jpg", content=None, rule=BROKEN, beside="gone")
    yield Picture(name="link-to-itself.jpg", content=None, rule=UNREADABLE, beside="loop")
    yield Picture(name="secret.png", content=plain, size=SIZE, rule=UNREADABLE, beside="secret")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    print(f"{len(write_corpus(out))} pictures in {out}")
