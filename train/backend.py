"""A checkpoint as a backend, so that it is evaluated by the code that runs exported models."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fcnkit.errors import FcnkitError, message
from fcnkit.runtime.artifacts.precisions import NUMBER_TYPES
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.base import BackendInfo, CheckedBackend
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.backends.settings import Compute, check_options
from fcnkit.runtime.backends.tiny import check_doubled, ones
from fcnkit.train.checkpoint import load_model
from fcnkit.train.device import pick_device
from fcnkit.train.frozen import frozen_copy

__all__ = ["TorchBackend", "open_checkpoint", "probe"]

_TURN: Final = threading.Lock()
"""Threads take turns: they share the network's mode and PyTorch's settings."""


class TorchBackend(CheckedBackend):
    """Runs a network with PyTorch, in float32 unless less is requested."""

    def __init__(
        self,
        net: nn.Module,
        spec: ModelSpec,
        *,
        device: torch.device,
        threads: int | None = None,
        compute: Compute = "auto",
    ) -> None:
        """Wrap a network.

        Args:
            net: Takes (N, 3, H, W) float32, gives logits; it is on the device. It runs in
                evaluation mode and is left in the mode that it was in.
            spec: Its spec, head logits.
            device: Where it runs.
            threads: CPU threads of one call; PyTorch's setting by default. The setting is one
                for the whole process, so it is put back after every call.
            compute: ``auto`` and ``fp32`` are float32, TensorFloat-32 excluded; ``bf16`` and
                ``fp16`` are PyTorch's autocast.
        """
        self._threads = torch.get_num_threads() if threads is None else threads
        info = BackendInfo(
            library="torch",
            version=torch.__version__,
            device="cpu" if device.type == "cpu" else "gpu",
            device_name=str(device),
            threads=self._threads,
            precision="fp32" if compute == "auto" else compute,
        )
        super().__init__(spec, name="torch", info=info)
        self._net: nn.Module | None = net
        self._process = os.getpid()
        self._device = device
        reduced = compute not in ("auto", "fp32")
        self._dtype = getattr(torch, str(NUMBER_TYPES[compute].torch)) if reduced else None

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        if os.getpid() != self._process:
            # A forked process has no PyTorch threads: waiting for them would never end.
            rule = "a checkpoint runs in the process that opened it"
            got, remedy = "a fork of that process", "open it in a process started with spawn"
            raise FcnkitError(message("torch", rule, got, remedy))
        with _TURN:
            return self._logits(batch)

    def _logits(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        net = self._net
        assert net is not None  # an open backend has one
        training = net.training
        net.eval()
        try:
            with self._setting():
                logits = net(torch.from_numpy(batch).to(self._device))
        finally:
            net.train(training)
        result: NDArray[np.float32] = logits.float().contiguous().cpu().numpy()
        return result

    @contextmanager
    def _setting(self) -> Iterator[None]:
        """Compute in the requested threads and precision, and leave the process as it was."""
        before = torch.get_num_threads()
        if before != self._threads:
            torch.set_num_threads(self._threads)
        autocast = torch.autocast(
            self._device.type, dtype=self._dtype, enabled=self._dtype is not None
        )
        # cuDNN takes TensorFloat-32 for float32 convolutions unless told not to. Arguments left out
        # here would get the defaults of flags(), which turn cuDNN off.
        cudnn = torch.backends.cudnn
        flags = cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        )
        try:
            with torch.inference_mode(), autocast, flags:
                yield
        finally:
            if before != self._threads:
                torch.set_num_threads(before)

    def _free(self) -> None:
        # The caller owns the network; only the reference is dropped.
        self._net = None


def open_checkpoint(path: Path, request: BackendRequest | None = None) -> TorchBackend:
    """Open a checkpoint for inference.

    Args:
        path: A best.pt or last.pt, or a .safetensors file.
        request: The one option is ``device``: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for a GPU
            where there is one.

    Returns:
        The backend.

    Raises:
        ArtifactError: The file is not a checkpoint.
        BackendUnavailableError: The device is not there.
        ValueError: An option is unknown.
    """
    request = request or BackendRequest()
    check_options(request.options, ("device",), taken={}, name="torch")
    chosen = request.device is None
    where = pick_device(
        request.options.get("device", "auto"),
        what="open_backend: device",
        remedy="pass the option device=cpu" if chosen else "leave the device out",
    )
    net, checkpoint = load_model(path)
    # Folded for speed: nothing is trained here.
    net = frozen_copy(net.to(where)).to(memory_format=torch.channels_last)
    return TorchBackend(
        net,
        checkpoint.spec,
        device=where,
        threads=request.cpu_threads,
        compute=request.compute,
    )


def probe(name: str) -> str:  # noqa: ARG001 - every prober takes its backend's name
    """Run the tiny convolution of ``fcnkit doctor``.

    Returns:
        The version of PyTorch and the devices it sees.
    """
    doubled = nn.functional.conv2d(torch.from_numpy(ones()), 2 * torch.ones(1, 1, 1, 1))
    check_doubled(doubled.numpy())
    gpus = torch.cuda.device_count()
    return f"torch {torch.__version__}, CPU{f' and {gpus} GPU(s)' if gpus else ''}"
