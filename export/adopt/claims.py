"""What a user says about a network from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Real
from pathlib import Path
from typing import Any, Final, Literal, get_args

from fcnkit.errors import BadTypeError, BadValueError, DataError, message, missing_extra
from fcnkit.runtime.artifacts.plain import is_text
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.checks import check_choice, check_int, check_type
from fcnkit.runtime.predict.bands import Bands, check_bands

__all__ = ["IMAGENET", "Claims", "ColorOrder", "Upsampling", "read_claims"]

ColorOrder = Literal["RGB", "BGR"]
Upsampling = Literal["bilinear", "align-corners"]
"""How scores of a lower resolution become as large as the image: bilinear without and with
``align_corners``, in PyTorch's terms."""

IMAGENET: Final = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
_MOST_BYTES: Final = 1 << 16
"""Of a file of claims: some ten lines."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What is said about a network; None where it is left to be found out.

    The network takes ``(value - mean) / std`` of every channel, where a value is 0..scale.
    """

    classes: int | None = None
    """Number of classes, where they have no names."""
    labelmap: Path | None = None
    """File of class names and colors, ``name:r,g,b::`` a line."""
    mean: tuple[float, float, float] | None = None
    """Per channel, in the network's order of channels and in units of 0..scale."""
    std: tuple[float, float, float] | None = None
    """As mean."""
    scale: int | None = None
    """255: the network takes 0..255. 1: it takes 0..1."""
    color: ColorOrder | None = None
    """The network's order of channels."""
    multiple: int | None = None
    """What both sides of an image must divide by."""
    name: str | None = None
    """What the network is called."""
    output: str | None = None
    """The output of an ONNX file that holds the scores or labels."""
    upsample: Upsampling | None = None
    """How scores of a lower resolution are enlarged."""
    bands: Bands | None = None
    """Which samples of an image file are red, green and blue, counted from 1."""

    def __post_init__(self) -> None:
        """Refuse values that no network has.

        Raises:
            TypeError: A value is of another type.
            ValueError: A value is out of range, or two of them exclude each other.
        """
        if self.classes is not None:
            check_int("--classes", self.classes, 1, VOID)
        if self.labelmap is not None:
            check_type("--labelmap", self.labelmap, Path)
            if self.classes is not None:
                rule, remedy = "the label map says how many classes there are", "leave one out"
                got = f"--classes {self.classes} as well"
                raise BadValueError(message("--labelmap", rule, got, remedy))
        if self.multiple is not None:
            check_int("--multiple", self.multiple, 1, 1024)
        _check_name("--name", self.name)
        _check_name("--output", self.output)
        check_bands("--bands", self.bands)
        if self.color is not None:
            check_choice("--color", self.color, get_args(ColorOrder))
        if self.upsample is not None:
            check_choice("--upsample", self.upsample, get_args(Upsampling))
        if self.scale is not None and (type(self.scale) is not int or self.scale not in (1, 255)):
            rule, remedy = "must be 1 or 255", "use 255 for a network that takes 0..255"
            raise BadValueError(message("--scale", rule, self.scale, remedy))
        self._check_normalization()

    def _check_normalization(self) -> None:
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if values is not None:
                _check_numbers(option, values)
        if self.std is not None and min(self.std) <= 0:
            raise BadValueError(message("--std", "must be positive", _text(self.std), "use 1,1,1"))
        if (self.mean is None) != (self.std is None):
            given, missing = ("--mean", "--std") if self.std is None else ("--std", "--mean")
            remedy = f"add {missing} {'1,1,1' if missing == '--std' else '0,0,0'}, or the real one"
            raise BadValueError(message(given, f"goes with {missing}", f"{given} alone", remedy))
        if self.mean is not None and self.scale == 1 and max(map(abs, self.mean)) > 1:
            rule = "must be within 0..1, as the network takes 0..1"
            remedy = "use --scale 255 for a network that takes 0..255"
            raise BadValueError(message("--mean", rule, _text(self.mean), remedy))


def _text(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _check_name(option: str, name: object) -> None:
    if name is None:
        return
    check_type(option, name, str)
    text = str(name)
    if not text.strip() or not is_text(text) or len(text) > 200:
        rule = "must be 1 to 200 characters without control characters"
        raise BadValueError(message(option, rule, repr(text), "use a short name"))


def _check_numbers(option: str, values: object) -> None:
    if not isinstance(values, tuple) or len(values) != 3:
        remedy = "write 0.485,0.456,0.406"
        raise BadValueError(message(option, "must be three numbers", _short(values), remedy))
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise BadTypeError(message(option, "must be numbers", _short(value), "write 0.5"))
        if not math.isfinite(value):
            raise BadValueError(message(option, "must be finite", str(value), "write 0.5"))


def _short(value: object) -> str:
    return repr(value) if isinstance(value, (str, int, float, tuple)) else type(value).__name__


_KEYS: Final = tuple(field.name for field in fields(Claims))


def read_claims(path: Path) -> dict[str, Any]:
    """Read claims from a small YAML or JSON file: the options' names without the dashes.

    Args:
        path: The file. A relative ``labelmap`` in it is relative to its folder.

    Returns:
        Keyword arguments of Claims.

    Raises:
        DataError: The file is missing, too large, or not such a file.
        MissingExtraError: A YAML file, and pyyaml is not installed.
    """
    data = _plain(path)
    if not isinstance(data, dict):
        rule = "must map names of options to values"
        raise DataError(message(str(path), rule, type(data).__name__, "write lines NAME: VALUE"))
    for key in data:
        if key not in _KEYS:
            rule = f"a key is one of {', '.join(_KEYS)}"
            raise DataError(message(str(path), rule, _short(key), "take it out"))
    given = {key: _value(path, key, value) for key, value in data.items() if value is not None}
    if "labelmap" in given:
        given["labelmap"] = path.parent / given["labelmap"]
    return given


def _value(path: Path, key: str, value: object) -> Any:
    """Turn a plain value into what Claims takes; its rules are checked there."""
    if key in ("mean", "std"):
        values = value if isinstance(value, list) else [value] * 3
        if len(values) == 3 and all(type(item) in (int, float) for item in values):
            return tuple(map(float, values))
        rule, remedy = f"{key} must be one or three numbers", "write [0.485, 0.456, 0.406]"
        raise DataError(message(str(path), rule, f"a {type(value).__name__}", remedy))
    if key == "bands":
        if isinstance(value, list):
            return tuple(value)
        rule = "bands must be three integers"
        raise DataError(message(str(path), rule, f"a {type(value).__name__}", "write [1, 2, 3]"))
    wanted = int if key in ("classes", "scale", "multiple") else str
    if type(value) is not wanted:
        rule = f"{key} must be {'an integer' if wanted is int else 'a string'}"
        raise DataError(message(str(path), rule, f"a {type(value).__name__}", "change its value"))
    return value


def _plain(path: Path) -> object:
    if not path.is_file():
        rule = "must be a YAML or JSON file"
        raise DataError(message(str(path), rule, "no file", "check the path"))
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        rule = f"must have at most {_MOST_BYTES} bytes"
        got = f"{path.stat().st_size} bytes"
        raise DataError(message(str(path), rule, got, "keep only what adopt reads"))
    if path.suffix == ".json":
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, "JSON", error) from None
    try:
        import yaml
    except ImportError:
        raise missing_extra(str(path), "yaml", "export") from None
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable(path, "YAML", error) from None


def _unreadable(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(message(str(path), f"must be {kind}", str(error)[:200], "correct the file"))
