"""Pack what a GPU machine without a network lacks, from a clean checkout, in one command.

    python -m benchmarks.gpu_pack -o pack [--python python3.12] [--arch 90] [--room BYTES]

``pack/a`` and ``pack/b`` go to the machine in two transfers of at most ROOM bytes each:

    a   this project at its last commit, fcnkit's wheel for Python 3.12, and onnxruntime-gpu with
        machine code for one GPU generation only
    b   TensorRT-RTX, the flavor for CUDA 12: its code also loads on drivers of CUDA 13.0

There, ``python3 pack/a/unpack.py FOLDER`` unpacks a part and prints what loads. The machine has
Python 3.12 with PyTorch for CUDA 13, onnx, cuda-bindings, pytest and hypothesis. Versions are those
of constraints.txt. Takes about seven minutes, 3 GB of temporary space and 3 GB of memory.
"""

from __future__ import annotations

import argparse
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from benchmarks.gpu_pack.fatbin import prune
from benchmarks.gpu_pack.unpack import PART
from fcnkit.errors import message

ROOT = Path(__file__).resolve().parents[2]
ROOM = 66_500_000
TARGET = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "any")
MOST_DICTIONARY = 192 << 20
"""Bytes in which a repeated kernel is found again. Compressing takes twelve times as much memory,
and unpacking once as much."""
CUDA_PROVIDER = "libonnxruntime_providers_cuda.so"
NEEDED = (CUDA_PROVIDER, "libonnxruntime_providers_shared.so", "onnxruntime_pybind11_state")
"""Shared libraries that a session with CUDA loads. The rest is for C++ and for TensorRT."""
LEFT_OUT = ("transformers", "quantization", "tools", "datasets")
"""Tools of onnxruntime that no session imports."""


class PackError(Exception):
    """The pack cannot be made; the text says why."""


def run(*words: object, folder: Path | None = None) -> str:
    """Run a command that must succeed and return what it printed."""
    command = list(map(str, words))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        got = f"exit code {done.returncode}: {(done.stderr or done.stdout)[-600:]}"
        remedy = "repair that and run the command again"
        raise PackError(message("gpu_pack", f"{' '.join(command[:6])} must succeed", got, remedy))
    return done.stdout


