"""Archives that reach out of their folder, and data sets that are not what they say."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fcnkit.train.data import download
from fcnkit.train.data.download import download_voc2012
from fcnkit.train.data.voc import open_voc, read_pair
from tests.faults.commands import fcnkit
from tests.faults.guarded import Answer, guarded
from tests.faults.table import Setting, Trial, judged, promise
from tests.train.folders import make_folder, write_image, write_indices

_FOUR_PARTS = r"[^\n]+: [^\n]+, got [^\n]*; [^\n]+"
_LISTS = "ImageSets/Segmentation"


def unpack(out: Path, sha1: str) -> str:
    """Unpack the archive that lies in a folder; no server is contacted."""
    return str(download_voc2012(out, url="http://127.0.0.1:9/", sha1=sha1))


def _tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name in ("train.txt", "val.txt"):
            good = tarfile.TarInfo(f"VOCdevkit/VOC2012/ImageSets/Segmentation/{name}")
            good.size = 2
            tar.addfile(good, io.BytesIO(b"a\n"))
        for member, content in members:
            member.size = member.size or len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **more: object):  # type: ignore[no-untyped-def]
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    for key, value in more.items():
        setattr(member, key, value)
    return member


def archives() -> dict[str, bytes]:
    """Return archives by name, every one of which must be refused."""
    inside = "VOCdevkit/VOC2012/"
    evil = b"evil"
    link, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    good = _tar()
    found = {
        "absolute": _tar((_member("/tmp/evil"), evil)),
        "nameless-file": _tar((_member(""), evil)),
        "file-named-dot": _tar((_member("."), evil)),
        "climbing": _tar((_member("../evil"), evil)),
        "climbing-inside": _tar((_member(f"{inside}a/../../../../evil"), evil)),
        "link-out": _tar((_member(f"{inside}out", link, "/etc"), b"")),
        "link-and-through": _tar(
            (_member(f"{inside}out", link, "../../.."), b""), (_member(f"{inside}out/evil"), evil)
        ),
        "hard-link-out": _tar((_member(f"{inside}out", hard, "/etc/passwd"), b"")),
        "hard-link-climbing": _tar((_member(f"{inside}out", hard, "../../../secret"), b"")),
        "pipe": _tar((_member(f"{inside}pipe", tarfile.FIFOTYPE), b"")),
        "device": _tar((_member(f"{inside}null", tarfile.CHRTYPE, devmajor=1, devminor=3), b"")),
        "file-then-folder": _tar((_member("x"), evil), (_member("x/evil"), evil)),
        "folder-then-file": _tar((_member("VOCdevkit"), evil)),
        "long-name": _tar((_member(inside + "a" * 5000), evil)),
        "deep": _tar((_member(inside + "a/" * 3000 + "evil"), evil)),
        "many": _tar(*[(_member(f"x/{i}"), b"") for i in range(2000)]),
        "no-lists": _other(),
        "text": b"no tar at all" * 100,
        "empty": b"",
        "zeros": bytes(10240),
    }
    huge = _member(f"{inside}huge")
    huge.size = 1 << 40
    head = huge.tobuf(tarfile.GNU_FORMAT)
    end = len(good.rstrip(b"\0")) // 512 * 512 + 512
    found["huge-member"] = good[:end] + head + b"evil" * 999
    found["damaged-header"] = good[:end] + b"x" * 512 + bytes(1024)
    for number, at in enumerate((100, 600, 1100, 1600)):
        found[f"cut-{number}"] = good[:at]
    for number, at in enumerate((5, 110, 130, 150, 158)):
        found[f"flipped-{number}"] = good[:at] + b"\xff" + good[at + 1 :]
    return found


def _other() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("other/readme"))
    return buffer.getvalue()


def _unpack_few(out: Path, sha1: str) -> str:
    download._MAX_MEMBERS = 1000
    return unpack(out, sha1)


@promise("An archive writes nothing outside its folder, fills no disk and leaves no half.")
def archives_are_refused(setting: Setting) -> Iterator[Trial]:
    for name, content in archives().items():
        place = setting.scratch("archive")
        (place / "secret").write_bytes(b"secret")
        out = place / "out"
        out.mkdir()
        (out / "VOCtrainval_11-May-2012.tar").write_bytes(content)
        before = _tree(place)
        sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        answer = guarded(_unpack_few, out, sha1)
        yield _refused(name, answer, system=True)
        left = _tree(place) ^ before
        yield Trial(f"{name}: nothing is left", "wrong" if left else "kept", f"{left}")
    evil = [path for path in (Path("/tmp/evil"), setting.folder / "evil") if path.exists()]
    yield Trial("nothing was written outside", "wrong" if evil else "kept", f"{evil}")


def _tree(folder: Path) -> set[str]:
    return {f"{path} {path.lstat().st_size}" for path in folder.rglob("*") if not path.is_dir()}


def _refused(case: str, answer: Answer, *, system: bool = False) -> Trial:
    """Judge a refusal; where ``system`` is, an error of the operating system will do."""
    if answer.kind in ("hung", "died"):
        return Trial(case, "hung" if answer.kind == "hung" else "wrong", answer.text)
    kinds = answer.error.split()
    if "DataError" in kinds and re.fullmatch(_FOUR_PARTS, answer.text):
        return Trial(case)
    if system and "OSError" in kinds:
        return Trial(case)
    return Trial(case, "wrong", f"{answer.kind} {kinds[:1]} {answer.text[:300]}")


# --- data sets -----------------------------------------------------------------------------------


def read_all(root: Path) -> int:
    """Open a data set and read every picture and mask of it."""
    pairs = 0
    for split in ("train", "val"):
        folder = open_voc(root, split=split)
        for sample in folder.samples:
            read_pair(sample, folder.labelmap)
            pairs += 1
    return pairs


def _list_of(*lines: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / _LISTS / "train.txt").write_bytes(b"\n".join(lines) + b"\n")

    return change


def _labelmap_of(text: bytes) -> Callable[[Path], None]:
    return lambda root: (root / "labelmap.txt").write_bytes(text)  # type: ignore[return-value]


def _mask(height: int, width: int, mode: str, color: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        Image.new(mode, (width, height), color).save(root / "SegmentationClass/a.png")

    return change


def _pipe(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        os.mkfifo(root / name)

    return change


def _folder(name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).unlink()
        (root / name).mkdir()

    return change


def _huge(name: str) -> Callable[[Path], None]:
    return lambda root: os.truncate(root / name, 1 << 40)


def _label(value: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write_indices(root / "SegmentationClass/a.png", np.full((6, 8), value, np.uint8))

    return change


def _renumbered(root: Path) -> None:
    mask = Image.new("P", (8, 6), 1)
    mask.putpalette([0, 0, 0, 0, 255, 0, 255, 0, 0])
    mask.save(root / "SegmentationClass/a.png")


def datasets() -> dict[str, Callable[[Path], object]]:
    """Return what breaks a good data set, by name."""
    listed = {
        f"listed-{number}": _list_of(name)
        for number, name in enumerate(
            [b"../a", b"/etc/passwd", b"a/../a", b"..", b"a\0b", b"a\\b", b"a.jpg", b"\xff\xfe",
             b"JPEGImages/a", b"a" * 10_000, b"*", b"~"]
        )
    }  # fmt: skip
    maps = {
        f"labelmap-{number}": _labelmap_of(text)
        for number, text in enumerate(
            [b"", b"a", b"a:1,2", b"a:256,0,0::", b"a:-1,0,0::", b"a:1,2,3::\na:4,5,6::",
             b"a:1,2,3::\nb:1,2,3::", b"void:1,2,3::\na:4,5,6::", b"\x1b[2J:1,2,3::", b"\xff",
             b"a:" + b"9" * 5000 + b",0,0::", b"a:1.5,0,0::", b":1,2,3::"]
        )
    }  # fmt: skip
    return {
        **listed,
        **maps,
        "huge-list": _huge(f"{_LISTS}/train.txt"),
        "huge-labelmap": _huge("labelmap.txt"),
        "pipe-as-list": _pipe(f"{_LISTS}/train.txt"),
        "pipe-as-labelmap": _pipe("labelmap.txt"),
        "pipe-as-picture": _pipe("JPEGImages/a.jpg"),
        "pipe-as-mask": _pipe("SegmentationClass/a.png"),
        "folder-as-picture": _folder("JPEGImages/a.jpg"),
        "folder-as-mask": _folder("SegmentationClass/a.png"),
        "folder-as-labelmap": _folder("labelmap.txt"),
        "folder-as-list": _folder(f"{_LISTS}/train.txt"),
        "unknown-color": _mask(6, 8, "RGB", (1, 2, 3)),
        "unknown-label": _label(77),
        "label-above": _label(3),
        "renumbered-palette": _renumbered,
        "one-bit-mask": _mask(6, 8, "1", 1),
        "deep-mask": _mask(6, 8, "I;16", 1),
        "mask-of-another-size": _mask(7, 8, "RGB", (255, 0, 0)),
        "turned-mask": _mask(8, 6, "RGB", (255, 0, 0)),
        "picture-is-gif": lambda root: Image.new("L", (8, 6)).save(
            root / "JPEGImages/a.jpg", "GIF"
        ),
        "picture-is-empty": lambda root: (root / "JPEGImages/a.jpg").write_bytes(b""),
        "two-pictures": lambda root: write_image(root / "JPEGImages/a.png", 6, 8),
        "no-mask": lambda root: (root / "SegmentationClass/a.png").unlink(),
        "loop": lambda root: _loop(root / "JPEGImages/a.jpg"),
    }


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@promise("A data set that is not what it says is refused with the file's name, before training.")
def datasets_are_refused(setting: Setting) -> Iterator[Trial]:
    for name, change in datasets().items():
        root = setting.scratch("data") / "d"
        make_folder(root, train=["a", "b"], val=["b"])
        change(root)
        answer = guarded(read_all, root)
        yield _refused(name, answer)
        if answer.kind == "error" and str(root) not in answer.text:
            yield Trial(name, "wrong", f"no file is named: {answer.text[:200]}")
        if setting.full or name in ("listed-0", "pipe-as-list", "unknown-color"):
            done = fcnkit("data", "check", root)
            fault = None if done.code in (1, 2) else f"exit code {done.code}"
            if "Traceback" in done.err:
                fault = done.err[-300:]
            yield judged(f"data check {name}", done, fault)
    root = setting.scratch("data") / "d"
    answer = guarded(read_all, make_folder(root, train=["a", "b"], val=["b"]))
    right = (answer.kind, answer.text) == ("value", "3")
    yield Trial("a good one is read", "kept" if right else "lost", f"{answer}")
