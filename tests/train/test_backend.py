"""A checkpoint as a backend: its threads, precision and options, and what it leaves behind."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fcnkit
from fcnkit.errors import ArtifactError, BackendUnavailableError
from fcnkit.runtime import BackendRequest, open_backend
from fcnkit.runtime.backends.opening import open_model
from fcnkit.train.backend import TorchBackend
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, save_checkpoint
from fcnkit.train.models import create_model
from fcnkit.train.recipe import RECIPES
from tests.refusal import refusal

SPEC = checkpoint_spec("fcn32s-resnet18", ("a", "b"), ((0, 0, 0), (9, 9, 9)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    net = create_model("fcn32s-resnet18", 2).state_dict()
    recipe = RECIPES["modern"]
    save_checkpoint(
        path, Checkpoint(spec=SPEC, model=net, resume=None, epoch=0, recipe=recipe, scores={})
    )
    return path


class Spy(nn.Module):
    """Notes what PyTorch is set to while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.seen: dict[str, Any] = {}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.conv(image)
        self.seen = {
            "threads": torch.get_num_threads(),
            "tf32": torch.backends.cudnn.allow_tf32,
            "cudnn": torch.backends.cudnn.enabled,
            "dtype": logits.dtype,
            "training": self.training,
            "grad": logits.requires_grad,
        }
        return logits


@pytest.mark.parametrize(
    ("compute", "dtype"),
    [
        ("auto", torch.float32),
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_it_computes_as_asked_and_leaves_the_process_as_it_was(
    compute: Any, dtype: torch.dtype
) -> None:
    spy = Spy().train()
    before = torch.get_num_threads()
    tf32 = torch.backends.cudnn.allow_tf32
    device = torch.device("cpu")
    with TorchBackend(spy, SPEC, device=device, threads=3, compute=compute) as backend:
        assert backend.details["threads"] == 3
        assert backend.details["compute"] == ("fp32" if compute == "auto" else compute)
        logits = backend.infer(np.ones((1, 3, 32, 32), np.float32))
    assert spy.seen == {
        "threads": 3,
        "tf32": False,
        "cudnn": True,
        "dtype": dtype,
        "training": False,
        "grad": False,
    }
    assert (logits.dtype, logits.shape) == (np.float32, (1, 2, 32, 32))
    assert torch.get_num_threads() == before
    assert torch.backends.cudnn.allow_tf32 == tf32
    assert spy.training


def test_a_network_that_fails_leaves_the_process_as_it_was() -> None:
    before = torch.get_num_threads()
    net = nn.Conv2d(4, 2, 1).train()
    backend = TorchBackend(net, SPEC, device=torch.device("cpu"), threads=3)
    with backend, pytest.raises(ArtifactError, match="must be able to run the model, got Given"):
        backend.infer(np.ones((1, 3, 32, 32), np.float32))
    assert torch.get_num_threads() == before
    assert net.training


def test_load_passes_everything_on(checkpoint: Path) -> None:
    opened = fcnkit.load(
        checkpoint, backend="torch", threads=1, compute="bf16", options={"device": "cpu"}
    )
    with opened as segmenter:
        details = segmenter.backend.details
        assert segmenter.backend.name == "torch"
        assert (details["threads"], details["compute"]) == (1, "bf16")
        assert details["provider"] == "cpu"
        assert segmenter(np.zeros((33, 40, 3), np.uint8)).shape == (33, 40)


def test_bfloat16_agrees_on_most_pixels(checkpoint: Path) -> None:
    batch = np.random.default_rng(0).standard_normal((1, 3, 96, 96), np.float32)
    with open_backend(checkpoint) as exact, open_backend(checkpoint, compute="bf16") as fast:
        agreement = (exact.infer(batch).argmax(1) == fast.infer(batch).argmax(1)).mean()
    assert agreement > 0.9


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (
            {"backend": "onnxruntime"},
            ValueError,
            "open_backend: backend onnxruntime runs ONNX files, got best.pt; "
            "export it to ONNX first",
        ),
        (
            {"spec": "m.onnx"},
            ValueError,
            "open_backend: spec= is for engines; a checkpoint holds its own spec, got m.onnx; "
            "leave it out",
        ),
        (
            {"options": {"threads": "2"}},
            ValueError,
            "open_backend: torch takes the options device, got threads; correct or drop it",
        ),
        (
            {"options": {"device": "tpu"}},
            ValueError,
            "open_backend: device: is auto, cpu, cuda or cuda:N, got tpu; use one",
        ),
        (
            {"options": {"device": "cuda:77"}},
            BackendUnavailableError,
            "open_backend: device: cuda:77 must be a GPU that torch sees, "
            f"got {torch.cuda.device_count()} GPUs; pass the option device=cpu",
        ),
        (
            {"compute": "int8"},
            ValueError,
            "open_backend: compute must be one of auto, fp32, bf16, fp16, got int8; "
            "leave it out for what the file says",
        ),
        (
            {"threads": 0},
            ValueError,
            "open_backend: threads must be at least 1, got 0; pass threads=2",
        ),
    ],
)
def test_wrong_requests(
    checkpoint: Path, given: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with refusal(kind, text):
        fcnkit.load(checkpoint, **given)


def test_a_device_that_torch_does_not_see(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch may be built without CUDA on a machine whose driver shows GPUs."""
    monkeypatch.setattr("fcnkit.runtime.backends.opening.has_driver", lambda: True)
    monkeypatch.setattr("fcnkit.runtime.backends.opening.gpu_count", lambda: 100)
    text = (
        "open_backend: device: cuda:77 must be a GPU that torch sees, "
        f"got {torch.cuda.device_count()} GPUs; leave the device out"
    )
    with refusal(BackendUnavailableError, text):
        open_model(checkpoint, BackendRequest(device=77))
    with open_backend(checkpoint) as opened:
        assert opened.name == "torch"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_is_refused_instead_of_hanging(checkpoint: Path) -> None:
    image_hwc = np.zeros((64, 64, 3), np.uint8)
    with fcnkit.load(checkpoint, threads=2) as segmenter:
        segmenter(image_hwc)  # starts the threads that a fork would wait for
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                segmenter(image_hwc)
            except BaseException as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.close(writing)
        ready, _, _ = select.select([reading], [], [], 60)
        if not ready:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read().decode() == (
                "torch: a checkpoint runs in the process that opened it, got a fork of that "
                "process; open it in a process started with spawn"
            )
        assert segmenter(image_hwc).shape == (64, 64)
