"""Whether float16 can hold what a network computes.

ONNX Runtime on the CPU keeps float32 between float16 layers, so a value that is too large for
float16 does not show in a comparison there. On a GPU it becomes infinity, and infinities become
NaN. So the float32 graph is run, and the largest value of every tensor that becomes float16 is
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from fcnkit.errors import VerifyError, message
from fcnkit.export.comparison_images import flat_pictures, noise_pictures, normalized
from fcnkit.export.precision import keeper
from fcnkit.runtime.artifacts.onnx_file import read_onnx_bytes
from fcnkit.runtime.artifacts.onnx_precision import layer_types, module_of
from fcnkit.runtime.artifacts.spec import InputSpec, Shape
from fcnkit.runtime.backends.onnxruntime import import_onnxruntime

__all__ = ["HalfRange", "check_half_range", "measure_half_range", "range_inputs"]

LARGEST: Final = float(np.finfo(np.float16).max)
SMALLEST: Final = float(np.finfo(np.float16).smallest_normal)
"""Below it float16 loses digits, and everything below 6e-8 becomes 0."""

_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True)
class HalfRange:
    """The largest value, in size, of every tensor that is float16 in the exported graph."""

    largest: dict[str, float]
    """By the tensor's name."""
    pictures: tuple[str, ...]
    """Names of the pictures it was measured on; noise is always among them."""

    @property
    def peak(self) -> float:
        """The largest value of all tensors; NaN where there is one."""
        return float(np.max([*self.largest.values(), 0.0]))

    def outside(self) -> tuple[str, ...]:
        """Return the tensors that float16 does not hold: too large, or tiny as a whole."""
        return tuple(
            name
            for name, value in self.largest.items()
            if not (value == 0 or SMALLEST <= value <= LARGEST)
        )


def measure_half_range(
    plain: onnx.ModelProto,
    half: onnx.ModelProto,
    inputs: Iterable[NDArray[Any]],
    *,
    pictures: tuple[str, ...] = (),
) -> HalfRange:
    """Run the float32 graph and take the largest value of each tensor that float16 will hold.

    Args:
        plain: The graph in float32.
        half: The same graph after ``to_half``.
        inputs: What the graph is fed, batch by batch.
        pictures: Names of the pictures among them, for the report.

    Returns:
        The values.
    """
    names = _half_tensors(plain, half)
    largest = dict.fromkeys(names, 0.0)
    if not names:
        return HalfRange(largest={}, pictures=())
    run = _session(plain, names)
    for batch in inputs:
        for name, value in zip(names, run(batch), strict=True):
            # Not max(), which can lose a NaN.
            largest[name] = float(np.maximum(largest[name], value))
    return HalfRange(largest=largest, pictures=("noise", *pictures))


def check_half_range(
    found: HalfRange, plain: onnx.ModelProto, kept: Iterable[str], *, where: str
) -> None:
    """Refuse a network whose activations float16 does not hold.

    Args:
        found: What was measured.
        plain: The graph in float32.
        kept: The modules that stay in float32 already.
        where: The file, for the error.

    Raises:
        VerifyError: The tensors' layers are named, with the --keep-fp32 that helps.
    """
    outside = set(found.outside())
    if not outside:
        return
    touching = [
        node for node in plain.graph.node if outside & {*node.input, *node.output} and node.name
    ]
    # Both sides of a tensor have to be in float32: the layer that gives it, and those that read it.
    modules = tuple(dict.fromkeys(module_of(node.name) for node in touching))
    stays = keeper(plain, (*kept, *modules))
    computing = layer_types(read_onnx_bytes(plain.SerializeToString(), where=where).graph).computing
    remedy = "use --precision fp32"
    if not all(stays(name) for name in computing):
        more = [name for name in kept if name not in modules]
        remedy = f"keep them in float32 with --keep-fp32 {','.join((*more, *modules))}"
    makers = {name: node.name for node in plain.graph.node for name in node.output}
    worst = [f"{found.largest[t]:.3g} in {makers.get(t, t)}" for t in found.largest if t in outside]
    shown = ", ".join(worst[:_SHOWN])
    shown += f" and {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    rule = f"activations in fp16 must reach {SMALLEST:.1g} and stay below {LARGEST:g}"
    raise VerifyError(message(where, rule, f"largest values of {shown}", remedy))


def range_inputs(
    given: InputSpec, head: str, shape: Shape, pictures: Iterable[NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """Yield what the graph is fed: noise, flat colors of full contrast, and the given pictures.

    Args:
        given: The model's input.
        head: Its head; for ``scene`` the graph is the middle, which takes float32 0..255.
        shape: (N, H, W) of the noise.
        pictures: More batches, as the graph takes them.

    Yields:
        The batches.
    """
    for make in (noise_pictures, flat_pictures):
        image_nhwc = make(shape)
        if given.dtype == "float32":
            yield normalized(image_nhwc, given)
        else:
            yield image_nhwc if head == "labels" else image_nhwc.astype(np.float32)
    yield from pictures


def _half_tensors(plain: onnx.ModelProto, half: onnx.ModelProto) -> tuple[str, ...]:
    """Return the computed tensors of the float32 graph that have a float16 form in the other."""
    typed = onnx.shape_inference.infer_shapes(half).graph
    infos = (*typed.value_info, *typed.output)
    halves = {i.name for i in infos if i.type.tensor_type.elem_type == TensorProto.FLOAT16}
    made = (name for node in plain.graph.node if node.op_type != "Constant" for name in node.output)
    return tuple(name for name in made if {name, f"{name}/fp16"} & halves)


def _session(
    plain: onnx.ModelProto, names: tuple[str, ...]
) -> Callable[[NDArray[Any]], list[NDArray[Any]]]:
    """Return what runs the graph and gives the largest value of each named tensor."""
    probe = onnx.ModelProto()
    probe.CopyFrom(plain)
    graph = probe.graph
    results = []
    for number, name in enumerate(names):
        size, top = f"range/{number}/size", f"range/{number}/top"
        graph.node.append(onnx.helper.make_node("Abs", [name], [size]))
        graph.node.append(onnx.helper.make_node("ReduceMax", [size], [top], keepdims=0))
        results.append(onnx.helper.make_tensor_value_info(top, TensorProto.FLOAT, []))
    del graph.output[:]
    graph.output.extend(results)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    source = graph.input[0].name
    return lambda batch: list(session.run(None, {source: np.ascontiguousarray(batch)}))
