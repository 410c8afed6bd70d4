"""What is fuzzed: every reader of bytes from strangers, one function of bytes each.

A target calls the reader and lets through what it may raise. Anything else, a crash or a call of
many seconds is a finding. ``CORPUS`` holds a few files per target to start from; a finding is
added there, and ``test_corpus.py`` replays all of them in every run of the tests.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from fcnkit.errors import DataError, FcnkitError
from fcnkit.runtime.artifacts.engine_file import read_engine_file, sidecar_path
from fcnkit.runtime.artifacts.engine_header import read_plan_header
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.predict.jpeg import decode_jpeg
from fcnkit.runtime.predict.manifest import Manifest, Options
from fcnkit.train.data.download import download_voc2012
from fcnkit.train.data.labelmap import read_labelmap
from fcnkit.train.data.voc import read_split
from tests.runtime.engines import rtx_plan

__all__ = ["CORPUS", "SEEDS", "TARGETS"]

CORPUS: Final = Path(__file__).parent / "corpus"

_MOST_PIXELS: Final = 1 << 20
"""Larger images would take long, and show nothing more."""


class _Places:
    """Folders in memory, where the machine has such, made when they are first needed."""

    def __init__(self) -> None:
        self._root: Path | None = None

    def empty(self, name: str) -> Path:
        """Return an empty folder; what an earlier call left in it is gone."""
        if self._root is None:
            memory = Path("/dev/shm")
            place = memory if memory.is_dir() else None
            self._root = Path(tempfile.mkdtemp(prefix="fcnkit-fuzz-", dir=place))
            atexit.register(shutil.rmtree, self._root, ignore_errors=True)
        folder = self._root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


_PLACES = _Places()


def spec(data: bytes) -> None:
    """A spec that is read is one that writes and reads itself again."""
    try:
        found = ModelSpec.from_json(data, where="spec")
    except FcnkitError:
        return
    assert ModelSpec.from_json(found.to_json(), where="spec") == found


def onnx(data: bytes) -> None:
    """Declarations of an ONNX file."""
    path = _PLACES.empty("onnx") / "m.onnx"
    path.write_bytes(data)
    try:
        read_onnx_file(path).spec(where="file")
    except FcnkitError:
        return


def plan(data: bytes) -> None:
    """The header of an engine's plan."""
    try:
        read_plan_header(data, where="plan", rebuild="make")
    except FcnkitError:
        return


def sidecar(data: bytes) -> None:
    """The sidecar of an engine whose plan is sound."""
    path = _PLACES.empty("sidecar") / "m.engine"
    path.write_bytes(rtx_plan())
    sidecar_path(path).write_bytes(data)
    try:
        read_engine_file(path)
    except FcnkitError:
        return


def manifest(data: bytes) -> None:
    """A manifest that an earlier run left, and a run that goes on with it."""
    out = _PLACES.empty("manifest")
    (out / "manifest.jsonl").write_bytes(data)
    (out / "a.png").write_bytes(b"x")
    options = Options(
        format="labels", cover="pad", tile=None, overlap=0, backend="onnxruntime", compute="fp32"
    )
    source = out / "a.jpg"
    source.write_bytes(b"x")
    for path in (source, out / "a.png"):  # what the seeds say of them
        os.utime(path, ns=(2, 2))
    with Manifest(out, options=options, model_sha256="0", resume=True) as opened:
        assert opened.earlier(Path("a.jpg"), Path("a.png")) is None
        assert opened.earlier(source, Path("a.png")) is None  # no picture, whatever a line says


def labelmap(data: bytes) -> None:
    """A label map that is read has as many different colors as classes."""
    path = _PLACES.empty("labelmap") / "labelmap.txt"
    path.write_bytes(data)
    try:
        found = read_labelmap(path)
    except DataError:
        return
    assert 1 <= len(found.classes) == len(set(found.palette)) <= 255


def names(data: bytes) -> None:
    """No name that is read from a list leads out of a folder."""
    root = _PLACES.empty("names")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(data)
    try:
        found = read_split(root, "train")
    except DataError:
        return
    for name in found:
        assert (root / name).parent == root
        assert name not in ("", ".", "..")


def tar(data: bytes) -> None:
    """An archive that unpacks writes inside its folder only, and one that does not, nothing."""
    place = _PLACES.empty("tar")
    out = place / "out"
    out.mkdir()
    (out / "VOCtrainval_11-May-2012.tar").write_bytes(data)
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    try:
        download_voc2012(out, url="http://127.0.0.1:9/", sha1=sha1)
        inside = {"VOCtrainval_11-May-2012.tar", "VOCdevkit"}
    except (FcnkitError, OSError):
        inside = {"VOCtrainval_11-May-2012.tar"}
    assert {path.name for path in out.iterdir()} <= inside
    assert [path.name for path in place.iterdir()] == ["out"]


def jpeg(data: bytes) -> None:
    """What simplejpeg decodes, Pillow decodes too, to the same pixels."""
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG",))
    except Exception:  # Pillow raises anything for a damaged header, and no other way is tried
        return
    with picture:
        if picture.width * picture.height > _MOST_PIXELS:
            return
        image_hwc = decode_jpeg(picture)
        if image_hwc is not None:
            assert np.array_equal(image_hwc, np.asarray(picture.convert("RGB")))


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    call.__name__: call
    for call in (spec, onnx, plan, sidecar, manifest, labelmap, names, tar, jpeg)
}

SEEDS: Final = {name: CORPUS / name for name in TARGETS}
"""The folder of files that each target starts from."""
