"""The files of ``fcnkit bench matrix``: which were given, and which are exported first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fcnkit.cli.matrix_apart import export_file, spec_of_checkpoint
from fcnkit.cli.options import use_factory
from fcnkit.errors import ArtifactError, BadValueError, Message, message
from fcnkit.runtime.artifacts.description import ENGINE_SUFFIXES, kind_of
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.bench.matrix_folder import MatrixFolder, key_of
from fcnkit.runtime.bench.own_process import call_apart
from fcnkit.runtime.files import sha256_of

if TYPE_CHECKING:
    from fcnkit.runtime.artifacts.spec import Head, Precision

__all__ = ["ModelFile", "Wanted", "export_missing", "open_sources", "sources_and_data"]

_EXPORTED: Final = (".onnx", *ENGINE_SUFFIXES)
_WHAT: Final = "bench matrix"
_VERSIONS: Final = ("fcnkit", "torch", "onnx", "onnxruntime")
"""Packages that decide what an export writes."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model file and what it promises."""

    path: Path
    sha256: str
    spec: ModelSpec

    @property
    def is_checkpoint(self) -> bool:
        """Whether it can be exported."""
        return kind_of(self.path) == "checkpoint"


def sources_and_data(arguments: Sequence[Path]) -> tuple[list[Path], Path | None]:
    """Tell the models from the data in what was typed.

    Args:
        arguments: Files and folders. A folder that holds exported models stands for them, any
            other folder is the data.

    Returns:
        The model files, each once, and the data; None without data.

    Raises:
        ValueError: There is no model, more than one folder of data, or a path that does not exist.
    """
    models: dict[Path, None] = {}
    data: list[Path] = []
    for path in arguments:
        if not path.exists():
            rule, remedy = "every SOURCE and DATA must exist", "check the path"
            raise BadValueError(message(_WHAT, rule, str(path), remedy))
        if not path.is_dir():
            models[path] = None
            continue
        held = sorted(file for file in path.iterdir() if file.suffix in _EXPORTED)
        models |= dict.fromkeys(held)
        data += [] if held else [path]
    if not models:
        got = ", ".join(map(str, arguments))
        remedy = "give best.pt, an exported model, or a folder with exported models"
        raise BadValueError(message(_WHAT, "there must be a model to measure", got, remedy))
    if len(data) > 1:
        got, remedy = ", ".join(map(str, data)), "give one of them"
        raise BadValueError(message(_WHAT, "takes one folder of data", got, remedy))
    return list(models), data[0] if data else None


def open_sources(paths: Sequence[Path], factory: str | None) -> list[ModelFile]:
    """Read what the files promise.

    Args:
        paths: Model files.
        factory: Of ``--model``.

    Returns:
        A file per content: a copy of a file is left out.

    Raises:
        ArtifactError: A file is not a model, or its classes are not those of the first one.
    """
    found: dict[str, ModelFile] = {}
    for path in paths:
        sha256 = sha256_of(path)
        spec = _spec_of(path, factory)
        found.setdefault(sha256, ModelFile(path=path, sha256=sha256, spec=spec))
    files = list(found.values())
    for file in files:
        if file.spec.classes != files[0].spec.classes:
            rule = f"its classes must be those of {files[0].path}"
            got = ", ".join(file.spec.classes)
            raise ArtifactError(message(str(file.path), rule, got, "compare them one by one"))
    return files


