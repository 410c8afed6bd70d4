"""Engine files as a builder leaves them, of a plan that holds a real header and noise."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcnkit.runtime.artifacts import engine_file
from fcnkit.runtime.artifacts.engine_file import BuilderOptions, Sidecar
from fcnkit.runtime.artifacts.spec import ModelSpec, ShapeRange
from tests.runtime.models import make_spec

PROFILES = (
    ShapeRange(min=(1, 32, 32), opt=(1, 64, 96), max=(2, 128, 128)),
    ShapeRange(min=(1, 32, 32), opt=(4, 320, 480), max=(16, 2048, 2048)),
)
OPTIONS = BuilderOptions(optimization_level=4, compute_capability=("8.9", "12.0"))


def rtx_plan(*, length: int = 256, version: tuple[int, int, int, int] = (1, 7, 1, 116)) -> bytes:
    """The header that TensorRT-RTX 1.7 writes for 8.9 and 12.0, and noise."""
    head = b"vtrt" + bytes(4) + (2).to_bytes(8, "little") + length.to_bytes(8, "little")
    head += bytes(version) + b"vtrt" + (0b11000).to_bytes(8, "little")
    return head.ljust(64, b"\0").ljust(length, b"\xa5")


def make_sidecar(plan: bytes, *, spec: ModelSpec | None = None, onnx: str = "0" * 64) -> Sidecar:
    return Sidecar(
        format=engine_file.SIDECAR_FORMAT,
        spec=spec or make_spec("labels"),
        profiles=PROFILES,
        flavor="tensorrt-rtx",
        library="tensorrt_rtx 1.7.1.116",
        compute_capability=("8.9", "12.0"),
        builder=OPTIONS,
        onnx=engine_file.OnnxSource(name="m.onnx", sha256=onnx),
        plan=engine_file.PlanFacts(bytes=len(plan), sha256=hashlib.sha256(plan).hexdigest()),
        verified=None,
    )


def write_engine(path: Path, plan: bytes, sidecar: Sidecar) -> dict[str, Any]:
    """Write both files and return what the sidecar holds as plain data."""
    path.write_bytes(plan)
    text = json.dumps(asdict(sidecar))
    engine_file.sidecar_path(path).write_text(text)
    held: dict[str, Any] = json.loads(text)
    return held
