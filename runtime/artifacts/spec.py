"""ModelSpec: what a checkpoint, an ONNX file or an engine promises about itself.

One frozen dataclass is the contract between the stages. It travels as JSON: inside a checkpoint,
in an ONNX file's ``metadata_props`` (key ``fcnkit.spec``), and beside an engine as
``model.engine.json``. Reading is closed-world: an unknown format, a missing or extra key or a
wrong type is an error that names the key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from fcnkit.errors import ArtifactError, message, within
from fcnkit.runtime.artifacts.plain import EXPORT_AGAIN, is_text, key_error, read_plain
from fcnkit.runtime.artifacts.precisions import Precision
from fcnkit.runtime.artifacts.shapes import Shape, format_shape, parse_shape

__all__ = [
    "FORMAT",
    "METADATA_KEY",
    "OPTIONAL_PARTS",
    "STRIDES",
    "Border",
    "Form",
    "Head",
    "InputSpec",
    "LastLayer",
    "ModelSpec",
    "OutputSpec",
    "Precision",
    "Shape",
    "ShapeRange",
    "SourceSpec",
    "Tta",
    "format_shape",
    "hull",
    "parse_shape",
]

FORMAT: Final = 2
"""Version of the JSON form that is written. Format 1 is format 2 without its optional parts and
stays readable; every other version is refused."""

OPTIONAL_PARTS: Final = ("last_layer", "confidence", "adopted", "range", "bands", "tta")
"""What format 2 added: keys that are always there and null where a model does not have the part."""

METADATA_KEY: Final = "fcnkit.spec"
"""Key of the spec in an ONNX file's ``metadata_props``."""

VOID: Final = 255
"""Label of pixels that count for nothing."""

Tta = Literal["flip"]
"""Test-time augmentation: the mean of the logits of an image and of its mirror image."""

Head = Literal["logits", "scores", "labels", "scene"]
"""What a graph gives. ``scores`` are the class scores before the last upsampling, which the
runtime does: see LastLayer."""

Border = Literal["zero", "edge"]
"""What a last layer sees outside of a tile: zeros, or the outermost scores again."""
Form = Literal["dense", "diagonal"]

STRIDES: Final = (2, 64)
"""The smallest and the largest stride of a last layer; it is even."""

_MAX_SMALLEST: Final = 1 << 26
"""Pixels of the smallest legal shape: 8192x8192, far more than any network here asks for."""


def hull(ranges: Sequence[ShapeRange]) -> ShapeRange:
    """Return the range from the smallest to the largest side of all; opt is the first one's."""
    lows = zip(*(one.min for one in ranges), strict=True)
    highs = zip(*(one.max for one in ranges), strict=True)
    batch, height, width = map(min, lows)
    most, tallest, widest = map(max, highs)
    return replace(ranges[0], min=(batch, height, width), max=(most, tallest, widest))


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input tensor. Mean and std are in units of a picture scaled to 0..1, per RGB channel."""

    name: str
    layout: Literal["NCHW", "NHWC"]
    dtype: Literal["float32", "uint8"]
    color: Literal["RGB"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    multiple: int
    """Both sides of the picture must divide by this many pixels."""


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The output tensor."""

    name: str
    layout: Literal["NCHW", "NHW"]
    dtype: Literal["float32", "uint8"]


@dataclass(frozen=True, kw_only=True)
class LastLayer:
    """The upsampling that turns class scores into logits: a transposed convolution.

    Its kernel is two strides wide and its padding half a stride. Its weights are in the ONNX file,
    or beside the engine.
    """

    stride: int
    """By how much the scores are smaller than the image."""
    border: Border
    """What lies outside the scores: zeros, or the nearest score, as in a bilinear resize."""
    form: Form
    """Whether every class reads the scores of all classes (dense), or its own only (diagonal)."""
    bytes: int
    """Size of weights and bias in float32."""
    sha256: str
    """Of these bytes, little-endian: the weights, then the bias."""

    def weights_shape(self, classes: int) -> tuple[int, ...]:
        """Return the shape of the weights: (C, C, K, K) if dense, else (C, K, K)."""
        side = 2 * self.stride
        return (*([classes] * (2 if self.form == "dense" else 1)), side, side)


