"""What a measurement depends on besides the model: processor, clocks, libraries, GPU and driver."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from fcnkit.runtime.pixels.build import build_info

__all__ = ["describe_environment", "gpu_memory", "gpu_state", "parse_gpu_state"]

_PACKAGES: Final = (
    "fcnkit", "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt",
    "tensorrt-rtx", "cuda-bindings", "torch", "torchvision", "monai",
)  # fmt: skip
_INSTRUCTION_SETS: Final = {
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512vbmi", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2",
}  # fmt: skip
"""Flags of /proc/cpuinfo that change how fast a network runs."""
_THREAD_VARIABLES: Final = (
    "FCNKIT_THREADS", "FCNKIT_FORCE_ISA", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "KMP_AFFINITY", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
_GPU_FIELDS: Final = (
    "name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.mem",
    "clocks.max.sm", "power.limit", "temperature.gpu", "persistence_mode",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Describe the machine and the installed libraries as they are now.

    Returns:
        Plain data; what cannot be found out is None.
    """
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "kernels": build_info()["active"],
        "cpu": _cpu(),
        "variables": {key: os.environ[key] for key in _THREAD_VARIABLES if key in os.environ},
        "gpus": gpu_state(),
    }


def _version(package: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def _cpu() -> dict[str, Any]:
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    usable = getattr(os, "sched_getaffinity", None)
    load = getattr(os, "getloadavg", None)
    return {
        "model": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "usable_cores": len(usable(0)) if usable else os.cpu_count() or 0,
        "instruction_sets": sorted(flags & _INSTRUCTION_SETS),
        "mhz": float(facts["cpu MHz"]) if "cpu MHz" in facts else None,
        "governor": _governor(),
        "load_average": round(load()[0], 2) if load else None,
    }


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    return None


def gpu_state() -> list[dict[str, str]] | None:
    """Ask nvidia-smi for the GPUs, their driver and their clocks now.

    Returns:
        One dict per GPU; None where there is no nvidia-smi or it finds no GPU.
    """
    return parse_gpu_state(_nvidia_smi(f"--query-gpu={','.join(_GPU_FIELDS)}"))


def parse_gpu_state(answer: str) -> list[dict[str, str]] | None:
    """Read nvidia-smi's comma separated lines.

    Args:
        answer: One line per GPU, without a header; empty where there is none.

    Returns:
        One dict per line of the right length, None where there is none.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines()]
    fields = [field.replace(".", "_") for field in _GPU_FIELDS]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)] or None


def gpu_memory() -> float | None:
    """Return the MiB of device memory that this process holds; None without a GPU."""
    answer = _nvidia_smi("--query-compute-apps=pid,used_memory")
    rows = [line.split(",") for line in answer.splitlines()]
    own = [
        row[1].split()[0] for row in rows if len(row) == 2 and row[0].strip() == str(os.getpid())
    ]
    return sum(map(float, own)) if own and all(value.isdigit() for value in own) else None


def _nvidia_smi(query: str) -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
