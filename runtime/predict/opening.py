"""Opening an exported model as a function from images to labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fcnkit.runtime.backends.opening import open_backend
from fcnkit.runtime.backends.settings import Compute
from fcnkit.runtime.predict.covering import Cover
from fcnkit.runtime.predict.segmenter import Segmenter

__all__ = ["load"]


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
    """Open an exported model as a function from pictures to labels.

    Args:
        path: An ONNX file or engine that fcnkit exported.
        backend: The library that runs it, as for ``open_backend``.
        threads: CPU threads of one call; every core by default.
        compute: The precision to compute in, as for ``open_backend``.
        options: The library's own options, as for ``open_backend``.
        spec: For an engine without a sidecar: the ONNX file that it was built from.
        cover: How pictures of any size are covered, as for ``Segmenter``.
        tile: Height and width of the tiles, see ``Segmenter``.
        overlap: Pixels that neighboring tiles share at least, see ``Segmenter``.

    Returns:
        The segmenter; close it, or use it in a ``with`` block.

    Raises:
        ArtifactError: The file is missing, broken or without a fitting spec.
        BackendUnavailableError: The backend or precision does not run here.
        MissingExtraError: The backend's package is not installed.
        ValueError: The backend, precision or an option is unknown, or the head cannot cover so.
    """
    opened = open_backend(
        path, backend=backend, threads=threads, compute=compute, options=options, spec=spec
    )
    try:
        return Segmenter(opened, cover=cover, tile=tile, overlap=overlap)
    except (TypeError, ValueError):
        opened.close()
        raise
