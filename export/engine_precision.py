"""The precision of an engine, proved: by the parsed network's types, then by the built engine's.

These libraries have no precision flags left: a strongly typed network computes in the types that
the ONNX graph states. So the parsed network, which any machine can look at, already tells what each
convolution will compute in, and the engine inspector tells it again of the engine.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fcnkit.errors import ArtifactError, VerifyError, message
from fcnkit.runtime.artifacts.onnx_precision import inside, module_of
from fcnkit.runtime.artifacts.precisions import NUMBER_TYPES
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.tensorrt_library import TENSOR_DTYPES

__all__ = ["ComputeLayer", "check_engine", "check_layers", "check_tensors", "compute_layers"]

_log = logging.getLogger("fcnkit.tensorrt")

_TYPES: Final = {kind.tensorrt: kind.name for kind in NUMBER_TYPES.values()}


@dataclass(frozen=True, kw_only=True)
class ComputeLayer:
    """A layer that multiplies with weights."""

    name: str
    """The ONNX node's."""
    precision: str
    """What it computes in: fp32, fp16, bf16, int8, or the library's own name of another type."""


def compute_layers(trt: Any, network: Any) -> list[ComputeLayer]:
    """Return a parsed network's convolutions and matrix products with their types.

    A convolution counts as int8 where both its picture and its weights come out of a
    DequantizeLinear of int8 values, which is how an ONNX graph asks for int8 arithmetic.

    Args:
        trt: The module.
        network: The parsed network.

    Returns:
        The layers in the network's order.
    """
    kinds = {trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    quantized = {
        layer.get_output(0).name: layer.get_input(0).dtype
        for layer in layers
        if layer.type == trt.LayerType.DEQUANTIZE
    }
    found = []
    for layer in layers:
        if layer.type in kinds:
            inputs = [layer.get_input(index) for index in range(min(2, layer.num_inputs))]
            types = {quantized.get(tensor.name) for tensor in inputs if tensor is not None}
            held = types.pop() if len(types) == 1 and len(inputs) == 2 else None
            dtype = (held or inputs[0].dtype).name
            found.append(ComputeLayer(name=layer.name, precision=_TYPES.get(dtype, dtype)))
    return found


def check_tensors(network: Any, spec: ModelSpec, *, where: str) -> None:
    """Refuse a network whose input and output are not the spec's.

    Args:
        network: The parsed network.
        spec: The model's promises.
        where: The ONNX file, for the error.

    Raises:
        ArtifactError: A name or type differs.
    """
    for kind, count, get, wanted in (
        ("input", network.num_inputs, network.get_input, (spec.input,)),
        ("output", network.num_outputs, network.get_output, spec.outputs),
    ):
        tensors = [get(index) for index in range(count)]
        got = [f"{t.name} {TENSOR_DTYPES.get(t.dtype.name, t.dtype.name)}" for t in tensors]
        promised = [f"{one.name} {one.dtype}" for one in wanted]
        if got != promised:
            rule = f"its {kind} must be {' and '.join(promised)} as its spec says"
            remedy = "export the model again with fcnkit export onnx"
            raise ArtifactError(message(where, rule, ", ".join(got), remedy))


def check_layers(
    layers: Iterable[ComputeLayer], spec: ModelSpec, *, kept: Iterable[str], where: str
) -> str:
    """Refuse a parsed network that does not compute in the precision its spec states.

    Args:
        layers: The convolutions.
        spec: The model's promises.
        kept: Modules that were exported in float32 on purpose. A node is named ``module/Conv``,
            and a module holds the modules whose names go on with a dot.
        where: The ONNX file, for the error.

    Returns:
        How many layers compute in what, such as ``fp16 in 20 layers, fp32 in 2 layers``.

    Raises:
        ArtifactError: A layer that is not kept computes in another precision; it is named.
    """
    layers = list(layers)
    modules = tuple(kept)
    wrong = [
        layer
        for layer in layers
        if layer.precision != spec.precision
        and not (
            layer.precision == "fp32" and any(inside(module_of(layer.name), m) for m in modules)
        )
    ]
    if wrong or all(layer.precision != spec.precision for layer in layers):
        named = [f"{layer.precision} in {layer.name}" for layer in wrong or layers]
        rule = f"must compute in {spec.precision} as its spec says"
        remedy = f"export it again with fcnkit export onnx --precision {spec.precision}"
        raise ArtifactError(message(where, rule, _shortened(named), remedy))
    return _counted(layer.precision for layer in layers)


def check_engine(report: str, spec: ModelSpec, *, where: str) -> str:
    """Refuse an engine in which no layer, or for fp32 not every one, has the spec's precision.

    The builder fuses layers, so the parsed network's names are gone: what is left to ask is which
    types the tensors and weights of the engine's layers have. A plan may show its network as one
    opaque node, of which the types inside are not told. There the verdict is a warning: the parsed
    network has proved the precision before, and the results are compared afterwards.

    Args:
        report: What the engine inspector wrote as JSON.
        spec: The model's promises.
        where: The engine, for the error.

    Returns:
        How many layers hold what, such as ``fp16 in 21 layers, fp32 in 3 layers``.

    Raises:
        VerifyError: The precision is not there; the layers are named with what they hold.
    """
    layers = [layer for layer in json.loads(report)["Layers"] if isinstance(layer, dict)]
    held = {str(layer.get("Name")): _types_of(layer) for layer in layers}
    if not any(held.values()):
        return "no types, says the inspector"
    opaque = {str(layer.get("Name")) for layer in layers if len(layers) == 1 or _is_opaque(layer)}
    lower = {name for name, types in held.items() if types - {"fp32"}}
    there = any(spec.precision in types for types in held.values())
    wrong = [name for name in held if name in lower or spec.precision != "fp32"]
    counted = _counted(name for types in held.values() for name in types)
    if not there or (spec.precision == "fp32" and lower):
        named = [f"{' '.join(sorted(held[name])) or 'none'} in {name}" for name in wrong]
        rule = f"the engine must compute in {spec.precision} as its spec says"
        if (lower <= opaque) if spec.precision == "fp32" else opaque:
            got = f"{_shortened(named or list(held))}, which hides what it computes in"
            remedy = "the parsed network does, and the comparison of results decides"
            _log.warning("%s", message(where, rule, got, remedy))
            return f"{counted}, not proved: an opaque layer"
        remedy = "this is a bug of the exporter or the library, please report it"
        raise VerifyError(message(where, rule, _shortened(named), remedy))
    return counted


def _is_opaque(layer: Mapping[str, Any]) -> bool:
    """Whether a layer is a compiled region, of which only inputs and outputs are described."""
    text = f"{layer.get('LayerType', '')} {layer.get('Name', '')}"
    return any(word in text for word in ("ForeignNode", "Myelin", "myelin"))


def _types_of(layer: Mapping[str, Any]) -> set[str]:
    """Return the precisions that a layer's tensors and weights are described with."""
    tensors = [*layer.get("Inputs", []), *layer.get("Outputs", [])]
    # TensorRT 11 split what was one field.
    fields = ("Format/Datatype", "Format", "DataType", "Datatype")
    texts = [str(tensor.get(field, "")) for tensor in tensors for field in fields]
    weights = layer.get("Weights")
    texts.append(str(weights.get("Type", "")) if isinstance(weights, dict) else "")
    kinds = NUMBER_TYPES.values()
    return {kind.name for kind in kinds if any(map(kind.inspected.search, texts))}


def _shortened(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _counted(names: Iterable[str]) -> str:
    counts = sorted(Counter(names).items())
    return ", ".join(f"{name} in {count} layer{'s'[: count - 1]}" for name, count in counts)
