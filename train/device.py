"""Choosing the device that PyTorch runs on."""

from __future__ import annotations

import torch

from fcnkit.errors import BackendUnavailableError, BadValueError, message
from fcnkit.runtime.checks import check_type

__all__ = ["pick_device"]


def pick_device(
    name: str, *, what: str = "--device", remedy: str = "use --device cpu"
) -> torch.device:
    """Return the device of that name, and only if it is there.

    Args:
        name: cpu, cuda, cuda:1, or auto for cuda where a GPU is to be had and cpu elsewhere.
        what: What the user gave, for error messages.
        remedy: What the user may do where the GPU is not there, for error messages.

    Returns:
        The device.

    Raises:
        TypeError: The name, what or remedy is not a str.
        ValueError: The name is not a device.
        BackendUnavailableError: The device does not exist on this machine.
    """
    for argument, text in (("what", what), ("remedy", remedy)):
        check_type(f"pick_device: {argument}", text, str)
    check_type(what, name, str)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise BadValueError(message(what, "is auto, cpu, cuda or cuda:N", name, "use one"))
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        got = f"{torch.cuda.device_count()} GPUs"
        rule = f"{name} must be a GPU that torch sees"
        raise BackendUnavailableError(message(what, rule, got, remedy))
    return torch.device(name)
