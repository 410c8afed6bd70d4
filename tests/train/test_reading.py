"""Errors of the processes that read training batches."""

from __future__ import annotations

import os
import resource
import signal
import sys

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler

from fcnkit.errors import DataError, FcnkitError, message
from fcnkit.train.reading import batches, reading_loader, worker_errors
from tests.refusal import refusal


@pytest.mark.skipif(sys.platform == "win32", reason="no signal tells of a child's death")
def test_the_second_death_of_a_reading_process_hides_no_error() -> None:
    def died(*_: object) -> None:  # as torch's own handler does, wherever this process is
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")

    before = signal.signal(signal.SIGCHLD, died)
    try:
        with pytest.raises(FcnkitError, match="the processes that read pictures must live"):
            try:
                with worker_errors():
                    os.kill(os.getpid(), signal.SIGCHLD)
            finally:
                os.kill(os.getpid(), signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)


class Failing(Dataset[Tensor]):
    """Fails in the process that reads."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        if self.error is None:
            # As in a container with little shared memory: no file of this size can be made.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
            return torch.zeros(1 << 20)
        raise self.error


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory has limits of other kinds")
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            None,
            r"training: the processes that read pictures need room in shared memory, /dev/shm, "
            r"got RuntimeError: unable to \w+ .*; use --workers 0, or give a container more with "
            r"docker run --shm-size=2g",
        ),
        (
            MemoryError("Unable to allocate 3 GB"),
            "training: the processes that read pictures must not fail, got MemoryError: Unable to "
            "allocate 3 GB; fix the cause, or read in the training process with --workers 0",
        ),
        (
            RuntimeError("one: two\nthree"),
            "training: the processes that read pictures must not fail, got RuntimeError: one: two "
            "three; fix the cause, or read in the training process with --workers 0",
        ),
    ],
)
def test_the_cause_of_a_failed_reading_process_is_shown(
    error: BaseException | None, text: str
) -> None:
    failing = Failing(error)
    loader = reading_loader(failing, SequentialSampler(failing), batch=2, workers=1)
    with pytest.raises(FcnkitError, match=rf"\A{text}\Z") as caught:
        list(batches(loader))
    assert caught.value.what == "training"
    assert "Traceback" in str(caught.value.__cause__)


def test_an_error_of_a_reading_process_keeps_its_class_and_parts() -> None:
    failing = Failing(DataError(message("a.png", "must be a picture", "text", "drop it")))
    loader = reading_loader(failing, SequentialSampler(failing), batch=1, workers=1)
    with refusal(DataError, "a.png: must be a picture, got text; drop it") as caught:
        list(batches(loader))
    assert caught.value.remedy == "drop it"


def test_errors_of_the_training_process_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"\Amine\Z"), worker_errors():
        raise RuntimeError("mine")
