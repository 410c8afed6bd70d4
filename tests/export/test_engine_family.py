"""TensorRT-RTX parses and builds every head in every precision, without a GPU."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import pytest

from fcnkit.export.build import Typing, build_graph, head_spec, trace_core
from fcnkit.export.calibration import open_calibration
from fcnkit.export.engine import build_engine
from fcnkit.export.engine_profiles import parse_profile
from fcnkit.export.heads import Core
from fcnkit.export.saving import save_model
from fcnkit.runtime.artifacts.engine_file import read_engine_file
from fcnkit.runtime.artifacts.onnx_file import KEPT_KEY
from fcnkit.runtime.artifacts.spec import Head, ModelSpec, Precision
from fcnkit.train.checkpoint import load_model
from tests.train.networks import lively, save_network

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

HEADS: tuple[Head, ...] = ("logits", "labels", "scene")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
CASES = [("fcn32s-resnet18", head, precision) for head in HEADS for precision in PRECISIONS] + [
    (architecture, "labels", precision)
    for architecture in ("fcn8s-resnet18", "fpn-resnet18", "unet-resnet18", "deeplabv3-resnet18")
    for precision in PRECISIONS
]


@functools.lru_cache(maxsize=1)
def core_of(architecture: str, folder: Path) -> tuple[Core, ModelSpec]:
    """Trace a network once for all its heads and precisions."""
    checkpoint = folder / f"{architecture}.pt"
    save_network(lively(architecture), architecture, checkpoint)
    net, loaded = load_model(checkpoint)
    return trace_core(net, loaded.spec.num_classes), loaded.spec


@pytest.mark.parametrize(("architecture", "head", "precision"), CASES)
def test_builds(
    architecture: str,
    head: Head,
    precision: Precision,
    shapes_folder: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    core, loaded = core_of(architecture, tmp_path_factory.getbasetemp())
    spec = head_spec(loaded, head, sha256="0" * 64, precision=precision)
    calibration = open_calibration(shapes_folder) if precision == "int8" else None
    typing = Typing(calibration=calibration, activations="int8")
    graph, kept = build_graph(core, spec, typing)
    model = tmp_path / "m.onnx"
    save_model(graph, spec, model, notes={KEPT_KEY: ", ".join(kept)})
    profile = parse_profile("1x32x32,1x96x128,1x96x128")
    out = tmp_path / "m.engine"
    report = build_engine(model, out, flavor="tensorrt-rtx", profiles=[profile])
    layers = Counter(node.op_type for node in graph.graph.node)["Conv"]
    counted = {
        name: int(count.split()[0])
        for name, count in (part.split(" in ") for part in report.precision.split(", "))
    }
    assert sum(counted.values()) == layers
    assert set(counted) == ({"int8", "fp32"} if precision == "int8" else {precision})
    found = read_engine_file(out).spec
    assert (found.architecture, found.head, found.precision) == (architecture, head, precision)
