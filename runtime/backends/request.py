"""How a model is to be opened: one frozen value, checked once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.backends.registry import BACKENDS
from fcnkit.runtime.backends.settings import Compute, check_compute, check_threads, usable_cores
from fcnkit.runtime.checks import check_int

__all__ = ["BackendRequest"]

_WHAT: Final = "open_backend"
_MOST_DEVICES: Final = 255


@dataclass(frozen=True, kw_only=True)
class BackendRequest:
    """What a user asks for when a model is opened.

    Making one checks everything that does not depend on the file.

    Raises:
        TypeError: backend is not a str, threads is not an int, options do not map str to str, or
            device or spec_from is of another type.
        ValueError: The backend or precision is unknown, or threads or device is out of range.
    """

    backend: str = "auto"
    """A name that ``fcnkit doctor`` lists, or ``auto``."""
    threads: int | None = None
    """CPU threads of one call; None for every core."""
    compute: Compute = "auto"
    """The precision to compute in; ``auto`` is the file's own."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The library's own options, by the library's names."""
    device: int | None = None
    """Number of the GPU that runs the model; None leaves it to the backend."""
    spec_from: str | Path | None = None
    """For an engine without a sidecar: the ONNX file that it was built from."""

    def __post_init__(self) -> None:
        """Check every field."""
        _check_name(self.backend)
        check_threads(self.threads, what=_WHAT)
        object.__setattr__(self, "compute", check_compute(self.compute, what=_WHAT))
        object.__setattr__(self, "options", _checked_options(self.options))
        if self.device is not None:
            check_int(f"{_WHAT}: device", self.device, 0, _MOST_DEVICES)
        _check_path(self.spec_from)

    @property
    def cpu_threads(self) -> int:
        """CPU threads of one call: the given number, or every core that this process may use."""
        return usable_cores() if self.threads is None else self.threads


def _check_path(path: object) -> None:
    if path is not None and not isinstance(path, str | os.PathLike):
        rule, got = "spec= must be a path", type(path).__name__
        raise BadTypeError(message(_WHAT, rule, got, "pass the path of the ONNX file"))


def _check_name(backend: object) -> None:
    if not isinstance(backend, str):
        rule, got = "backend must be a name", type(backend).__name__
        raise BadTypeError(message(_WHAT, rule, got, "see fcnkit doctor"))
    names = ("auto", *BACKENDS)
    if backend not in names:
        rule = f"backend must be one of {', '.join(names)}"
        raise BadValueError(message(_WHAT, rule, backend, "see fcnkit doctor"))


def _checked_options(options: object) -> dict[str, str]:
    remedy = "pass {'KEY': 'VALUE'}"
    if not isinstance(options, Mapping):
        rule, got = "options must be a mapping", type(options).__name__
        raise BadTypeError(message(_WHAT, rule, got, remedy))
    for key, value in options.items():
        if not isinstance(key, str) or not isinstance(value, str):
            rule = "options must map str to str"
            raise BadTypeError(message(_WHAT, rule, {key: value}, remedy))
    return dict(options)
