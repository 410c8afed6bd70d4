"""Made-up rows of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fcnkit.runtime.bench.environment import describe_environment
from fcnkit.runtime.bench.matrix_report import matrix_report


def done_row(
    name: str,
    *,
    p50: float,
    value: float,
    kind: str = "mean_iou",
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a row that was measured."""
    times = {"samples": 200, "p50_ms": p50, "p99_ms": 1.2 * p50, "mean_ms": p50}
    first = {"import_ms": 200.0, "open_ms": 100.0, "infer_ms": 2 * p50, "total_ms": 300 + 2 * p50}
    return {
        "name": name,
        "status": "done",
        "reason": "",
        "model": "m.onnx",
        "model_sha256": "0" * 64,
        "bytes": 46_750_000,
        "backend": "openvino",
        "compute": "auto",
        "architecture": "fcn32s-resnet18",
        "head": "labels",
        "precision": "fp32",
        "details": {"library": "openvino 1"},
        "cover": "pad",
        "shape": "1x320x480",
        "compute_shape": "1x320x480",
        "infer": {**times, "p50_ms": 0.9 * p50},
        "end_to_end": times,
        "images_per_second": 1000 / p50,
        "pictures": 32,
        "peak_mb": 300.0 + p50,
        "first_call": first,
        "score": {"kind": kind, "value": value, "pictures": 101},
        "warnings": list(warnings),
    }


def whole_report(*, truth: bool = True, more: int = 0) -> dict[str, Any]:
    """Return a report with rows of every status, two of them with one title."""
    kind = "mean_iou" if truth else "agreement"
    best = 0.6 if truth else 1.0

    def planned(title: str, p50: float, value: float, *warnings: str) -> dict[str, Any]:
        row = done_row(title, p50=p50, value=value, kind=kind, warnings=warnings)
        del row["name"]
        return {"id": f"{title} {p50}", "title": title, **row}

    rows: list[dict[str, Any]] = [
        planned("best.pt torch", 60, best),
        planned("m.onnx openvino", 40, best),
        planned("m.onnx openvino", 50, best),
        planned("m.onnx openvino:bf16", 30, best - 0.005, "infer: the machine was not idle"),
        {
            "id": "x",
            "title": "int8.onnx openvino",
            "status": "not reached",
            "reason": "the time was over",
        },
        {
            "id": "y",
            "title": "any ONNX file onnxruntime-cuda",
            "status": "failed",
            "reason": "open_backend: needs a GPU, got none; use onnxruntime",
        },
    ]
    for number in range(more):
        drop = 0.02 * (number % 3)
        rows.append(planned(f"best-labels-int8-{number}.onnx openvino", 20 + number, best - drop))
    return matrix_report(
        rows,
        environment=describe_environment(),
        data={"name": "camvid", "split": "val" if truth else None, "pictures": 101, "truth": truth},
        shape="320x480",
        baseline="best.pt torch 60",
        max_drop=0.01,
    )
