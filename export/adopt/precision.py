"""Whether a graph from elsewhere can have another precision than float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnx

from fcnkit.errors import ArtifactError, message
from fcnkit.export.heads import Core
from fcnkit.runtime.artifacts.onnx_precision import inside, module_of
from fcnkit.runtime.artifacts.spec import Precision

__all__ = ["check_precision", "operators_named"]

_COMPUTING = frozenset({"ConvTranspose", "DeformConv", "Gemm", "MatMul", "Einsum", "Attention"})
"""Operators beside Conv that make up the arithmetic; a transposed convolution is kept anyway."""


def check_precision(core: Core, precision: Precision, kept: Sequence[str]) -> None:
    """Refuse int8 for a graph whose arithmetic is not in convolutions.

    Args:
        core: The network.
        precision: What it is to compute in.
        kept: Parts that stay in float32.

    Raises:
        ArtifactError: The operators are named.
    """
    if precision != "int8":
        return
    nodes = core.model.graph.node
    parts = (*kept, *core.scores)
    others = Counter(
        node.op_type
        for node in nodes
        if node.op_type in _COMPUTING
        and not any(inside(module_of(node.name), part) for part in parts)
    )
    rule = "int8 is for networks that compute with convolutions"
    if others:
        got = ", ".join(f"{count} {op}" for op, count in others.most_common(4))
        remedy = "use --precision fp16, or keep these parts in float32 with --keep-fp32"
        raise ArtifactError(message("--precision", rule, got, remedy))
    left = [
        node
        for node in nodes
        if node.op_type == "Conv" and not any(inside(module_of(node.name), part) for part in parts)
    ]
    # The first one stays in float32 as well.
    if len(left) < 2:
        got = f"{len(left)} Conv beside the one that gives scores"
        raise ArtifactError(message("--precision", rule, got, "use --precision fp16"))


@contextmanager
def operators_named(precision: Precision) -> Iterator[None]:
    """Word what ONNX says of a graph that does not exist in a precision; it names the operator.

    Raises:
        ArtifactError: ONNX refused the graph.
    """
    try:
        yield
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        rule = f"every operator of the network must exist in {precision}"
        got = " ".join(str(error).split())[:300]
        remedy = "use --precision fp32, or keep that part in float32 with --keep-fp32"
        raise ArtifactError(message("--precision", rule, got, remedy)) from None
