"""A network to the graph of a head in a precision, in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Final, assert_never

import onnx
import torch

from fcnkit.errors import BadValueError, message
from fcnkit.export.calibration import Calibration, model_inputs
from fcnkit.export.choices import Activations, Ranges
from fcnkit.export.confidence import CONFIDENCE
from fcnkit.export.core_graph import CoreGraph
from fcnkit.export.half import to_half
from fcnkit.export.heads import (
    Core,
    add_last_layer,
    labels_model,
    logits_model,
    scores_model,
    tiles_model,
)
from fcnkit.export.int8 import find_ranges, to_int8
from fcnkit.export.int8_bias import correct_biases, input_means
from fcnkit.export.last_layer import FEATURES, of_layer, of_resize
from fcnkit.export.precision import default_kept, keeper
from fcnkit.export.scene import wrap_scene
from fcnkit.export.trace import OPSET, trace
from fcnkit.runtime.artifacts.last_layer import LastLayerWeights
from fcnkit.runtime.artifacts.spec import (
    Head,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Precision,
    Shape,
    ShapeRange,
    SourceSpec,
    Tta,
    format_shape,
)
from fcnkit.runtime.backends.base import nearest_legal
from fcnkit.train.frozen import frozen_copy
from fcnkit.train.models import SegmentationNet, SubpixelConvTranspose2d
from fcnkit.train.models.base import MULTIPLE

__all__ = [
    "Typing",
    "build_graph",
    "build_typed",
    "head_spec",
    "to_precision",
    "trace_core",
    "with_resize",
]

_SCENE_MAX: Final[Shape] = (1, 4096, 4096)


@dataclass(frozen=True, kw_only=True)
class Typing:
    """How a graph gets a precision other than float32."""

    keep_fp32: tuple[str, ...] = ()
    """Modules that stay in float32 besides those of default_kept."""
    calibration: Calibration | None = None
    """What int8 is calibrated on."""
    activations: Activations = "uint8"
    """Of int8."""
    ranges: Ranges = "minmax"
    """Of int8."""
    correct_bias: bool = False
    """Whether int8 shifts the biases by the mean error of the weights."""
    search: bool = False
    """Whether ranges, correct_bias and more of keep_fp32 are searched for first."""


def trace_core(net: SegmentationNet, classes: int, *, opset: int = OPSET) -> Core:
    """Trace the part of a network that all heads share.

    Args:
        net: The network, which is left as it is.
        classes: K.
        opset: Version of the operator set.

    Returns:
        The core, in float32.
    """
    graph = CoreGraph(frozen_copy(net))
    # At stride 64, no map is a single pixel here: PyTorch would trace its size as fixed.
    example = torch.zeros(2, 3, 128, 192)
    model = trace(graph, example, "image", "fine", last=graph.last_name, opset=opset)
    core = Core(
        model=model,
        stride=graph.stride,
        classes=classes,
        scores=graph.score_names(classes),
    )
    last = net.last_step
    if not isinstance(last, SubpixelConvTranspose2d):
        return with_resize(core, least=(1, MULTIPLE, MULTIPLE), fixed=False)
    return _with(core, of_layer(last, classes) if net.upsamples_scores else FEATURES)


def with_resize(core: Core, *, least: Shape, fixed: bool) -> Core:
    """Return a core that knows its last layer, where it ends in a bilinear resize of scores.

    Args:
        core: A core whose graph ends as the network does.
        least: The smallest legal shape.
        fixed: Whether that is the only one.
    """
    found = of_resize(
        core.model, classes=core.classes, multiple=core.multiple, least=least, fixed=fixed
    )
    return _with(core, found)


def _with(core: Core, found: LastLayerWeights | str) -> Core:
    if isinstance(found, str):
        return replace(core, no_scores=found)
    return replace(core, last_layer=found)


def build_graph(
    core: Core, spec: ModelSpec, typing: Typing | None = None
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Complete a core to the graph of a head, without metadata.

    Args:
        core: The network.
        spec: Says which head and precision.
        typing: How the precision is reached; int8 needs its pictures.

    Returns:
        The ONNX model, and the modules that stay in float32 in it. Its sides are declared as
        ``32*h`` and ``32*w`` except for ``scene``; what the spec allows one size of, as a number.

    Raises:
        ValueError: A module to be kept is not there.
        ArtifactError: A weight does not fit the precision.
        DataError: A picture to calibrate on is broken.
    """
    _, model, kept = build_typed(core, spec, typing or Typing())
    if spec.head == "scene":
        sure = spec.confidence is not None
        flip = spec.tta == "flip"
        model = wrap_scene(model, multiple=core.multiple, confidence=sure, flip=flip)
    if spec.head == "scores" and core.last_layer is not None:
        add_last_layer(model, core.last_layer)
    _fix_dims(model, spec)
    return model, kept


