"""The pack for a GPU machine without a network: pruning, parts, unpacking and refusals."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_pack.__main__ import PackError, pinned, press
from benchmarks.gpu_pack.fatbin import prune
from tests.conftest import ROOT
from tests.refusal import refusal

MAGIC = 0xBA55ED50


def entry(kind: int, generation: int, code: bytes) -> bytes:
    """An entry of a container: 64 bytes of header and its code."""
    header = struct.pack("<HHIQ", kind, 0x101, 64, len(code)) + bytes(12)
    return (header + struct.pack("<I", generation)).ljust(64, b"\1") + code


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", MAGIC, 1, 16, len(body)) + body


def test_one_generation_is_kept_and_the_size_stays(tmp_path: Path) -> None:
    sm80, sm90, ptx = entry(2, 80, b"a" * 40), entry(2, 90, b"b" * 24), entry(1, 90, b"c" * 32)
    both, other = container(sm80, ptx, sm90), container(sm80)
    by_chance = struct.pack("<IHHQ", MAGIC, 1, 16, 1 << 40) + struct.pack("<I", MAGIC)
    parts = (b"\x7fELF", both, b"text", by_chance, other, container(sm90), b"end")
    library = tmp_path / "lib.so"
    library.write_bytes(b"".join(parts))
    found = prune(library, 90)
    kept_both = struct.pack("<IHHQ", MAGIC, 1, 16, len(sm90)) + sm90
    kept_none = struct.pack("<IHHQ", MAGIC, 1, 16, 0)
    wanted = (
        b"\x7fELF",
        kept_both.ljust(len(both), b"\0"),
        b"text",
        by_chance,
        kept_none.ljust(len(other), b"\0"),
        container(sm90),
        b"end",
    )
    assert library.read_bytes() == b"".join(wanted)
    assert found.before == {80: 2 * len(sm80), 90: 2 * len(sm90)}
    assert (found.kept, found.containers) == (2 * len(sm90), 3)


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_library_that_ends_within_a_container_is_left_alone(cut: int, tmp_path: Path) -> None:
    whole = container(entry(2, 90, b"b" * 24))
    library = tmp_path / "lib.so"
    library.write_bytes(whole[: len(whole) - cut] if cut < len(whole) else b"x")
    before = library.read_bytes()
    with pytest.raises(ValueError):
        prune(library, 90)
    assert library.read_bytes() == before


def test_a_library_without_that_generation_is_refused(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(container(entry(2, 75, b"a"), entry(2, 120, b"b")))
    before = library.read_bytes()
    text = (
        f"{library}: must hold machine code for GPU generation 90, got 75, 120; "
        "choose one of them with --arch"
    )
    with refusal(ValueError, text):
        prune(library, 90)
    assert library.read_bytes() == before


def test_a_part_unpacks_with_nothing_but_python(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, version in (("onnxruntime", "9.9"), ("tensorrt_rtx", "8.8"), ("fcnkit", "7.7")):
        (source / "site" / name).mkdir(parents=True)
        (source / "site" / name / "__init__.py").write_text(f"__version__ = '{version}'\n")
    (source / "site" / "tensorrt_rtx_libs").mkdir()
    (source / "project").mkdir()
    (source / "project" / "README.md").write_text("text")
    press(source, tmp_path / "part", 100_000)
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == [
        "part.tar.xz",
        "unpack.py",
    ]
    out = tmp_path / "out folder"
    # An environment in which fcnkit is installed in place would find that one first.
    python = Path(sys.base_prefix) / "bin" / "python3"
    done = subprocess.run(
        [str(python), str(tmp_path / "part" / "unpack.py"), str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"python {sys.version.split()[0]}",
        "fcnkit 7.7",
        "onnxruntime 9.9",
        "tensorrt_rtx 8.8",
    ]
    assert (out / "project" / "README.md").read_text() == "text"
    shown = subprocess.run(
        ["sh", "-c", '. "$0/env.sh"; printf "%s|%s" "$PYTHONPATH" "$LD_LIBRARY_PATH"', str(out)],
        capture_output=True,
        text=True,
        check=True,
    )
    paths, libraries = shown.stdout.split("|")
    assert paths == f"{out}/site:{out}/project"
    assert libraries.split(":")[0] == f"{out}/site/tensorrt_rtx_libs"


def test_a_part_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source" / "site").mkdir(parents=True)
    part = tmp_path / "part"
    with pytest.raises(PackError) as caught:
        press(tmp_path / "source", part, 10)
    size = sum(path.stat().st_size for path in part.iterdir())
    assert str(caught.value) == (
        f"{part}: must have at most 10 bytes, got {size}; raise --room if the transfer allows it"
    )


def test_the_packed_libraries_are_pinned() -> None:
    for package in ("onnxruntime", "tensorrt_rtx"):
        assert pinned(package)[0].isdigit()


def refused(*words: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gpu_pack", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    return done.stderr.removeprefix("warning: changes that are not committed are not packed\n")


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    assert refused("-o", str(tmp_path)) == (
        f"error: -o: must not exist yet, got {tmp_path}; name another folder\n"
    )
    nowhere = tmp_path / "no" / "pack"
    assert refused("-o", str(nowhere)) == (
        f"error: -o: its folder must exist, got {nowhere.parent}; create it first\n"
    )
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 3.9\n")
    fake.chmod(0o755)
    rule = "must be Python 3.12 with pip, to build the wheel for the GPU machine"
    assert refused("-o", str(tmp_path / "pack"), "--python", str(fake)) == (
        f"error: --python {fake}: {rule}, got 3.9; install it, or name one with --python\n"
    )
    absent = tmp_path / "absent"
    assert refused("-o", str(tmp_path / "pack"), "--python", str(absent)) == (
        f"error: --python {absent}: {rule}, got [Errno 2] No such file or directory: '{absent}'; "
        "install it, or name one with --python\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python"]
