"""How engines are opened to be measured, and that their libraries know these options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fcnkit.errors import ArtifactError
from fcnkit.runtime.bench.stages import DeviceTimed
from fcnkit.runtime.bench.variants import device_variants
from tests.refusal import refusal
from tests.runtime.bench.synthetic import Clock, DeviceBackend, SyntheticBackend
from tests.runtime.engines import make_sidecar, rtx_plan, write_engine
from tests.runtime.models import make_spec, write_model


def test_an_engine_is_measured_with_cuda_graphs_and_without(tmp_path: Path) -> None:
    plan = rtx_plan()
    write_engine(tmp_path / "m.engine", plan, make_sidecar(plan))
    on, off = device_variants(tmp_path / "m.engine")
    assert (on.details, off.details) == ({"cuda_graphs": "on"}, {"cuda_graphs": "off"})
    assert device_variants(tmp_path / "m.engine", cuda_graphs="on") == [on]
    assert device_variants(tmp_path / "m.engine", cuda_graphs="off") == [off]
    library = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    for variant in (on, off):
        options = dict(variant.options)
        assert options.pop("cuda_graph_strategy") in library.CudaGraphStrategy.__members__
        kernels = options.pop("dynamic_shapes_kernel_specialization_strategy")
        strategies = library.DynamicShapesKernelSpecializationStrategy.__members__
        assert (kernels, "EAGER" in strategies) == ("EAGER", True)
        assert options == {}
    assert on.options["cuda_graph_strategy"] != off.options["cuda_graph_strategy"]


def test_other_models_are_opened_once(tmp_path: Path) -> None:
    (variant,) = device_variants(write_model(tmp_path / "m.onnx", make_spec("labels")))
    assert (variant.options, variant.details) == ({}, {})


def test_wrong_requests(tmp_path: Path) -> None:
    text = "--cuda-graphs: must be one of both, on, off, got maybe; leave it out for both"
    with refusal(ValueError, text):
        device_variants(tmp_path / "m.onnx", cuda_graphs="maybe")  # type: ignore[arg-type]
    plan = rtx_plan()
    write_engine(tmp_path / "m.engine", plan, replace(make_sidecar(plan), flavor="tensorrt"))
    with pytest.raises(ArtifactError):
        device_variants(tmp_path / "m.engine")


def test_only_backends_with_device_events_count_as_such() -> None:
    from fcnkit.runtime.backends.cuda_backend import CudaBackend

    assert isinstance(DeviceBackend(Clock()), DeviceTimed)
    assert not isinstance(SyntheticBackend(Clock(), []), DeviceTimed)
    assert hasattr(CudaBackend, "infer_timed")
