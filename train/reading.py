"""Training batches that other processes read, and the errors of those processes.

An error that is raised in a reading process reaches the training process as text only: torch
re-raises it as ``type(error)(traceback)``. So the reading process returns the error instead, and
``batches`` raises it.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from fcnkit.errors import FcnkitError, message

__all__ = ["Loader", "batches", "reading_loader", "worker_errors"]

_Example = TypeVar("_Example")
_Key = TypeVar("_Key")

_OF_SHARED_MEMORY = ("shared memory", "</torch_", "Bus error")
"""What torch and the system say where batches do not fit into it."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in a reading process, and its traceback."""

    error: FcnkitError
    trace: str


Loader = DataLoader[_Example | Failure]
"""Batches, or why one could not be read."""


def reading_loader(
    dataset: Dataset[_Example], sampler: Sampler[_Key], *, batch: int, workers: int
) -> Loader[_Example]:
    """Return a loader for ``batches``.

    Args:
        dataset: Gives an example per key.
        sampler: The keys of an epoch.
        batch: Examples per batch.
        workers: Processes that read; 0 reads in this one.

    Returns:
        The loader.
    """
    return DataLoader(
        _Caught(dataset) if workers else dataset,
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_collate_caught if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def batches(loader: Loader[_Example]) -> Iterator[_Example]:
    """Yield the batches of an epoch.

    Args:
        loader: Of ``reading_loader``.

    Yields:
        The collated batches.

    Raises:
        FcnkitError: A reading process has failed; a ``DataError`` where a file is damaged.
    """
    for batch in loader:
        if isinstance(batch, Failure):
            raise batch.error from RuntimeError(batch.trace)
        yield batch


class _Caught(Dataset[_Example | Failure], Generic[_Example]):
    """Examples of another data set; where it fails, the failure as the example."""

    def __init__(self, dataset: Dataset[_Example]) -> None:
        self.dataset = dataset

    def __getitem__(self, key: object) -> _Example | Failure:
        try:
            return self.dataset[key]
        except Exception as error:
            return _failure(error)


def _collate_caught(examples: list[_Example | Failure]) -> object:
    """Return the first failure of a batch, or else the batch."""
    for example in examples:
        if isinstance(example, Failure):
            return example
    try:
        return default_collate(examples)  # into shared memory, which may be full
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Failure:
    # Errors of other libraries may not be picklable.
    if not isinstance(error, FcnkitError):
        rule = "the processes that read pictures must not fail"
        remedy = "fix the cause, or read in the training process with --workers 0"
        error = _reader_error(rule, f"{type(error).__name__}: {error}", remedy)
    return Failure(error, traceback.format_exc())


def _reader_error(rule: str, got: str, remedy: str) -> FcnkitError:
    if any(sign in got for sign in _OF_SHARED_MEMORY):
        rule = "the processes that read pictures need room in shared memory, /dev/shm"
        remedy = "use --workers 0, or give a container more with docker run --shm-size=2g"
    return FcnkitError(message("training", rule, got, remedy))


@contextmanager
def worker_errors() -> Iterator[None]:
    """Reword two errors that torch raises in the middle of training.

    Raises:
        FcnkitError: A reading process has died, or the GPU's memory is too small.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        rule, got = "a step must fit into the GPU's memory", str(error).partition(". ")[0]
        raise FcnkitError(message("training", rule, got, "lower --batch or --crop")) from error
    except RuntimeError as error:
        # A signal handler of torch raises this wherever the process is when a child dies.
        if "DataLoader worker" not in str(error):
            raise
        on_posix = sys.platform != "win32"
        if on_posix and threading.current_thread() is threading.main_thread():
            # Else the next process to die would raise on the way out, and hide this error.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        rule = "the processes that read pictures must live"
        remedy = "continue with --resume, with fewer --workers if memory is short"
        raise _reader_error(rule, str(error).strip().splitlines()[0], remedy) from error