def _fix_dims(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Declare the batch and the sides of which the spec allows one size."""
    limits = zip("NHW", spec.shapes.min, spec.shapes.max, strict=True)
    fixed = {axis: low for axis, low, high in limits if low == high}
    results = ((one.layout, spec.stride) for one in spec.outputs)
    for tensor, (layout, stride) in (
        (model.graph.input[0], (spec.input.layout, 1)),
        *zip(model.graph.output, results, strict=True),
    ):
        for axis, dim in zip(layout, tensor.type.tensor_type.shape.dim, strict=True):
            if axis in fixed:
                dim.dim_value = fixed[axis] if axis == "N" else fixed[axis] // stride


def build_typed(
    core: Core, spec: ModelSpec, typing: Typing
) -> tuple[onnx.ModelProto, onnx.ModelProto, tuple[str, ...]]:
    """Build the part of a head that has the precision: all of it, or the middle of ``scene``.

    Args:
        core: The network.
        spec: Says which head and precision.
        typing: How the precision is reached.

    Returns:
        The graph in float32, the same in the precision, and the modules that stay in float32.

    Raises:
        As build_graph.
    """
    if spec.head == "logits":
        plain = logits_model(core)
    elif spec.head == "scores":
        plain = scores_model(core)
    elif spec.head == "labels":
        plain = labels_model(core, spec.input, confidence=spec.confidence is not None)
    else:
        plain = tiles_model(core, spec.input)
    kept = (*default_kept(spec.precision, core), *typing.keep_fp32)
    if spec.head == "labels" and spec.confidence is not None and spec.precision != "fp32":
        # The argmax too: beside float32, ONNX Runtime rounds what an argmax in float16 reads, and
        # some labels would not be those of the graph without confidence.
        kept = (*kept, "labels", CONFIDENCE)
    return plain, to_precision(plain, spec, kept, typing), kept


def to_precision(
    model: onnx.ModelProto, spec: ModelSpec, kept: tuple[str, ...], typing: Typing
) -> onnx.ModelProto:
    """Bring a float32 graph to the precision of a spec.

    Args:
        model: The graph, which is left as it is.
        spec: Says which head and precision.
        kept: The modules that stay in float32.
        typing: How the precision is reached.

    Returns:
        The typed graph; for fp32 the same one.

    Raises:
        As build_graph.
    """
    stays = keeper(model, kept)
    match spec.precision:
        case "fp32":
            return model
        case "fp16":
            return to_half(model, kept=stays)
        case "int8":
            if typing.calibration is None:
                raise AssertionError  # a caller's mistake: export_onnx asks its user for pictures
            inputs = partial(model_inputs, typing.calibration, spec)
            kind = typing.activations
            ranges = find_ranges(model, inputs(), ranges=typing.ranges, activations=kind)
            result = to_int8(model, ranges, kept=stays, activations=kind)
            if typing.correct_bias:
                correct_biases(result, model, input_means(model, inputs()))
            return result
    assert_never(spec.precision)


def head_spec(
    spec: ModelSpec,
    head: Head,
    *,
    sha256: str | None,
    precision: Precision = "fp32",
    shape: Shape | None = None,
    core: Core | None = None,
    confidence: bool = False,
    tta: Tta | None = None,
) -> ModelSpec:
    """Turn a checkpoint's spec into the one of an exported head.

    Args:
        spec: The checkpoint's.
        head: What the graph computes.
        sha256: Of the source file; None where it is not a file.
        precision: What it computes in.
        shape: The only legal shape; None for the head's range.
        core: The network; needed for the head ``scores``.
        confidence: Whether a second output says how probable each label is.
        tta: For the head ``scene``: whether the graph averages over mirror images.

    Returns:
        The spec, parity not yet known.

    Raises:
        ValueError: The shape is not legal for the head, the network has no such head, or
            confidence or tta does not go with it.
    """
    if tta is not None and head != "scene":
        remedy = "leave it out" if head == "labels" else "give it to predict or eval instead"
        raise BadValueError(message("--tta", "goes with --head scene", f"head {head}", remedy))
    if confidence and head == "logits":
        rule, remedy = "goes with --head labels or scene", "leave it out, logits tell it already"
        raise BadValueError(message("--confidence", rule, f"head {head}", remedy))
    versions = {
        "fcnkit": version("fcnkit"),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
    }
    source = SourceSpec(sha256=sha256, parity=None)
    spec = replace(spec, source=source, versions=versions, precision=precision)
    if head == "scores":
        spec = _scores_spec(spec, core)
    elif head != "logits":
        spec = replace(_labels_spec(spec, head), tta=tta)
    if confidence:
        part = OutputSpec(name=CONFIDENCE, layout="NHW", dtype="uint8")
        spec = replace(spec, confidence=part)
    return spec if shape is None else replace(spec, shapes=_one_shape(shape, spec))


def _scores_spec(spec: ModelSpec, core: Core | None) -> ModelSpec:
    layer = None if core is None else core.last_layer
    if core is None or layer is None:
        rule = "scores is for networks whose last layer enlarges class scores"
        got = spec.architecture if core is None else f"{spec.architecture}, {core.no_scores}"
        raise BadValueError(message("--head", rule, got, "use --head labels or logits"))
    multiple = math.lcm(spec.input.multiple, layer.stride)
    return replace(
        spec,
        head="scores",
        input=replace(spec.input, multiple=multiple),
        output=OutputSpec(name="scores", layout="NCHW", dtype="float32"),
        shapes=_stepped(spec.shapes, multiple),
        last_layer=layer.described(),
    )


def _stepped(given: ShapeRange, multiple: int) -> ShapeRange:
    """Return the range whose sides are multiples."""
    low = [-(-side // multiple) * multiple for side in given.min[1:]]
    high = [max(a, b // multiple * multiple) for a, b in zip(low, given.max[1:], strict=True)]
    typical = [
        min(-(-side // multiple) * multiple, most)
        for side, most in zip(given.opt[1:], high, strict=True)
    ]
    return ShapeRange(
        min=(given.min[0], low[0], low[1]),
        opt=(given.opt[0], typical[0], typical[1]),
        max=(given.max[0], high[0], high[1]),
    )


def _labels_spec(spec: ModelSpec, head: Head) -> ModelSpec:
    return replace(
        spec,
        head=head,
        input=_uint8_input(spec.input, multiple=spec.input.multiple if head == "labels" else 1),
        output=OutputSpec(name="labels", layout="NHW", dtype="uint8"),
        shapes=spec.shapes if head == "labels" else _scene_shapes(spec.shapes),
    )


def _one_shape(shape: Shape, spec: ModelSpec) -> ShapeRange:
    legal = nearest_legal(shape, spec)
    if legal != shape:
        low, high = format_shape(spec.shapes.min), format_shape(spec.shapes.max)
        rule = f"head {spec.head} takes NxHxW from {low} to {high}"
        if spec.input.multiple > 1:
            rule += f" with sides in steps of {spec.input.multiple}"
        remedy = f"use {format_shape(legal)}"
        raise BadValueError(message("--shape", rule, format_shape(shape), remedy))
    return ShapeRange(min=shape, opt=shape, max=shape)


def _uint8_input(given: InputSpec, *, multiple: int) -> InputSpec:
    return replace(given, layout="NHWC", dtype="uint8", multiple=multiple)


def _scene_shapes(given: ShapeRange) -> ShapeRange:
    return ShapeRange(min=(1, *given.min[1:]), opt=(1, *given.opt[1:]), max=_SCENE_MAX)
