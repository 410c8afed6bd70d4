"""A network from a callable of the user: ``package.module:factory``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch import nn

from fcnkit.errors import ArtifactError, BadTypeError, message
from fcnkit.export.adopt.module_source import open_module
from fcnkit.export.adopt.opened import Opened

__all__ = ["open_factory"]


def open_factory(name: str) -> Opened:
    """Import a callable and call it.

    This runs code. So it is done only for a name that the user typed, never for one from a file.

    Args:
        name: ``package.module:factory``; the current folder is searched too.

    Returns:
        The source.

    Raises:
        ArtifactError: There is no such callable, or it fails.
        TypeError: It returns no module.
    """
    module_name, _, attribute = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        factory = importlib.import_module(module_name)
    except Exception as error:
        rule = "its module must be importable from here"
        got = f"{type(error).__name__}: {error}"
        remedy = "call the command in the folder of the file, or install the package"
        raise ArtifactError(message(name, rule, got, remedy)) from error
    for part in attribute.split("."):
        if not hasattr(factory, part):
            rule = f"{module_name} must have a callable of that name"
            remedy = f"define it in {module_name}, or correct the name"
            raise ArtifactError(message(name, rule, f"no {part}", remedy))
        factory = getattr(factory, part)
    if not callable(factory):
        rule, got = "must be a callable without arguments", type(factory).__name__
        raise BadTypeError(message(name, rule, got, "write a function that returns the network"))
    try:
        net = factory()
    except Exception as error:
        rule = "must build the network when it is called without arguments"
        got = f"{type(error).__name__}: {error}"
        raise ArtifactError(message(name, rule, got, "correct the function")) from error
    if not isinstance(net, nn.Module):
        rule, got = "must return a torch.nn.Module", type(net).__name__
        raise BadTypeError(message(name, rule, got, "return the network itself"))
    _check_tensors(net, name)
    return open_module(net, where=name, name=name, architecture=name, sha256=None)


def _check_tensors(net: nn.Module, name: str) -> None:
    for key, tensor in net.state_dict().items():
        if tensor.device.type != "cpu":
            rule, got = "must return a network on the CPU", f"{key} on {tensor.device}"
            raise ArtifactError(message(name, rule, got, "return net.cpu()"))
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            rule, got = "must return a network in float32", f"{key} in {tensor.dtype}"
            raise ArtifactError(message(name, rule, got, "return net.float()"))
