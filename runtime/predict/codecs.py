"""Which library reads JPEG files, for ``fcnkit doctor`` and benchmarks."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fcnkit.runtime.predict.jpeg import jpeg_library

__all__ = ["describe_codecs"]


def describe_codecs() -> dict[str, str]:
    """Say which library reads JPEG files here.

    Returns:
        ``jpeg``, a library with its version, and why it is not the faster one.
    """
    pillow, fast = f"Pillow {version('pillow')}", _version("simplejpeg")
    if jpeg_library() is not None:
        jpeg = f"simplejpeg {fast}"
    elif fast is None:
        jpeg = f"{pillow} (the extra fast brings simplejpeg)"
    else:
        jpeg = f"{pillow} (simplejpeg {fast} decodes differently or does not load)"
    return {"jpeg": jpeg}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
