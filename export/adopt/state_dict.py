"""The weights in a file, whatever wraps them: a state dict of one of the known layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import torch
from torch import Tensor

from fcnkit.errors import ArtifactError, message
from fcnkit.export.adopt.layouts import find_layout
from fcnkit.export.adopt.opened import Opened
from fcnkit.runtime.artifacts.spec import METADATA_KEY
from fcnkit.runtime.files import sha256_of
from fcnkit.train import safetensors_file
from fcnkit.train.checkpoint import SAFETENSORS, is_model, read_archive

__all__ = ["open_state_dict", "read_state_dict"]

_WRAPPERS: Final = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
"""Keys under which training scripts save a state dict."""
_PREFIXES: Final = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and modules around the network put before every name."""
_FACTORY: Final = "write a function that returns the network, and adopt package.module:function"


def open_state_dict(path: Path) -> Opened:
    """Read a state dict of a known layout and build its network.

    Args:
        path: A .pt, .pth or .safetensors file.

    Returns:
        The source.

    Raises:
        ArtifactError: The file holds no state dict, or one of another layout.
    """
    weights, lines = read_state_dict(path)
    layout = find_layout(weights, where=str(path))
    return layout.open(path, sha256_of(path), lines)


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read named tensors; nothing in the file is executed.

    Args:
        path: The file.

    Returns:
        The tensors by the network's own names, and what was found out, a line each.

    Raises:
        ArtifactError: The file holds no state dict.
    """
    where = str(path)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        rule = "must be an ONNX file, a state dict or package.module:factory"
        raise ArtifactError(message(where, rule, got, "check the name"))
    if path.suffix == SAFETENSORS:
        tensors, metadata = safetensors_file.read(path)
        if METADATA_KEY in metadata:
            raise _ours(path)
        return _named(tensors, where, [])
    if not is_zipfile(path):
        raise _old_format(path)
    try:
        content = read_archive(path)
    except ArtifactError as error:
        needed = re.search(r"GLOBAL ([\w.]+)", str(error.__cause__))
        got = f"a pickle that needs {needed[1]}" if needed else _first_line(error)
        rule = "must be a state dict that torch can read without running code"
        remedy = "save it with torch.save(net.state_dict(), 'weights.pt')"
        raise ArtifactError(message(where, rule, got, remedy)) from None
    if is_model(content):
        raise _ours(path)
    lines = list[str]()
    return _named(_unwrapped(content, where, lines), where, lines)


def _first_line(error: ArtifactError) -> str:
    return (str(error.__cause__ or error).splitlines() or ["a broken file"])[0][:150]


def _ours(path: Path) -> ArtifactError:
    rule = "must be a network from elsewhere"
    remedy = f"use fcnkit export onnx {path} -o model.onnx"
    return ArtifactError(message(str(path), rule, "a file that fcnkit wrote", remedy))


def _old_format(path: Path) -> ArtifactError:
    """Refuse what torch before 1.6 wrote, with the command that converts it.

    That format is a bare pickle, whose sizes cannot be checked before it is read.
    """
    new = str(path.with_name(f"{path.stem}-new.pt"))
    code = f"import torch; torch.save(torch.load({str(path)!r}, weights_only=True), {new!r})"
    rule = "must be a zip archive as torch.save writes it"
    remedy = f'if you trust it, convert it with python -c "{code}"'
    return ArtifactError(message(str(path), rule, "a file of the format before torch 1.6", remedy))


def _unwrapped(content: object, where: str, lines: list[str]) -> Mapping[Any, object]:
    """Return the one state dict in what was saved."""
    rule = "must hold a state dict"
    if not isinstance(content, Mapping):
        got, remedy = type(content).__name__, "save net.state_dict()"
        raise ArtifactError(message(where, rule, got, remedy))
    for _ in range(3):
        if any(isinstance(value, Tensor) for value in content.values()):
            return content
        inner = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if len(inner) != 1:
            keys = ", ".join(str(key)[:40] for key in list(content)[:6]) or "nothing"
            found = f"{len(inner)} under {', '.join(inner)}" if inner else f"the keys {keys}"
            remedy = "save one of them alone, with torch.save(net.state_dict(), 'weights.pt')"
            raise ArtifactError(message(where, rule, found, remedy))
        lines.append(f"the state dict is under the key {inner[0]}")
        content = content[inner[0]]
        if not isinstance(content, Mapping):
            raise AssertionError  # only for type checkers: chosen as a mapping above
    got, remedy = "dicts in dicts", "save net.state_dict()"
    raise ArtifactError(message(where, rule, got, remedy))


def _named(
    content: Mapping[Any, object], where: str, lines: list[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Check every tensor, and take off what wrappers put before the names."""
    weights: dict[str, Tensor] = {}
    rule = "a state dict maps names to plain tensors of real numbers"
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            got = f"{str(key)[:60]} of type {type(value).__name__}"
            raise ArtifactError(message(where, rule, got, "save net.state_dict() alone"))
        if value.layout != torch.strided or value.is_complex() or value.is_quantized:
            got = f"{key} of {value.dtype}"
            raise ArtifactError(message(where, rule, got, "save a network in float32"))
        weights[key] = value
    if not weights:
        raise ArtifactError(message(where, "must hold a state dict", "no tensor", _FACTORY))
    for _ in range(4):
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in weights)), None)
        if prefix is None:
            break
        lines.append(f"{prefix} was taken off every name")
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    others = {value.dtype for value in weights.values() if value.is_floating_point()}
    lowered = sorted(map(str, others - {torch.float32}))
    lines.extend(f"weights in {dtype} become float32" for dtype in lowered)
    _check_finite(weights, where)
    return weights, tuple(lines)


def _check_finite(weights: dict[str, Tensor], where: str) -> None:
    for key, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            remedy = "take the weights of an earlier epoch"
            got = f"NaN or infinity in {key}"
            raise ArtifactError(message(where, "weights must be finite numbers", got, remedy))
