"""fcnkit: from labeled pictures to a segmentation model that runs fast wherever it is deployed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fcnkit.errors import (
    ArtifactError,
    BackendUnavailableError,
    BadTypeError,
    BadValueError,
    DataError,
    FcnkitError,
    MissingExtraError,
    VerifyError,
    message,
    missing_extra,
)
from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit import export, runtime, train
    from fcnkit.runtime.artifacts.spec import ModelSpec
    from fcnkit.runtime.backends.settings import Compute
    from fcnkit.runtime.predict.covering import Cover
    from fcnkit.runtime.predict.segmenter import Segmenter
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.export": ["export"],
            "fcnkit.runtime": ["runtime"],
            "fcnkit.runtime.artifacts.spec": ["ModelSpec"],
            "fcnkit.runtime.predict.segmenter": ["Segmenter"],
            "fcnkit.train": ["train"],
        },
    )

__version__ = version("fcnkit")

__all__ = [
    "ArtifactError",
    "BackendUnavailableError",
    "BadTypeError",
    "BadValueError",
    "DataError",
    "FcnkitError",
    "MissingExtraError",
    "ModelSpec",
    "Segmenter",
    "VerifyError",
    "__version__",
    "export",
    "load",
    "runtime",
    "train",
]


# A library stays silent until its user configures logging.
logging.getLogger("fcnkit").addHandler(logging.NullHandler())


def load(
    path: str | Path,
    *,
    backend: str = "auto",
    threads: int | None = None,
    compute: Compute = "auto",
    options: Mapping[str, str] | None = None,
    spec: str | Path | None = None,
    cover: Cover | None = None,
    tile: tuple[int, int] | None = None,
    overlap: int | None = None,
) -> Segmenter:
    """Open a trained or exported model.

    Args:
        path: A checkpoint (.pt), or an ONNX file or engine that fcnkit exported.
        backend: One that ``fcnkit doctor`` lists and that runs such files; ``auto`` takes the
            fastest that opens here, and ``segmenter.backend.details`` say which.
        threads: CPU threads of one call; every core by default.
        compute: The precision to compute in; ``auto`` is what the file says, never less.
        options: The library's own options, by the library's names.
        spec: For an engine without a sidecar: the ONNX file that it was built from.
        cover: How a picture of any size is covered, see ``Segmenter``.
        tile: Height and width of the tiles, see ``Segmenter``.
        overlap: Pixels that neighboring tiles share at least, see ``Segmenter``.

    Returns:
        A callable from a uint8 RGB picture (H, W, 3) to uint8 labels (H, W).

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend or precision does not run here.
        TypeError: threads is not an integer, or options do not map str to str.
        ValueError: The backend, cover or an option is unknown or does not fit the file.

    Example:
        >>> with fcnkit.load("model.onnx") as segmenter:  # doctest: +SKIP
        ...     labels_hw = segmenter(image_hwc)
    """
    from fcnkit.runtime.artifacts.description import CHECKPOINT_SUFFIXES

    path = Path(path)
    if path.suffix not in CHECKPOINT_SUFFIXES:
        from fcnkit.runtime.predict.opening import load as load_exported

        return load_exported(
            path,
            backend=backend,
            threads=threads,
            compute=compute,
            options=options,
            spec=spec,
            cover=cover,
            tile=tile,
            overlap=overlap,
        )
    from fcnkit.runtime.predict.segmenter import Segmenter

    asked: object = backend  # what callers without a type checker pass
    if not isinstance(asked, str) or asked not in ("auto", "torch"):
        rule = "a checkpoint runs with backend torch"
        raise BadValueError(message("load", rule, asked, "export it to ONNX first"))
    if spec is not None:
        rule = "spec= is for engines; a checkpoint holds its own spec"
        raise BadValueError(message("load", rule, str(spec), "leave it out"))
    try:
        from fcnkit.train.backend import open_checkpoint
    except ModuleNotFoundError as error:
        raise missing_extra("load", str(error.name), "train") from error
    opened = open_checkpoint(path, threads=threads, compute=compute, options=options)
    try:
        return Segmenter(opened, cover=cover, tile=tile, overlap=overlap)
    except (TypeError, ValueError):
        opened.close()
        raise
