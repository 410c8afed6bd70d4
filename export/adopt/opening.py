"""Which kind of source a name or a file is."""

from __future__ import annotations

import re
from pathlib import Path

import onnxruntime

from fcnkit.errors import BadValueError, message
from fcnkit.export.adopt.claims import Claims, ColorOrder, Upsampling
from fcnkit.export.adopt.core import foreign_core
from fcnkit.export.adopt.foreign_graph import cleaned
from fcnkit.export.adopt.normalization import own_normalization
from fcnkit.export.adopt.onnx_source import OnnxSource, open_onnx_source
from fcnkit.export.adopt.opened import Opened, Prepared
from fcnkit.export.adopt.probing import probe
from fcnkit.export.heads import Core
from fcnkit.runtime.artifacts.spec import Shape

__all__ = ["open_source"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def open_source(source: str | Path, claims: Claims, *, threads: int) -> Opened:
    """Read a source.

    Args:
        source: An ONNX file, a state dict or ``package.module:factory``.
        claims: What the user says.
        threads: CPU threads of one run.

    Returns:
        What was read.

    Raises:
        ArtifactError: It cannot be read.
        ValueError: It is not a source, or a claim does not fit its kind.
    """
    text = str(source)
    if isinstance(source, str) and _FACTORY.fullmatch(text) and not Path(text).exists():
        from fcnkit.export.adopt.factory import open_factory

        _check_output(claims, "a factory")
        return open_factory(text)
    path = Path(source)
    if path.suffix == ".onnx":
        return _open_onnx(path, claims, threads=threads)
    from fcnkit.export.adopt.state_dict import open_state_dict

    _check_output(claims, "a state dict")
    return open_state_dict(path)


def _check_output(claims: Claims, kind: str) -> None:
    if claims.output is not None:
        rule = "names an output of an ONNX file"
        raise BadValueError(message("--output", rule, kind, "leave it out"))


def _open_onnx(path: Path, claims: Claims, *, threads: int) -> Opened:
    source = open_onnx_source(path, output=claims.output, threads=threads)

    def prepare(multiple: int | None, shape: Shape | None) -> Prepared:
        return _prepare_onnx(source, multiple, shape)

    return Opened(
        where=str(path),
        name=path.name,
        architecture=path.stem,
        kind="onnx",
        sha256=source.sha256,
        run=source.run,
        library=f"onnxruntime {onnxruntime.__version__}",
        prepare=prepare,
        lines=source.facts,
    )


def _prepare_onnx(source: OnnxSource, multiple: int | None, shape: Shape | None) -> Prepared:
    where = str(source.path)
    # Refused by name first: a library would only say that it cannot run it.
    model = cleaned(source.model, source.output, where=where)
    facts = probe(source.run, source.declared, multiple=multiple, shape=shape, where=where)

    def core(classes: int, color: ColorOrder, upsample: Upsampling) -> Core:
        return foreign_core(model, facts, classes=classes, color=color, upsample=upsample)

    return Prepared(facts=facts, own=own_normalization(model), core=core)
