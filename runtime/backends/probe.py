"""Which backends can really open a session on this machine, found by trying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fcnkit.errors import FcnkitError, parts
from fcnkit.runtime.backends.registry import BACKENDS, BackendRow
from fcnkit.runtime.backends.tiny import UnfitMachineError

__all__ = ["BackendStatus", "list_backends"]

_NEEDS_GPU: Final = (
    "use a machine with an NVIDIA GPU and its driver; here open the .onnx file with onnxruntime"
)


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """What came of trying one backend."""

    name: str
    opens: bool
    """Whether ``open_backend`` can run a model with it here."""
    detail: str
    """The library's version where it opens, else what is in the way."""
    remedy: str
    """What makes it open; empty where it does."""


def list_backends() -> list[BackendStatus]:
    """Try every backend on a tiny model.

    Returns:
        One status per backend: those of ONNX files, of engines, of checkpoints.
    """
    return [_try(row) for row in BACKENDS.values()]


def _try(row: BackendRow) -> BackendStatus:
    opens, remedy = False, row.install
    try:
        detail, opens, remedy = str(row.load(row.prober)(row.name)), True, ""
    except UnfitMachineError as error:
        detail, remedy = str(error), _NEEDS_GPU
    except FcnkitError as error:
        detail = parts(error).fact
    except Exception as error:  # a library in disrepair fails in its own way: that is the finding
        detail = " ".join(f"{type(error).__name__}: {error}".split())
    return BackendStatus(name=row.name, opens=opens, detail=detail, remedy=remedy)
