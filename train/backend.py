"""A checkpoint as a backend, so that it is evaluated by the code that runs exported models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.spec import ModelSpec
from fcnkit.train.checkpoint import load_model
from fcnkit.train.device import pick_device

__all__ = ["TorchBackend", "open_checkpoint"]


class TorchBackend(CheckedBackend):
    """Runs a network with PyTorch in float32."""

    def __init__(self, net: nn.Module, spec: ModelSpec, *, device: torch.device) -> None:
        """Wrap a network.

        Args:
            net: Takes (N, 3, H, W) float32, gives logits; it is on the device. It runs in
                evaluation mode and is left in the mode that it was in.
            spec: Its spec, head logits.
            device: Where it runs.
        """
        details: dict[str, str | int] = {
            "library": f"torch {torch.__version__}",
            "provider": str(device),
            "threads": torch.get_num_threads(),
            "compute": "f32",
        }
        super().__init__(spec, name="torch", details=details)
        self._net = net
        self._device = device

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        training = self._net.training
        self._net.eval()
        try:
            with torch.inference_mode():
                logits = self._net(torch.from_numpy(batch).to(self._device))
        finally:
            self._net.train(training)
        result: NDArray[np.float32] = logits.float().contiguous().cpu().numpy()
        return result

    def _free(self) -> None:
        # The network belongs to whoever made the backend.
        pass


def open_checkpoint(path: Path, *, device: str = "auto") -> TorchBackend:
    """Open a checkpoint for inference.

    Args:
        path: A best.pt or last.pt.
        device: cpu, cuda, cuda:1, or auto for a GPU where there is one.

    Returns:
        The backend.

    Raises:
        ArtifactError: The file is no checkpoint.
        BackendUnavailableError: The device is not there.
    """
    where = pick_device(device)
    net, checkpoint = load_model(path)
    return TorchBackend(net.to(where), checkpoint.spec, device=where)
