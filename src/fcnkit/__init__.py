"""fcnkit: from labelled pictures to a segmentation model that runs fast wherever it is deployed."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fcnkit.runtime.segmenter import Cover, Segmenter

__version__ = version("fcnkit")

__all__ = ["CHECKPOINT_SUFFIXES", "__version__", "load"]

# A library stays silent until its user configures logging.
logging.getLogger("fcnkit").addHandler(logging.NullHandler())

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")
"""By these names a checkpoint is told from an exported model."""


def load(
    path: str | Path,
    *,
    backend: str = "auto",
    threads: int | None = None,
    cover: Cover | None = None,
) -> Segmenter:
    """Open a trained or exported model.

    Args:
        path: A checkpoint (.pt), run by PyTorch, or an ONNX file that fcnkit exported.
        backend: ``auto``, ``torch`` for a checkpoint, or one that ``fcnkit doctor`` lists.
        threads: CPU threads of one call; every core by default. Not for checkpoints, which use
            PyTorch's own setting.
        cover: How a picture of any size is covered, see ``Segmenter``.

    Returns:
        A callable from a uint8 RGB picture (H, W, 3) to uint8 labels (H, W).

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend does not run here.
        ValueError: The backend or cover does not fit the file.

    Example:
        >>> with fcnkit.load("model.onnx") as segmenter:  # doctest: +SKIP
        ...     labels_hw = segmenter(image_hwc)
    """
    path = Path(path)
    if path.suffix not in CHECKPOINT_SUFFIXES:
        from fcnkit.runtime import load as load_exported

        return load_exported(path, backend=backend, threads=threads, cover=cover)
    from fcnkit.errors import message, missing_extra
    from fcnkit.runtime.segmenter import Segmenter

    if backend not in ("auto", "torch") or threads is not None:
        got = f"backend={backend!r}, threads={threads}"
        rule = "a checkpoint runs in PyTorch with PyTorch's threads"
        raise ValueError(message("load", rule, got, "export it to ONNX first"))
    try:
        from fcnkit.train.backend import open_checkpoint
    except ModuleNotFoundError as error:
        raise missing_extra("load", str(error.name), "train") from error
    return Segmenter(open_checkpoint(path), cover=cover)
