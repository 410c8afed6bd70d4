"""What an engine is measured with: CUDA graphs on and off, kernels that are compiled already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.description import ENGINE_SUFFIXES
from fcnkit.runtime.artifacts.engine_file import read_engine_file

__all__ = ["CudaGraphs", "Variant", "device_variants"]

CudaGraphs = Literal["both", "on", "off"]

_OPTIONS: Final = {
    ("tensorrt", "on"): {},
    ("tensorrt", "off"): {"cuda_graphs": "0"},
    ("tensorrt-rtx", "on"): {"cuda_graph_strategy": "WHOLE_GRAPH_CAPTURE"},
    ("tensorrt-rtx", "off"): {"cuda_graph_strategy": "DISABLED"},
}
# By default TensorRT-RTX answers with fallback kernels until a shape's own ones are compiled in
# the background: the first samples would be of other kernels than the last.
_EAGER: Final = {"dynamic_shapes_kernel_specialization_strategy": "EAGER"}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to open a model."""

    options: dict[str, str]
    """For ``open_backend``, by the library's names."""
    details: dict[str, str]
    """For the report, beside the backend's own."""


def device_variants(path: Path, *, cuda_graphs: CudaGraphs = "both") -> list[Variant]:
    """Say how a model is to be opened, once per row of a report.

    Args:
        path: A model file; any other file gives one variant.
        cuda_graphs: ``both`` measures an engine with and without CUDA graphs.

    Returns:
        One or two variants.

    Raises:
        ValueError: cuda_graphs is unknown.
        ArtifactError: The engine or its sidecar is broken.
    """
    if cuda_graphs not in get_args(CudaGraphs):
        rule = f"must be one of {', '.join(get_args(CudaGraphs))}"
        raise BadValueError(message("--cuda-graphs", rule, cuda_graphs, "leave it out for both"))
    if path.suffix not in ENGINE_SUFFIXES:
        return [Variant(options={}, details={})]
    flavor = read_engine_file(path).flavor
    eager = _EAGER if flavor == "tensorrt-rtx" else {}
    return [
        Variant(options={**_OPTIONS[flavor, graphs], **eager}, details={"cuda_graphs": graphs})
        for graphs in ("on", "off")
        if cuda_graphs in ("both", graphs)
    ]
