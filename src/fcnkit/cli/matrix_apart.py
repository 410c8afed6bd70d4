"""What ``fcnkit bench matrix`` does in other processes: reading, exporting and scoring.

The first process opens no model and imports no inference library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcnkit.runtime.artifacts.spec import Head, Precision
    from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["export_file", "mean_iou", "spec_of_checkpoint"]


def spec_of_checkpoint(path: Path) -> str:
    """Return the spec of a checkpoint as JSON.

    Args:
        path: The checkpoint.

    Raises:
        ArtifactError: It is not a checkpoint.
        MissingExtraError: PyTorch is not installed.
    """
    from fcnkit.runtime.backends.opening import open_backend

    with open_backend(path) as backend:
        return backend.spec.to_json()


def export_file(
    checkpoint: Path,
    folder: Path,
    *,
    head: Head | None,
    precision: Precision,
    calibration: Path | None,
) -> Path:
    """Export a checkpoint.

    Args:
        checkpoint: The file.
        folder: Where the ONNX file is written.
        head: See ``export_onnx``.
        precision: See ``export_onnx``.
        calibration: For int8: the pictures.

    Returns:
        The ONNX file.

    Raises:
        Exception: As ``export_onnx``.
    """
    from fcnkit.export import export_onnx

    out = folder / "model.onnx"
    export_onnx(checkpoint, out, head=head, precision=precision, calibration=calibration)
    return out


def mean_iou(segmenter: Segmenter, *, root: Path, split: str) -> dict[str, Any]:
    """Score a model as ``fcnkit eval`` does.

    Args:
        segmenter: The model.
        root: Folder in VOC layout.
        split: Which list.

    Returns:
        See ``fcnkit.runtime.bench.matrix.Score``.

    Raises:
        DataError: As ``fcnkit.train.evaluation.measure``.
    """
    from fcnkit.cli.evaluate import warnings_of
    from fcnkit.train.data.voc import open_voc
    from fcnkit.train.evaluation import measure

    folder = open_voc(root, split=split)
    measured = measure(segmenter, folder)
    return {
        "kind": "mean_iou",
        "value": measured.scores.mean_iou,
        "pixel_accuracy": measured.scores.pixel_accuracy,
        "pictures": len(folder.samples),
        "warnings": warnings_of(measured, folder),
    }
