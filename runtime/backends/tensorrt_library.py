"""The two TensorRT modules, imported by flavor, and their log lines in Python logging.

``tensorrt`` and ``tensorrt_rtx`` are near twins, so all that is built on them takes the module
object. TensorRT-RTX builds ahead of time on machines without a GPU; ordinary TensorRT needs the GPU
it builds for.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

from fcnkit.errors import BackendUnavailableError, MissingExtraError, message, missing_extra
from fcnkit.runtime.artifacts.engine_header import Flavor, FlavorChoice
from fcnkit.runtime.backends.settings import version_of

__all__ = ["import_library", "library_name", "logger_of"]

_MODULES: Final[dict[Flavor, str]] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}

_OLDEST: Final[dict[Flavor, str]] = {"tensorrt": "10.1", "tensorrt-rtx": "1.6"}
"""TensorRT-RTX 1.4 and 1.5 hang with several contexts and CUDA graphs."""

_loggers: dict[str, Any] = {}

_log = logging.getLogger("fcnkit.tensorrt")


def import_library(flavor: FlavorChoice, *, what: str) -> tuple[Flavor, Any]:
    """Import a flavor's module; auto takes ordinary TensorRT where it is installed.

    Args:
        flavor: The requested flavor.
        what: The command or function that needs it, for the error.

    Returns:
        The flavor and its module.

    Raises:
        MissingExtraError: It is not installed.
        BackendUnavailableError: It is too old.
    """
    if flavor == "auto":
        try:
            return import_library("tensorrt", what=what)
        except MissingExtraError:
            flavor = "tensorrt-rtx"
    try:
        trt = importlib.import_module(_MODULES[flavor])
    except ImportError as error:
        raise missing_extra(what, _MODULES[flavor], flavor) from error
    if version_of(trt.__version__) < version_of(_OLDEST[flavor]):
        rule = f"needs {flavor} {_OLDEST[flavor]} or later"
        remedy = f"pip install -U 'fcnkit[{flavor}]'"
        raise BackendUnavailableError(message(what, rule, trt.__version__, remedy))
    return flavor, trt


def library_name(trt: Any) -> str:
    """Return module and version, such as ``tensorrt_rtx 1.7.1.116``."""
    return f"{trt.__name__} {trt.__version__}"


def logger_of(trt: Any) -> Any:
    """Return the one logger of a module, which hands the library's lines to Python logging.

    There is one because the library keeps to the first that it is given in a process.

    Args:
        trt: The module.

    Returns:
        The logger. ``first_error`` is the first error since it was last set to None: what
        follows it is mostly its consequences.
    """
    if trt.__name__ not in _loggers:
        _loggers[trt.__name__] = _make_logger(trt)
    return _loggers[trt.__name__]


def _make_logger(trt: Any) -> Any:
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.INFO,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            super().__init__()
            self.first_error: str | None = None

        def log(self, severity: Any, text: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR and self.first_error is None:
                self.first_error = text
            _log.log(level, text)

    return Logger()
