"""TensorRT-RTX's compiled kernels, kept beside the engine from one process to the next.

TensorRT-RTX compiles an engine's kernels on the machine that runs it. Its runtime cache saves that
work. The file is one line of JSON that says which engine and library it belongs to, and then the
library's own bytes. The library checks that GPU and driver fit.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, Final

from fcnkit.runtime.artifacts.engine_file import EngineFile
from fcnkit.runtime.backends.tensorrt_library import library_name
from fcnkit.runtime.files import atomic_write

__all__ = ["RuntimeCache", "cache_path"]

_FORMAT: Final = 1
_MOST_HEADER: Final = 4096
_MOST_BYTES: Final = 1 << 30

_log = logging.getLogger("fcnkit.tensorrt")


def cache_path(engine: Path) -> Path:
    """Return where an engine's cache lies, such as ``m.engine.cache``."""
    return engine.with_name(f"{engine.name}.cache")


class RuntimeCache:
    """The cache that all contexts of an engine share."""

    def __init__(self, trt: Any, config: Any, file: EngineFile) -> None:
        """Give a runtime configuration a cache, with what the file holds.

        A file that is broken, or another engine's, is ignored with a line in the log.

        Args:
            trt: The module ``tensorrt_rtx``.
            config: The IRuntimeConfig that contexts are made from.
            file: The engine. A CUDA context must be current.
        """
        self._path = cache_path(file.path)
        self._belongs = {
            "format": _FORMAT,
            "plan_sha256": hashlib.sha256(file.plan).hexdigest(),
            "library": library_name(trt),
        }
        # The library does not keep the cache alive; whoever holds this object does.
        self._cache: Any = config.create_runtime_cache()
        self._held = self._read()
        if self._held and not self._cache.deserialize(self._held):
            self._ignore("made on another GPU or with another driver")
            self._held = b""
        if not config.set_runtime_cache(self._cache):
            self._cache = None
            _log.warning("%s: the library takes no runtime cache", self._path)

    def keep(self) -> None:
        """Write the file where there is something new; what fails is a line in the log."""
        if self._cache is None:
            return
        content = bytes(self._cache.serialize())
        self._cache = None
        if not content or content == self._held:
            return
        head = {**self._belongs, "sha256": hashlib.sha256(content).hexdigest()}
        try:
            atomic_write(self._path, json.dumps(head).encode() + b"\n" + content)
        except OSError as error:
            _log.warning("%s: the compiled kernels are not kept: %s", self._path, error)

    def _read(self) -> bytes:
        """Return what the file holds; nothing where there is none, or it is not this engine's."""
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                return self._ignore("larger than 1 GiB")
            with self._path.open("rb") as file:
                line = file.readline(_MOST_HEADER)
                content = file.read()
            head = json.loads(line)
            sha256 = head.pop("sha256")
        except FileNotFoundError:
            return b""
        except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            return self._ignore(f"broken ({type(error).__name__})")
        if head != self._belongs:
            return self._ignore("of another engine or library")
        if sha256 != hashlib.sha256(content).hexdigest():
            return self._ignore("broken (other bytes than its hash says)")
        return content

    def _ignore(self, why: str) -> bytes:
        _log.warning("%s: ignored because it is %s; it is written again", self._path, why)
        return b""
