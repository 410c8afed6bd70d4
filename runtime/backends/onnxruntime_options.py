"""ONNX Runtime's options by their own names: of the session, its config entries, its provider.

ONNX Runtime takes a misspelled config entry without a word, so the names are listed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fcnkit.runtime.backends.settings import check_options, one_of

__all__ = ["PROVIDER_OPTIONS", "apply_options"]

PROVIDER_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "onnxruntime": {},
    # EXHAUSTIVE, the default, searches again for hundreds of milliseconds at every new shape;
    # TF32, also a default, is not the float32 that the file says.
    # The arena's own way is to double what it holds at every growth.
    "onnxruntime-cuda": {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    },
    "onnxruntime-tensorrt": {},
}
"""Backend name to the provider options that fcnkit sets; the user's go over them."""

_TAKEN: Final = {
    "intra_op_num_threads": "threads",
    "inter_op_num_threads": "threads",
    "use_tf32": "compute",
    "trt_fp16_enable": "compute",
    "trt_bf16_enable": "compute",
    "trt_int8_enable": "compute",
    "mlas.enable_gemm_fastmath_arm64_bfloat16": "compute",
}
"""ONNX Runtime's options that have their own argument."""

_FLAGS: Final = (
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "enable_mem_reuse",
    "use_deterministic_compute",
)
_ENTRIES: Final = (
    "session.disable_prepacking",
    "session.dynamic_block_base",
    "session.force_spinning_stop",
    "session.intra_op.allow_spinning",
    "session.intra_op_thread_affinities",
    "session.set_denormal_as_zero",
    "session.use_device_allocator_for_initializers",
    "session.use_env_allocators",
    "session.x64quantprecision",
)
_LEVELS: Final = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
_OF_PROVIDER: Final[dict[str, tuple[str, ...]]] = {
    "onnxruntime": (),
    "onnxruntime-cuda": (
        "arena_extend_strategy",
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
        "device_id",
        "fuse_conv_bias",
        "gpu_mem_limit",
        "prefer_nhwc",
        "tunable_op_enable",
        "tunable_op_tuning_enable",
    ),
    "onnxruntime-tensorrt": (
        "device_id",
        "trt_auxiliary_streams",
        "trt_build_heuristics_enable",
        "trt_builder_optimization_level",
        "trt_context_memory_sharing_enable",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_engine_cache_prefix",
        "trt_engine_hw_compatible",
        "trt_max_workspace_size",
        "trt_min_subgraph_size",
        "trt_profile_max_shapes",
        "trt_profile_min_shapes",
        "trt_profile_opt_shapes",
        "trt_sparsity_enable",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
    ),
}


def apply_options(
    library: Any, session_options: Any, options: Mapping[str, str], *, name: str
) -> dict[str, str]:
    """Set the session's options and return those of its provider.

    Args:
        library: The module onnxruntime.
        session_options: Its SessionOptions, changed in place.
        options: What the user asks for.
        name: The backend.

    Returns:
        The rest, for the provider.

    Raises:
        TypeError: An option is not a str.
        ValueError: A name is unknown or has its own argument, or a value is wrong.
    """
    provider = _OF_PROVIDER[name]
    known = (*_FLAGS, *_ENTRIES, "graph_optimization_level", *provider)
    check_options(options, known, taken=_TAKEN, name=name)
    for key, value in options.items():
        if key in _FLAGS:
            setattr(session_options, key, one_of(options, key, ("0", "1"), "0") == "1")
        elif key == "graph_optimization_level":
            level = one_of(options, key, _LEVELS, "ORT_ENABLE_ALL")
            session_options.graph_optimization_level = getattr(
                library.GraphOptimizationLevel, level
            )
        elif key in _ENTRIES:
            session_options.add_session_config_entry(key, value)
    return {key: value for key, value in options.items() if key in provider}