def find_python(name: str) -> str:
    """Return a Python of the machine's version, by its path."""
    remedy = "install it, or name one with --python"
    rule = f"must be Python {TARGET} with pip, to build the wheel for the GPU machine"
    try:
        command = [name, "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PackError(message(f"--python {name}", rule, str(error), remedy)) from None
    if done.returncode or done.stdout.strip() != TARGET:
        got = done.stdout.strip() or done.stderr.strip()
        raise PackError(message(f"--python {name}", rule, got, remedy))
    return name


def pinned(package: str) -> str:
    """Return the version of a package in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    if found is None:
        raise PackError(message("constraints.txt", f"must pin {package}", "no line", "add it"))
    return found[1]


def download(python: str, folder: Path, *requirements: str) -> list[Path]:
    """Fetch wheels for the GPU machine, each without its dependencies."""
    folder.mkdir()
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    only = ("--no-deps", "--only-binary", ":all:", "--python-version", TARGET, *platforms)
    run(python, "-m", "pip", "download", "-q", *only, "-d", folder, *requirements)
    return sorted(folder.glob("*.whl"))


def unzip(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def add_project(folder: Path, work: Path, python: str) -> None:
    """Lay the last commit into ``project`` and its wheel, unpacked, into ``site``."""
    project, archive = folder / "project", work / "project.tar"
    project.mkdir()
    run("git", "archive", "--output", archive, "HEAD", folder=ROOT)
    with tarfile.open(archive) as tar:
        tar.extractall(project, filter="data")
    source = work / "source"  # a copy, for a build leaves files behind
    shutil.copytree(project, source)
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", work / "wheel", source)
    for wheel in (work / "wheel").glob("*.whl"):
        unzip(wheel, folder / "site")


def add_onnxruntime(folder: Path, work: Path, python: str, arch: int) -> None:
    """Lay onnxruntime-gpu into ``site``, without what no session loads and for one GPU."""
    wanted = f"onnxruntime-gpu=={pinned('onnxruntime')}"
    (wheel,) = download(python, work / "onnxruntime", wanted)
    site = folder / "site"
    unzip(wheel, site)
    package = site / "onnxruntime"
    for name in LEFT_OUT:
        shutil.rmtree(package / name, ignore_errors=True)
    for path in (package / "capi").glob("*.so*"):
        if not path.name.startswith(NEEDED):
            path.unlink()
    pruned = prune(package / "capi" / CUDA_PROVIDER, arch)
    total = sum(pruned.before.values())
    print(f"{CUDA_PROVIDER}: kept {pruned.kept >> 20} of {total >> 20} MiB of machine code")


def add_tensorrt_rtx(folder: Path, work: Path, python: str) -> None:
    """Lay TensorRT-RTX into ``site``; its joining package is on PyPI as a source stub only."""
    version = pinned("tensorrt_rtx")
    names = [f"tensorrt-rtx-cu12-{part}=={version}" for part in ("libs", "bindings")]
    site = folder / "site"
    for wheel in download(python, work / "tensorrt-rtx", *names):
        unzip(wheel, site)
    face = site / "tensorrt_rtx"
    face.mkdir(exist_ok=True)
    lines = ("from tensorrt_rtx_bindings import *", "from tensorrt_rtx_bindings import __version__")
    (face / "__init__.py").write_text("\n".join([*lines, ""]), encoding="utf-8")


def filters(folder: Path) -> list[dict[str, int]]:
    """How to compress a folder of x86 machine code."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    dictionary = min(MOST_DICTIONARY, max(1 << 20, size))
    pressing = {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary}
    return [{"id": lzma.FILTER_X86}, pressing]


def press(folder: Path, part: Path, room: int) -> None:
    """Write a part: everything in ``folder``, compressed, and what unpacks it."""
    part.mkdir(parents=True)
    out = part / PART
    with (
        lzma.open(out, "w", filters=filters(folder)) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    shutil.copy(Path(__file__).with_name("unpack.py"), part)
    size = sum(path.stat().st_size for path in part.iterdir())
    print(f"{part}: {size:,} of {room:,} bytes")
    if size > room:
        rule, remedy = f"must have at most {room} bytes", "raise --room if the transfer allows it"
        raise PackError(message(str(part), rule, size, remedy))


def pack(out: Path, python: str, arch: int, room: int) -> None:
    """Make both parts, the small steps first; nothing appears in ``out`` before all succeeded."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pack-") as name:
        work = Path(name)
        for part in ("a", "b"):
            (work / part / "site").mkdir(parents=True)
            (work / f"{part}-work").mkdir()
        add_project(work / "a", work / "a-work", python)
        add_onnxruntime(work / "a", work / "a-work", python, arch)
        add_tensorrt_rtx(work / "b", work / "b-work", python)
        for part in ("a", "b"):
            press(work / part, work / "pack" / part, room)
        (work / "pack").rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="the folder to be made")
    parser.add_argument("--python", default=f"python{TARGET}", help=f"a Python {TARGET} with pip")
    parser.add_argument("--arch", type=int, default=90, help="GPU generation; 90: H100, H200")
    parser.add_argument("--room", type=int, default=ROOM, help="bytes that one transfer may carry")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    try:
        if out.exists():
            raise PackError(message("-o", "must not exist yet", str(out), "name another folder"))
        if not out.parent.is_dir():
            got = str(out.parent)
            raise PackError(message("-o", "its folder must exist", got, "create it first"))
        if run("git", "status", "--porcelain", "--untracked-files=no", folder=ROOT):
            print("warning: changes that are not committed are not packed", file=sys.stderr)
        pack(out, find_python(options.python), options.arch, options.room)
    except (PackError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