@dataclass(frozen=True, kw_only=True)
class ShapeRange:
    """Legal input shapes (N, H, W); opt is the one a builder tunes for."""

    min: Shape
    opt: Shape
    max: Shape


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Where the model comes from."""

    sha256: str | None
    """Of the file this one was made from; None for a checkpoint."""
    parity: str | None
    """One line of what the comparison with the source measured; None before it ran."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a model file promises: see the module's text."""

    format: int
    architecture: str
    head: Head
    precision: Precision
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int
    input: InputSpec
    output: OutputSpec
    shapes: ShapeRange
    source: SourceSpec
    versions: dict[str, str]
    last_layer: LastLayer | None = None
    """For head ``scores``: the upsampling that the runtime does."""
    confidence: OutputSpec | None = None
    """A second output of heads ``labels`` and ``scene``: 255 times the probability of each label,
    rounded."""
    adopted: None = None
    """What was said or found out about a network from elsewhere. No model has it yet."""
    range: tuple[int, int] | None = None
    """Raw values of a file with more than 8 bits per sample that become 0 and 255; None: all."""
    bands: tuple[int, int, int] | None = None
    """Which samples of a file are red, green and blue, counted from 1; None: as the file says."""
    tta: Tta | None = None
    """Of head ``scene``: ``flip`` where the graph takes the mean over each tile and its mirror
    image."""

    def __post_init__(self) -> None:
        """Refuse values that no stage can use.

        Raises:
            ArtifactError: naming the key, the rule and the value.
        """
        for rule in _RULES:
            rule(self)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The output tensors, in the order of the graph."""
        return (self.output,) if self.confidence is None else (self.output, self.confidence)

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.classes)

    @property
    def can_average(self) -> bool:
        """Whether the output can be averaged where tiles overlap: it is not labels."""
        return self.output.layout == "NCHW"

    @property
    def stride(self) -> int:
        """By how much the output is smaller than the image."""
        return 1 if self.last_layer is None else self.last_layer.stride

    def with_parity(self, parity: str) -> ModelSpec:
        """Return a copy that records what the comparison with the source measured."""
        return replace(self, source=replace(self.source, parity=parity))

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the JSON form, keys in the order of the fields."""
        return json.dumps(asdict(self), indent=indent)

    @staticmethod
    def from_older(data: dict[str, Any]) -> dict[str, Any]:
        """Turn older JSON forms into today's; anything else is left for the checks.

        Format 1 has no optional parts. The first files of format 2 lack ``bands`` and ``tta``.
        """
        if type(data.get("format")) is not int or data["format"] != 1:
            later = {"bands": None, "tta": None}
            return {**later, **data} if data.get("format") == FORMAT else data
        for part in OPTIONAL_PARTS:
            if part in data:
                raise key_error(part, "is not a key of format 1", data[part])
        return {**data, "format": FORMAT, **dict.fromkeys(OPTIONAL_PARTS)}

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> ModelSpec:
        """Read the JSON form, closed-world.

        Args:
            text: A JSON object.
            where: The file, for the error.

        Returns:
            The spec.

        Raises:
            ArtifactError: The text is not a JSON object of this format, or a key is missing,
                unknown or of a wrong type or value.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(
                message(where, "the model spec must be JSON", str(error), EXPORT_AGAIN)
            ) from error
        if isinstance(data, dict) and data.get("format") not in (1, FORMAT):
            raise ArtifactError(
                message(
                    f"{where}: format",
                    f"this fcnkit reads formats 1 and {FORMAT}",
                    data.get("format"),
                    "use the fcnkit version that wrote the file, or export the model again",
                )
            )
        try:
            spec = read_plain(cls, data)
        except ArtifactError as error:
            raise ArtifactError(within(where, error)) from None
        return spec


def _check_format(spec: ModelSpec) -> None:
    if spec.format != FORMAT:
        raise key_error("format", f"must be {FORMAT}", spec.format)


def _check_classes(spec: ModelSpec) -> None:
    if not 1 <= len(spec.classes) <= VOID:
        raise key_error("classes", f"must be 1 to {VOID} names", f"{len(spec.classes)} names")
    if len(set(spec.classes)) != len(spec.classes):
        raise key_error("classes", "names must differ", list(spec.classes))
    if len(spec.palette) != len(spec.classes):
        rule = f"must have one color per class, {len(spec.classes)}"
        raise key_error("palette", rule, f"{len(spec.palette)} colors")
    for name in spec.classes:
        if not is_text(name):
            raise key_error("classes", "must be text without control characters", repr(name))
    for color in spec.palette:
        if not all(0 <= value <= 255 for value in color):
            raise key_error("palette", "colors are 0..255", list(color))
    if spec.ignore_index != VOID:
        raise key_error("ignore_index", f"must be {VOID}", spec.ignore_index)


def _check_input(spec: ModelSpec) -> None:
    floats = spec.head in ("logits", "scores")
    layout, dtype = ("NCHW", "float32") if floats else ("NHWC", "uint8")
    if (spec.input.name, spec.input.layout, spec.input.dtype) != ("image", layout, dtype):
        got = f"{spec.input.name} {spec.input.layout} {spec.input.dtype}"
        raise key_error("input", f"head {spec.head} takes image {layout} {dtype}", got)
    name, layout, dtype = (spec.head, "NCHW", "float32") if floats else ("labels", "NHW", "uint8")
    if (spec.output.name, spec.output.layout, spec.output.dtype) != (name, layout, dtype):
        got = f"{spec.output.name} {spec.output.layout} {spec.output.dtype}"
        raise key_error("output", f"head {spec.head} gives {name} {layout} {dtype}", got)
    if not all(0.0 < value < float("inf") for value in spec.input.std):
        raise key_error("input.std", "must be positive", list(spec.input.std))
    if not all(abs(value) < float("inf") for value in spec.input.mean):
        raise key_error("input.mean", "must be finite", list(spec.input.mean))
    if spec.input.multiple < 1:
        raise key_error("input.multiple", "must be at least 1", spec.input.multiple)


def _check_confidence(spec: ModelSpec) -> None:
    part = spec.confidence
    if part is None:
        return
    if spec.head not in ("labels", "scene"):
        raise key_error("confidence", f"must be null for head {spec.head}", part.name)
    if (part.name, part.layout, part.dtype) != ("confidence", "NHW", "uint8"):
        got = f"{part.name} {part.layout} {part.dtype}"
        raise key_error("confidence", "must be confidence NHW uint8", got)


def _check_shapes(spec: ModelSpec) -> None:
    low, opt, high = spec.shapes.min, spec.shapes.opt, spec.shapes.max
    ordered = all(1 <= a <= b <= c for a, b, c in zip(low, opt, high, strict=True))
    if not ordered:
        got = f"{format_shape(low)} {format_shape(opt)} {format_shape(high)}"
        raise key_error("shapes", "must be ordered 1 <= min <= opt <= max", got)
    for name, shape in (("min", low), ("opt", opt), ("max", high)):
        if any(side % spec.input.multiple for side in shape[1:]):
            rule = f"sides must be multiples of {spec.input.multiple}"
            raise key_error(f"shapes.{name}", rule, format_shape(shape))
    # Every picture is padded to this size: a file must not request any amount of memory.
    if low[0] * low[1] * low[2] > _MAX_SMALLEST:
        rule = f"must have at most {_MAX_SMALLEST} pixels"
        raise key_error("shapes.min", rule, format_shape(low))


def _check_range(spec: ModelSpec) -> None:
    if spec.range is not None and not 0 <= spec.range[0] < spec.range[1] <= 65535:
        raise key_error("range", "must be low < high within 0..65535", list(spec.range))


def _check_last_layer(spec: ModelSpec) -> None:
    layer = spec.last_layer
    if (layer is not None) != (spec.head == "scores"):
        rule = "goes with head scores, which needs it"
        got = f"head {spec.head} and {'none' if layer is None else 'one'}"
        raise key_error("last_layer", rule, got)
    if layer is None:
        return
    low, high = STRIDES
    if layer.stride % 2 or not low <= layer.stride <= high:
        raise key_error("last_layer.stride", f"must be even and {low} to {high}", layer.stride)
    if spec.input.multiple % layer.stride:
        rule = f"must divide the multiple of the sides, {spec.input.multiple}"
        raise key_error("last_layer.stride", rule, layer.stride)
    held = 4 * (math.prod(layer.weights_shape(spec.num_classes)) + spec.num_classes)
    if layer.bytes != held:
        raise key_error("last_layer.bytes", f"must be {held} for these classes", layer.bytes)
    if not re.fullmatch("[0-9a-f]{64}", layer.sha256):
        raise key_error("last_layer.sha256", "must be 64 hexadecimal digits", layer.sha256)


def _check_bands(spec: ModelSpec) -> None:
    if spec.bands is not None and not all(1 <= band <= 65535 for band in spec.bands):
        raise key_error("bands", "must be numbers of samples, 1..65535", list(spec.bands))


def _check_tta(spec: ModelSpec) -> None:
    if spec.tta is not None and spec.head != "scene":
        raise key_error("tta", f"must be null for head {spec.head}", spec.tta)


_RULES = (
    _check_format,
    _check_classes,
    _check_input,
    _check_confidence,
    _check_shapes,
    _check_range,
    _check_last_layer,
    _check_bands,
    _check_tta,
)
