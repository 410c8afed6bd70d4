"""The inputs and outputs that a model declares, against those that its spec promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.artifacts.onnx_graph import TensorInfo
from fcnkit.runtime.artifacts.spec import InputSpec, ModelSpec, OutputSpec, Shape, ShapeRange

__all__ = ["check_signature", "narrowed"]


def narrowed(spec: ModelSpec, inputs: Sequence[TensorInfo]) -> ModelSpec:
    """Return a spec whose legal shapes are those that the graph takes.

    Args:
        spec: The model's promises.
        inputs: What the graph declares; a side or batch size that is a number is fixed.

    Returns:
        The spec with that number as the only legal one, where the spec allows it. What it does
        not allow is left for ``check_signature`` to refuse.
    """
    if len(inputs) != 1 or len(inputs[0].dims) != len(spec.input.layout):
        return spec
    declared = dict(zip(spec.input.layout, inputs[0].dims, strict=True))
    limits = zip("NHW", spec.shapes.min, spec.shapes.max, strict=True)
    fixed = {
        axis: size
        for axis, low, high in limits
        if isinstance(size := declared[axis], int)
        and low <= size <= high
        and (axis == "N" or size % spec.input.multiple == 0)
    }

    def fix(shape: Shape) -> Shape:
        batch, height, width = shape
        return fixed.get("N", batch), fixed.get("H", height), fixed.get("W", width)

    shapes = spec.shapes
    return replace(
        spec, shapes=ShapeRange(min=fix(shapes.min), opt=fix(shapes.opt), max=fix(shapes.max))
    )


def check_signature(
    inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], spec: ModelSpec, *, where: str
) -> None:
    """Refuse a model whose tensors are not the ones its spec promises.

    Args:
        inputs: What the session declares; dimensions without a number are free.
        outputs: The same for its outputs.
        spec: The model's promises.
        where: The file, for the error.

    Raises:
        ArtifactError: A name, dtype, rank or fixed dimension differs.
    """
    low, high = spec.shapes.min, spec.shapes.max
    batch, height, width = (a if a == b else None for a, b in zip(low, high, strict=True))
    given: tuple[InputSpec | OutputSpec, ...] = (spec.input,)
    for kind, declared, tensors, channels, stride in (
        ("input", inputs, given, 3, 1),
        ("output", outputs, spec.outputs, spec.num_classes, spec.stride),
    ):
        axes = {"N": batch or "any"}
        axes |= {a: side // stride if side else "any" for a, side in (("H", height), ("W", width))}
        promised = [
            TensorInfo(
                name=wanted.name,
                dtype=wanted.dtype,
                dims=tuple({**axes, "C": channels}[axis] for axis in wanted.layout),
            )
            for wanted in tensors
        ]
        if len(declared) != len(promised) or not all(map(_fits, declared, promised)):
            rule = f"the {kind} must be {_describe(promised)} as its spec says"
            remedy = "export the model again with fcnkit export onnx"
            raise ArtifactError(message(where, rule, _describe(declared), remedy))


def _fits(declared: TensorInfo, promised: TensorInfo) -> bool:
    """Whether names and dtypes are equal and every fixed dimension is the promised one.

    A graph may leave open what the spec fixes, but not fix what the spec leaves open.
    """
    if (declared.name, declared.dtype) != (promised.name, promised.dtype):
        return False
    return len(declared.dims) == len(promised.dims) and all(
        isinstance(have, str) or have == want
        for have, want in zip(declared.dims, promised.dims, strict=True)
    )


def _describe(tensors: Sequence[TensorInfo]) -> str:
    texts = (f"{t.name} {t.dtype} ({', '.join(map(str, t.dims))})" for t in tensors)
    return " and ".join(texts) or "none"
