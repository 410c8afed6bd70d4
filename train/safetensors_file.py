"""Reading and writing .safetensors: named tensors and text, a format that cannot hold code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from fcnkit.errors import ArtifactError, message, missing_extra

__all__ = ["read", "to_bytes"]


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor and the metadata.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU, and the metadata.

    Raises:
        ArtifactError: The file is missing or damaged.
        MissingExtraError: safetensors is not installed.
    """
    library = _library()
    if not path.is_file():
        remedy = "check the path"
        raise ArtifactError(message(str(path), "must be a .safetensors file", "no file", remedy))
    try:
        with library.safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (library.SafetensorError, OSError, ValueError, RuntimeError) as error:
        rule, remedy = "must be a whole .safetensors file", "copy it again"
        raise ArtifactError(message(str(path), rule, str(error)[:200], remedy)) from error


def to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the content of a file.

    Args:
        tensors: By name; they may share no memory.
        metadata: Text by name.

    Raises:
        MissingExtraError: safetensors is not installed.
    """
    _library()
    from safetensors.torch import save

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content: bytes = save(whole, metadata)
    return content


def _library() -> Any:
    try:
        import safetensors
    except ImportError:
        raise missing_extra(".safetensors files", "safetensors", "train") from None
    return safetensors
