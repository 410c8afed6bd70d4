"""A library's own options: taken by their names, refused where they are unknown or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from fcnkit.errors import FcnkitError
from fcnkit.runtime import load, open_backend
from fcnkit.runtime.backends.onnxruntime_options import apply_options
from fcnkit.runtime.backends.openvino import compile_model
from fcnkit.runtime.checks import PROCESSORS
from tests.openvino_core import openvino_core
from tests.refusal import refusal
from tests.runtime.engines import make_sidecar, rtx_plan, write_engine
from tests.runtime.models import make_spec, write_model

two_cores = pytest.mark.skipif(PROCESSORS < 2, reason="one core has nothing to share")

SESSION = (
    "enable_cpu_mem_arena, enable_mem_pattern, enable_mem_reuse, graph_optimization_level, "
    "session.disable_prepacking, session.dynamic_block_base, session.force_spinning_stop, "
    "session.intra_op.allow_spinning, session.intra_op_thread_affinities, "
    "session.set_denormal_as_zero, session.use_device_allocator_for_initializers, "
    "session.use_env_allocators, session.x64quantprecision, use_deterministic_compute"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx", make_spec("labels"))


def test_onnxruntime_is_told(model: Path) -> None:
    given = onnxruntime.SessionOptions()
    rest = apply_options(
        onnxruntime,
        given,
        {
            "session.intra_op.allow_spinning": "0",
            "graph_optimization_level": "ORT_ENABLE_BASIC",
            "enable_mem_pattern": "0",
            "cudnn_conv_algo_search": "EXHAUSTIVE",
        },
        name="onnxruntime-cuda",
    )
    assert given.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert given.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert not given.enable_mem_pattern
    assert rest == {"cudnn_conv_algo_search": "EXHAUSTIVE"}
    options = {"session.intra_op.allow_spinning": "0"}
    with load(model, backend="onnxruntime", options=options) as segmenter:
        assert segmenter(np.zeros((40, 50, 3), np.uint8)).shape == (40, 50)


@two_cores
def test_small_models_are_not_pinned_to_one_core(model: Path) -> None:
    """Several models of one thread each would all be pinned to the first core."""
    compiled = compile_model(str(model), threads=1, compute="fp32", where="m.onnx")
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    options = {"ENABLE_CPU_PINNING": "YES"}
    compiled = compile_model(str(model), threads=1, compute="fp32", where="m.onnx", options=options)
    assert compiled.get_property("ENABLE_CPU_PINNING") is True


@two_cores
def test_openvino_is_told(model: Path) -> None:
    options = {"ENABLE_CPU_PINNING": "NO", "NUM_STREAMS": "2"}
    compiled = compile_model(str(model), threads=2, compute="fp32", where="m.onnx", options=options)
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert compiled.get_property("NUM_STREAMS") == 2
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    with open_backend(model, backend="openvino", options=options, threads=2) as backend:
        batch = np.zeros((1, 32, 32, 3), np.uint8)
        for result in backend.stream([batch] * 5):
            assert result.shape == (1, 32, 32)


@two_cores
def test_openvino_runs_one_call_on_every_thread_and_streams_several(model: Path) -> None:
    settings: dict[str, Any] = {"threads": 2, "compute": "fp32", "where": "m.onnx"}
    assert compile_model(str(model), **settings).get_property("NUM_STREAMS") == 1
    many = compile_model(str(model), many=True, **settings)
    assert many.get_property("NUM_STREAMS") == 2
    assert many.get_property("INFERENCE_NUM_THREADS") == 2


@pytest.mark.parametrize(
    ("backend", "options", "kind", "text"),
    [
        (
            "onnxruntime",
            {"session.intra_op.alow_spinning": "0"},
            ValueError,
            f"onnxruntime takes the options {SESSION}, got session.intra_op.alow_spinning; "
            "correct or drop it",
        ),
        (
            "onnxruntime",
            {"intra_op_num_threads": "1"},
            ValueError,
            "the option intra_op_num_threads is set by threads, got intra_op_num_threads=1; "
            "use threads",
        ),
        (
            "onnxruntime",
            {"enable_mem_pattern": "no"},
            ValueError,
            "the option enable_mem_pattern must be one of 0, 1, got no; correct or drop it",
        ),
        (
            "onnxruntime",
            {"graph_optimization_level": "99"},
            ValueError,
            "the option graph_optimization_level must be one of ORT_DISABLE_ALL, "
            "ORT_ENABLE_BASIC, ORT_ENABLE_EXTENDED, ORT_ENABLE_ALL, got 99; correct or drop it",
        ),
        (
            "onnxruntime",
            {"enable_mem_pattern": True},
            TypeError,
            "options must map str to str, got {'enable_mem_pattern': True}; pass {'KEY': 'VALUE'}",
        ),
        (
            "onnxruntime-cuda",
            {"use_tf32": "1"},
            ValueError,
            "the option use_tf32 is set by compute, got use_tf32=1; use compute",
        ),
        (
            "openvino",
            {"INFERENCE_PRECISION_HINT": "bf16"},
            ValueError,
            "the option INFERENCE_PRECISION_HINT is set by compute, "
            "got INFERENCE_PRECISION_HINT=bf16; use compute",
        ),
        (
            "openvino",
            {"EXECUTION_MODE_HINT": "PERFORMANCE"},
            ValueError,
            "the option EXECUTION_MODE_HINT is set by compute, "
            "got EXECUTION_MODE_HINT=PERFORMANCE; use compute",
        ),
        (
            "auto",
            {"ENABLE_CPU_PINNING": "NO"},
            ValueError,
            "options are a library's own, so the backend must be named, got backend='auto'; "
            "name it",
        ),
    ],
)
def test_wrong_options(
    model: Path,
    backend: str,
    options: dict[str, Any],
    kind: type[Exception],
    text: str,
) -> None:
    if backend == "onnxruntime-cuda":
        with refusal(kind, f"open_backend: {text}"):
            apply_options(onnxruntime, onnxruntime.SessionOptions(), options, name=backend)
        return
    with refusal(kind, f"open_backend: {text}"):
        open_backend(model, backend=backend, options=options)


def test_openvino_names_its_own_options(model: Path) -> None:
    properties = openvino_core().get_property("CPU", "SUPPORTED_PROPERTIES")
    with pytest.raises(ValueError) as caught:
        open_backend(model, backend="openvino", options={"PINNING": "1"})
    text = str(caught.value)
    assert text.startswith("open_backend: openvino takes the options CPU_DENORMALS_OPTIMIZATION, ")
    assert text.endswith(", got PINNING; correct or drop it")
    for name, access in properties.items():
        free = "W" in access and name not in (
            *("INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT"),
        )
        assert (f" {name}," in text) is free


def test_openvino_refuses_a_wrong_value_in_one_line(model: Path) -> None:
    with pytest.raises(ValueError) as caught:
        open_backend(model, backend="openvino", options={"ENABLE_CPU_PINNING": "PERHAPS"})
    text = str(caught.value)
    assert text.startswith(f"{model}: openvino must be able to load the model, got ")
    assert "ENABLE_CPU_PINNING" in text
    assert "\n" not in text


def test_an_engine_takes_options_without_a_backend_named(tmp_path: Path) -> None:
    plan = rtx_plan()
    write_engine(tmp_path / "m.engine", plan, make_sidecar(plan))
    given = []
    for backend in ("auto", "tensorrt-rtx"):
        with pytest.raises(FcnkitError) as caught:  # 256 bytes are no real plan
            open_backend(tmp_path / "m.engine", backend=backend, options={"device_id": "0"})
        given.append((caught.type, str(caught.value)))
    assert given[0] == given[1]
