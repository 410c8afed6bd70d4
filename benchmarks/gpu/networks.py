"""What the stages run: an untrained FCN-32s on ResNet-18, its exports, and pictures.

Weights change neither speed nor memory. Labels of an untrained network lie close together, so its
agreement is a lower bound for a trained one's.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.gpu.context import Context
from fcnkit.runtime.artifacts.spec import Head, Precision
from fcnkit.runtime.files import atomic_path

__all__ = [
    "EXPORTS",
    "Export",
    "checkpoint",
    "exported",
    "label_exports",
    "models",
    "pictures",
]


class Export(NamedTuple):
    """One ONNX file."""

    head: Head
    precision: Precision

    @property
    def name(self) -> str:
        """As it is called in the report."""
        return f"{self.head} {self.precision}"


EXPORTS: Final = (
    Export("labels", "fp32"),
    Export("labels", "fp16"),
    Export("scene", "fp32"),
    Export("logits", "fp16"),
)
DRY_EXPORTS: Final = EXPORTS[:1]


def models(context: Context) -> None:
    """Export every model, on several cores at once."""
    context.attempt("checkpoint", partial(_seconds, checkpoint, context.folder))
    if context.dry:
        for export in DRY_EXPORTS:
            context.attempt(export.name, partial(_seconds, exported, context.folder, export))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(EXPORTS), mp_context=spawn) as pool:
        waiting = {
            export: pool.submit(_seconds, exported, context.folder, export) for export in EXPORTS
        }
        for export, future in waiting.items():
            context.attempt(export.name, future.result)


def _seconds(work: Callable[..., object], *arguments: Any) -> dict[str, float]:
    start = time.perf_counter()
    work(*arguments)
    return {"seconds": time.perf_counter() - start}


def checkpoint(folder: Path) -> Path:
    """Return the checkpoint, made where it is not there yet."""
    from benchmarks.backends import untrained

    path = folder / "best.pt"
    return path if path.exists() else untrained(folder)


def exported(folder: Path, export: Export) -> Path:
    """Return an ONNX file, made where it is not there yet."""
    from fcnkit.export.to_onnx import export_onnx

    path = folder / f"{export.head}-{export.precision}.onnx"
    if not path.exists():
        export_onnx(checkpoint(folder), path, head=export.head, precision=export.precision)
    return path


def label_exports(context: Context) -> tuple[Export, ...]:
    """The exports that whole runs are measured with."""
    return DRY_EXPORTS if context.dry else (Export("labels", "fp16"), Export("labels", "fp32"))


def pictures(folder: Path, count: int) -> list[Path]:
    """Return JPEGs of 480x360 with structure and grain in them, made where they are not there."""
    home = folder / "pictures"
    home.mkdir(exist_ok=True)
    paths = [home / f"{number:05}.jpg" for number in range(count)]
    kinds: list[bytes] = []
    for number, path in enumerate(paths):
        if len(kinds) < 32:
            kinds.append(_picture(home, number))
        if not path.exists():
            path.write_bytes(kinds[number % 32])
    return paths


def _picture(folder: Path, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((480, 360), Image.Resampling.BICUBIC), np.int16)
    grain = random.normal(0, 12, smooth.shape).astype(np.int16)
    with atomic_path(folder / f"kind-{seed}.jpg", sync=False) as path:
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
        return path.read_bytes()
