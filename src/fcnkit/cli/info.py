"""``fcnkit info``: what a model file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fcnkit.cli.options import Json
from fcnkit.cli.say import say
from fcnkit.errors import missing_extra, printable

__all__ = ["info"]


def info(
    path: Annotated[Path, typer.Argument(help="Checkpoint, ONNX file, or engine with its .json.")],
    as_json: Json = False,
) -> None:
    """Show what a model file promises: classes, head, legal shapes, versions."""
    found = _describe(path)
    if as_json:
        say(json.dumps(found))
        return
    for line in _lines(found):
        say(printable(line))


def _describe(path: Path) -> dict[str, Any]:
    from fcnkit.runtime.artifacts.description import describe, kind_of

    if kind_of(path) != "checkpoint":
        return describe(path)
    try:
        from fcnkit.train.description import describe_checkpoint
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit info", str(error.name), "train") from error
    return describe_checkpoint(path)


def _lines(found: dict[str, Any]) -> list[str]:
    """Return one readable line per fact, nested ones as ``name.key``."""
    lines = [f"{found['path']}: {found['kind']}, {found['bytes']} bytes, sha256 {found['sha256']}"]
    rest = {key: value for key, value in found.items() if key not in _FIRST}
    flat = _flatten(rest, "")
    width = max(len(name) for name, _ in flat)
    return lines + [f"{name:<{width}}  {value}" for name, value in flat]


_FIRST = ("path", "kind", "bytes", "sha256")


def _flatten(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and set(value) == {"name", "dtype", "dims"}:
        dims = ", ".join(str(dim) for dim in value["dims"])
        return [(name, f"{value['name']} {value['dtype']} ({dims})")]
    if isinstance(value, dict):
        prefix = f"{name}." if name else ""
        return [pair for key, item in value.items() for pair in _flatten(item, prefix + key)]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [pair for item in value for pair in _flatten(item, name)]
    return [(name, _text(value, name))]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, (list, tuple)):
        return "none" if value is None else str(value)
    if any(isinstance(item, (list, tuple)) for item in value):  # the palette
        return "  ".join(_text(item, name) for item in value)
    joint = "x" if name.startswith("spec.shapes.") else ", "
    return joint.join(str(item) for item in value)
