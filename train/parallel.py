"""Several processes that train one network: started by torchrun, each with its own device.

Every function here also works in a single process, where it does nothing.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fcnkit.errors import BadValueError, FcnkitError, message
from fcnkit.train.device import pick_device

__all__ = ["is_first", "process_group", "rank", "share", "total", "wait", "world"]

_PATIENCE = timedelta(days=1)
"""The other processes wait while one validates. torchrun notices a dead process, not a slow one."""


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did.

    Args:
        device: See pick_device; of several processes each takes the GPU of its local rank.

    Yields:
        This process's device.

    Raises:
        ValueError: The device is unknown, or one GPU was named for several processes.
        BackendUnavailableError: The device does not exist on this machine.
    """
    if not _by_torchrun():
        yield pick_device(device)
        return
    where = _local_device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
        dist.init_process_group("nccl", timeout=_PATIENCE, device_id=where)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield where
    finally:
        dist.destroy_process_group()


def _by_torchrun() -> bool:
    """Whether torchrun has started this process, and others beside it."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def rank() -> int:
    """Return this process's number, 0 for the one that validates, writes and reports.

    It is known before the processes have joined.
    """
    if dist.is_initialized():
        return dist.get_rank()
    return int(os.environ["RANK"]) if _by_torchrun() else 0


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Say whether this is the process that validates, writes and reports."""
    return rank() == 0


def total(value: Tensor) -> Tensor:
    """Sum a tensor over the processes; no gradient flows through it."""
    if world() == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def wait() -> None:
    """Return when every process has come here."""
    if world() > 1:
        dist.barrier()


def share(net: nn.Module) -> nn.Module:
    """Prepare a network for training by all processes.

    Args:
        net: On its device, the same in every process. Its batch normalizations are replaced by
            ones over all processes; its state dict stays as it was.

    Returns:
        The module to call, whose gradients are the mean over the processes.
    """
    if world() == 1:
        return net
    device = next(net.parameters()).device
    _check_norms(net)
    if device.type == "cuda":
        net = _synchronized(net)
        return DistributedDataParallel(net, device_ids=[device])
    _convert(net)
    return DistributedDataParallel(net)


def _local_device(device: str) -> torch.device:
    if device.startswith("cuda:"):
        rule = "must leave the choice of GPUs to torchrun when several processes train"
        raise BadValueError(message("--device", rule, device, "use --device cuda"))
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return pick_device(device)


def _convert(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            shared = _SharedBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.load_state_dict(child.state_dict())
            if _is_of_timm(child):
                layer: Any = child
                shared.after = nn.Sequential(layer.drop, layer.act)
            setattr(module, name, shared.to(child.weight.device))
        else:
            _convert(child)


def _check_norms(net: nn.Module) -> None:
    """Refuse a batch norm that computes more than torch's own: it would be lost when replaced."""
    for name, module in net.named_modules():
        own = isinstance(module, nn.BatchNorm2d) and type(module).forward is not _PLAIN
        if own and not _is_of_timm(module):
            rule = "several processes can train nn.BatchNorm2d, not classes derived from it"
            got, remedy = f"{type(module).__name__} at {name}", "train in one process"
            raise FcnkitError(message("training", rule, got, remedy))


_PLAIN = nn.BatchNorm2d.forward


def _is_of_timm(module: nn.Module) -> bool:
    """Whether a module is timm's batch norm with an activation after it."""
    kind = type(module)
    return kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")


def _synchronized(net: nn.Module) -> nn.Module:
    """Replace the batch norms of a network on a GPU."""
    if any(_is_of_timm(module) for module in net.modules()):
        layers: Any = importlib.import_module("timm.layers")
        converted: nn.Module = layers.convert_sync_batchnorm(net)
        return converted
    plain: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    return plain


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the batches of all processes: nn.SyncBatchNorm runs on GPUs only.

    The sampler gives every process the same number of values.
    """

    def __init__(self, features: int, *, eps: float, momentum: float | None) -> None:
        super().__init__(features, eps=eps, momentum=momentum)
        self.after: nn.Module | None = None
        """What timm's batch norms do next."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Normalize (N, C, H, W) by the mean and variance of each channel."""
        y = self._normalized(x_nchw)
        return y if self.after is None else self.after(y)

    def _normalized(self, x_nchw: Tensor) -> Tensor:
        if not self.training or self.momentum is None:
            return super().forward(x_nchw)
        x = x_nchw.float()
        count = x[:, 0].numel() * world()
        mean_c = _summed(x.sum((0, 2, 3))) / count
        centered = x - mean_c[:, None, None]
        # Two passes, because E[x^2] - E[x]^2 loses digits.
        var_c = _summed(centered.square().sum((0, 2, 3))) / count
        self._track(mean_c.detach(), var_c.detach() * count / (count - 1))
        scale_c = self.weight * (var_c + self.eps).rsqrt()
        y = centered * scale_c[:, None, None] + self.bias[:, None, None]
        return y.to(x_nchw.dtype)

    def _track(self, mean_c: Tensor, var_c: Tensor) -> None:
        momentum = self.momentum or 0.0
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean_c, momentum)
            self.running_var.lerp_(var_c, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Sum(torch.autograd.Function):
    """The sum over the processes; the gradient is summed alike, as every process uses it."""

    @staticmethod
    def forward(_ctx: Any, value: Tensor) -> Tensor:
        return total(value)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return total(gradient)


def _summed(value: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(value)
    return result
