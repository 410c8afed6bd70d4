"""Running an exported model against the network it came from, in PyTorch and float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fcnkit.errors import VerifyError, message
from fcnkit.runtime.backends import open_backend
from fcnkit.runtime.spec import Head, ModelSpec, Shape, format_shape
from fcnkit.runtime.tiling import plan_tiles

__all__ = ["VerifyReport", "verify_onnx"]

SHAPES: dict[Head, tuple[Shape, ...]] = {
    "logits": ((1, 32, 32), (1, 320, 480), (2, 96, 64), (3, 64, 160)),
    "labels": ((1, 32, 32), (1, 320, 480), (2, 96, 64), (3, 64, 160)),
    "scene": ((1, 32, 32), (1, 320, 480), (1, 375, 500), (1, 63, 97), (1, 64, 65), (1, 95, 32)),
}
"""Smallest, typical, not square, several pictures; for scene also odd sizes."""

TOLERANCE = 1e-3
"""How far a float32 logit may be off, as a share of the largest logit of the picture (at least 1):
the order of sums differs between the libraries, nothing else."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What a comparison measured, over all shapes."""

    shapes: tuple[Shape, ...]
    max_error: float | None
    """Largest difference of a logit, as a share of the largest logit; None where the model gives
    labels only."""
    label_agreement: float
    """Share of pixels with PyTorch's label, 0..1."""
    max_margin: float
    """Over the pixels that disagree: how far PyTorch's logit of the label given lies below its
    largest, as a share of the largest logit. Near 0 means that only ties fell otherwise."""

    def summary(self) -> str:
        """Return one line for the spec."""
        error = "" if self.max_error is None else f"max error {self.max_error:.1e}, "
        sizes = ", ".join(format_shape(shape) for shape in self.shapes)
        agreement = f"label agreement {100 * self.label_agreement:.4f} %"
        return f"{error}{agreement}, largest margin {self.max_margin:.1e} ({sizes})"


def verify_onnx(path: Path, net: nn.Module) -> VerifyReport:
    """Compare an ONNX file, run by ONNX Runtime, with its network, run by PyTorch.

    Args:
        path: The file, spec inside.
        net: The network in evaluation mode.

    Returns:
        What was measured.

    Raises:
        VerifyError: A logit, or the margin of a pixel with another label, is off by more than
            TOLERANCE.
    """
    errors, agreed, pixels, margin = [], 0, 0, 0.0
    with open_backend(path, backend="onnxruntime") as backend:
        spec = backend.spec
        for shape in SHAPES[spec.head]:
            image_nhwc = noise_pictures(shape)
            expected_nchw = reference_logits(net, spec, image_nhwc)
            if spec.head == "logits":
                logits_nchw = backend.infer(_normalised(image_nhwc, spec))
                errors.append(_relative_error(logits_nchw, expected_nchw))
                labels_nhw = logits_nchw.argmax(1)
            else:
                labels_nhw = backend.infer(image_nhwc).astype(np.int64)
            agreed += int((labels_nhw == expected_nchw.argmax(1)).sum())
            pixels += labels_nhw.size
            margin = max(margin, _margin(expected_nchw, labels_nhw))
    report = VerifyReport(
        shapes=SHAPES[spec.head],
        max_error=max(errors, default=None),
        label_agreement=agreed / pixels,
        max_margin=margin,
    )
    if max(margin, *errors, 0.0) > TOLERANCE or not np.isfinite([margin, *errors]).all():
        rule = f"must agree with PyTorch within {TOLERANCE:g} of the largest logit"
        remedy = "this is a bug of the exporter or a library, please report it"
        raise VerifyError(message(path.name, rule, report.summary(), remedy))
    return report


def noise_pictures(shape: Shape) -> NDArray[np.uint8]:
    """Return deterministic pictures (N, H, W, 3) with coarse and fine structure."""
    batch, height, width = shape
    random = np.random.default_rng(height * 4099 + width)
    coarse = random.integers(0, 256, (batch, -(-height // 16), -(-width // 16), 3))
    coarse = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    fine = random.integers(-40, 41, (batch, height, width, 3))
    return (coarse + fine).clip(0, 255).astype(np.uint8)


def reference_logits(
    net: nn.Module, spec: ModelSpec, image_nhwc: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Compute the logits slowly and plainly: for ``scene``, the mean over the covering tiles.

    Args:
        net: The network in evaluation mode.
        spec: Says the head and the normalisation.
        image_nhwc: uint8 (N, H, W, 3).

    Returns:
        float64 (N, K, H, W).
    """
    if spec.head != "scene":
        return _run(net, _normalised(image_nhwc, spec))
    plan = plan_tiles(*image_nhwc.shape[1:3])
    height, width = plan.tile
    total = np.zeros((1, spec.num_classes, *image_nhwc.shape[1:3]))
    count = np.zeros(image_nhwc.shape[1:3])
    for top, left in plan:
        window = np.s_[top : top + height, left : left + width]
        total[:, :, *window] += _run(net, _normalised(image_nhwc[:, *window], spec))
        count[window] += 1
    return total / count


def _run(net: nn.Module, image_nchw: NDArray[np.float32]) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits: NDArray[np.float64] = net(torch.from_numpy(image_nchw)).double().numpy()
    return logits


def _normalised(image_nhwc: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    scaled = (image_nhwc / 255 - np.array(spec.input.mean)) / np.array(spec.input.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32)


def _relative_error(got: NDArray[np.float32], expected: NDArray[np.float64]) -> float:
    if got.shape != expected.shape:
        return float("inf")
    return float(np.abs(got - expected).max() / _largest(expected))


def _margin(expected_nchw: NDArray[np.float64], labels_nhw: NDArray[np.int64]) -> float:
    """Return by how much the given labels' logits miss the largest, see VerifyReport."""
    batch, classes, height, width = expected_nchw.shape
    if labels_nhw.shape != (batch, height, width) or labels_nhw.max() >= classes:
        return float("inf")
    given = np.take_along_axis(expected_nchw, labels_nhw[:, None], 1)[:, 0]
    return float((expected_nchw.max(1) - given).max() / _largest(expected_nchw))


def _largest(logits: NDArray[np.float64]) -> float:
    return max(1.0, float(np.abs(logits).max()))