def _spec_of(path: Path, factory: str | None) -> ModelSpec:
    kind = kind_of(path)
    if kind == "onnx":
        return read_onnx_file(path).spec(where=str(path))
    if kind == "engine":
        return read_engine_file(path).spec
    answer = call_apart(spec_of_checkpoint, path, before=partial(use_factory, factory))
    if answer.failed is not None:
        raise ArtifactError(Message(answer.failed))
    return ModelSpec.from_json(answer.value, where=str(path))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is exported from checkpoints, and with what."""

    heads: Sequence[Head | None]
    """None is ``scores`` where the network has them, else ``logits``."""
    precisions: Sequence[Precision]
    calibration: Path | None
    data_key: str
    """Changes where the pictures to calibrate on do."""
    packages: dict[str, str]
    """Name to version."""
    factory: str | None = None


def export_missing(
    files: Sequence[ModelFile],
    wanted: Wanted,
    folder: MatrixFolder,
    *,
    until: float | None,
    advance: Callable[[int, int], None],
) -> Iterator[ModelFile | dict[str, Any]]:
    """Export what is not there yet.

    Args:
        files: The given files.
        wanted: What is exported from each checkpoint.
        folder: Where the files go and are found again.
        until: When to stop exporting, by ``time.monotonic``; None never does.
        advance: Called with how many exports are done, and of how many.

    Yields:
        Every file that was wanted and not given; a row that says why in place of one that could
        not be exported.
    """
    checkpoints = [file for file in files if file.is_checkpoint]
    orders = [
        (file, head, precision)
        for file in checkpoints
        for head, precision in product(wanted.heads, wanted.precisions)
        if not any(_is_export(other, file, head, precision) for other in files)
    ]
    stems = [file.path.stem for file in checkpoints]
    for done, (file, head, precision) in enumerate(orders):
        advance(done, len(orders))
        stem = file.path.stem
        name = stem if stems.count(stem) == 1 else f"{stem}-{file.sha256[:8]}"
        yield _export(file, head, precision, wanted, folder, name=name, until=until)


def _is_export(file: ModelFile, source: ModelFile, head: Head | None, precision: str) -> bool:
    """Whether a file is what an order would export."""
    spec = file.spec
    heads = ("scores", "logits") if head is None else (head,)
    same = spec.source.sha256 == source.sha256 and not file.is_checkpoint
    return same and spec.head in heads and spec.precision == precision


def _export(
    file: ModelFile,
    head: Head | None,
    precision: Precision,
    wanted: Wanted,
    folder: MatrixFolder,
    *,
    name: str,
    until: float | None,
) -> ModelFile | dict[str, Any]:
    key = key_of(
        export=file.sha256,
        head=head,
        precision=precision,
        data=wanted.data_key if precision == "int8" else None,
        packages={package: wanted.packages.get(package) for package in _VERSIONS},
    )
    kept = folder.finished(key)
    if kept is not None and (found := _exported(folder.models / kept["file"], kept["sha256"])):
        return found
    title = f"{file.path.name}, head {head or 'scores'}, {precision}"
    row = {"id": key, "title": title, "status": "not reached"}
    if until is not None and time.monotonic() >= until:
        return {**row, "reason": "half of the time was over before it was exported"}
    if precision == "int8" and wanted.calibration is None:
        rule = "int8 needs pictures to find the ranges of activations"
        reason = message("export", rule, "no DATA", "give the training data")
        return {**row, "status": "failed", "reason": reason}
    order = partial(
        export_file,
        file.path,
        folder.work,
        head=head,
        precision=precision,
        calibration=wanted.calibration if precision == "int8" else None,
    )
    answer = call_apart(order, until=until, before=partial(use_factory, wanted.factory))
    if answer.kind == "TimeoutError":
        return {**row, "reason": "half of the time was over while it was exported"}
    if answer.failed is not None:
        return {**row, "status": "failed", "reason": answer.failed}
    spec = read_onnx_file(answer.value).spec(where=str(answer.value))
    path = folder.models / f"{name}-{spec.head}-{precision}.onnx"
    beside = answer.value.with_suffix(".verify.json")
    beside.replace(path.with_suffix(".verify.json"))
    answer.value.replace(path)
    made = ModelFile(path=path, sha256=sha256_of(path), spec=spec)
    folder.keep(key, {"file": path.name, "sha256": made.sha256})
    return made


def _exported(path: Path, sha256: str) -> ModelFile | None:
    """Return the file of an earlier run where it is still the same."""
    if not path.is_file() or sha256_of(path) != sha256:
        return None
    spec = read_onnx_file(path).spec(where=str(path))
    return ModelFile(path=path, sha256=sha256, spec=spec)
