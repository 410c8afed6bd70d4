"""Opening a model as a function from images to labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fcnkit.runtime.artifacts.spec import Tta
from fcnkit.runtime.backends.opening import open_model
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import Compute
from fcnkit.runtime.predict.covering import Cover, CoverRequest
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["load", "open_segmenter"]


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
    tta: Tta | None = None,
) -> Segmenter:
    """Open a trained or exported model.

    Args:
        path: A checkpoint (.pt, .pth, .safetensors), or an ONNX file or engine that fcnkit
            exported.
        backend: One that ``fcnkit doctor`` lists and that runs such files. ``auto`` takes the
            fastest one that opens here, and ``segmenter.backend.info`` says which and why.
        threads: CPU threads of one call; every core by default.
        compute: The precision to compute in; ``auto`` is the file's own, never less.
        options: The library's own options, by the library's names. For an ONNX file the backend
            must be named too.
        spec: For an engine without a sidecar: the ONNX file that it was built from.
        cover: How an image of any size is covered, see ``Segmenter``.
        tile: Height and width of the tiles, see ``Segmenter``.
        overlap: Pixels that neighboring tiles share at least, see ``Segmenter``.
        tta: ``flip`` runs every tile twice, as it is and mirrored, and takes the mean of the
            logits; with the head ``logits``.

    Returns:
        A callable from a uint8 RGB image (H, W, 3) to uint8 labels (H, W); close it, or use it in
        a ``with`` block.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        MissingExtraError: The backend's package is not installed.
        BackendUnavailableError: The backend or precision does not run here.
        TypeError: threads is not an int, or options do not map str to str.
        ValueError: The backend, cover or an option is unknown or does not fit the file.

    Example:
        >>> with fcnkit.load("model.onnx") as segmenter:  # doctest: +SKIP
        ...     labels_hw = segmenter(image_hwc)
    """
    request = BackendRequest(
        backend=backend,
        threads=threads,
        compute=compute,
        options={} if options is None else options,
        spec_from=spec,
    )
    covering = CoverRequest(cover=cover, tile=tile, overlap=overlap, tta=tta)
    return open_segmenter(path, request, covering)


def open_segmenter(path: str | Path, request: BackendRequest, covering: CoverRequest) -> Segmenter:
    """Open a model as two requests say; see ``load``."""
    opened = open_model(path, request)
    try:
        return Segmenter.of(opened, covering)
    except ValueError:
        opened.close()
        raise
