"""Networks that fcnkit did not write: the user's own, or torchvision's, behind one wrapper."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import torch
import torchvision
from torch import Tensor, nn

from fcnkit.errors import ArtifactError, BadValueError, FcnkitError, message
from fcnkit.runtime.checks import check_type
from fcnkit.train.models.base import SegmentationNet
from fcnkit.train.models.registry import NETWORKS, Network

__all__ = ["TORCHVISION", "ForeignNet", "is_factory", "register_factory", "torchvision_network"]

TORCHVISION: Final = (
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
)
"""torchvision's segmentation networks; their architecture names begin with ``torchvision:``."""

_TORCHVISION_NAMES: Final = tuple(f"torchvision:{model}" for model in TORCHVISION)
_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_PROBE: Final = (2, 3, 64, 96)
"""Shape of the input that a new network is tried with: two images, sides not equal."""


class ForeignNet(SegmentationNet):
    """Any module whose call gives class scores, at the image's size or a whole fraction of it.

    The call may give a tensor, a dict with ``out`` (torchvision) or an object with ``.logits``
    (transformers). Scores of lower resolution are upsampled bilinearly, ``align_corners=False``.
    The tensors of the state dict are those of the module, with ``module.`` before their names.
    """

    def __init__(self, module: nn.Module, num_classes: int, *, name: str) -> None:
        """Try the module once, and wrap it.

        Args:
            module: Takes normalized images (N, 3, H, W), sides multiples of 32.
            num_classes: K, which its scores must have.
            name: Of the network, for errors.

        Raises:
            ArtifactError: The module does not give scores of K classes at such a resolution.
        """
        super().__init__()
        self.module = module
        scores = _probe(module, num_classes, name)
        factor = _PROBE[2] // scores.shape[2]
        self.upsample: nn.Module = nn.Identity()
        if factor > 1:
            self.upsample = nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)
        self.unused = _freeze_unused(module, scores)
        """Parameters on which the scores do not depend, such as those of an auxiliary classifier.
        They are not trained."""

    @property
    def last_step(self) -> nn.Module:
        """The upsampling to the image's size, where the module has none."""
        return self.upsample

    def body(self, image_nchw: Tensor) -> Tensor:
        """Return the module's scores."""
        return _scores(self.module(image_nchw))


def is_factory(architecture: str) -> bool:
    """Say whether a name is that of a user's factory, ``package.module:factory``."""
    return bool(_NAME.fullmatch(architecture)) and architecture not in _TORCHVISION_NAMES


def register_factory(name: str) -> None:
    """Import a factory and enter it among the architectures.

    After that, ``create_model`` builds the network, and its checkpoints can be opened. Nothing
    else imports a factory: a checkpoint names one, but never runs it.

    Args:
        name: ``package.module:factory``. The current folder is searched as well. The factory
            returns an ``nn.Module``, see ForeignNet. It is called with the number of classes if
            it takes ``num_classes`` or one positional argument, else without arguments.

    Raises:
        ValueError: The name is of another form.
        FcnkitError: It cannot be imported, or is not callable.
    """
    what = "--model"
    check_type(what, name, str)
    if not is_factory(name):
        rule = "a network of yours is named package.module:factory"
        raise BadValueError(message(what, rule, name, "write for example mypackage.nets:make_net"))
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the user's code may raise anything
        rule = "the factory must be importable"
        remedy = f'see what python -c "import {module_name}" says in this folder'
        raise FcnkitError(message(what, rule, f"{name}: {_line(error)}", remedy)) from error
    if not callable(factory):
        rule = "the factory must be a function or class that returns an nn.Module"
        got = f"{name} of type {type(factory).__name__}"
        raise FcnkitError(message(what, rule, got, "name a function"))
    NETWORKS[name] = Network(build=partial(_build, name, factory), backbone=None)


def _build(name: str, factory: Callable[..., object], num_classes: int) -> ForeignNet:
    """Call a factory and wrap what it returns."""
    args, named = _arguments(factory, num_classes)
    try:
        module = factory(*args, **named)
    except Exception as error:  # the user's code may raise anything
        rule, remedy = "the factory must return an nn.Module", "add --debug to see where it fails"
        raise FcnkitError(message(name, rule, _line(error), remedy)) from error
    if not isinstance(module, nn.Module):
        rule, remedy = "the factory must return an nn.Module", "return the network"
        raise FcnkitError(message(name, rule, type(module).__name__, remedy))
    return ForeignNet(module, num_classes, name=name)


def _arguments(
    factory: Callable[..., object], num_classes: int
) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return how a factory takes the number of classes; one without arguments knows it."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # built into C
        return (), {}
    if "num_classes" in parameters:
        return (), {"num_classes": num_classes}
    needed = [
        parameter
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return ((num_classes,) if len(needed) == 1 else ()), {}


def torchvision_network(model: str, num_classes: int) -> nn.Module:
    """Build one of torchvision's networks with fresh weights, without its auxiliary classifier.

    Args:
        model: One of TORCHVISION.
        num_classes: K.
    """
    net: nn.Module = torchvision.models.get_model(
        model, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=None
    )
    return net


def _torchvision(model: str, num_classes: int) -> ForeignNet:
    module = torchvision_network(model, num_classes)
    return ForeignNet(module, num_classes, name=f"torchvision:{model}")


def _scores(result: object) -> Tensor:
    """Take the scores out of what a module returned."""
    if isinstance(result, Mapping) and "out" in result:
        result = result["out"]
    elif hasattr(result, "logits"):
        result = result.logits
    if isinstance(result, Tensor):
        return result
    rule = "the network must return a tensor, a dict with out, or an object with .logits"
    remedy = "return the class scores from forward"
    raise ArtifactError(message("network", rule, type(result).__name__, remedy))


def _inputs(module: nn.Module) -> int | None:
    """Return the input channels of the first convolution; None where there is none."""
    layers = (one for one in module.modules() if isinstance(one, nn.Conv2d))
    return next((layer.in_channels for layer in layers), None)


def _probe(module: nn.Module, num_classes: int, name: str) -> Tensor:
    """Run a module once, without changing it, and check its scores."""
    training = module.training
    module.eval()
    try:
        scores = _scores(module(torch.zeros(_PROBE)))
    except FcnkitError:
        raise
    except Exception as error:  # the user's code may raise anything
        if (inputs := _inputs(module)) not in (None, 3):
            rule, got = "a network must take three inputs: red, green and blue", f"{inputs}"
            remedy = "give its first layer three; --bands says which samples they are"
            raise ArtifactError(message(name, rule, got, remedy)) from error
        rule = f"the network must take float images {_PROBE}"
        remedy = "fcnkit trains networks for sides that are multiples of 32"
        raise ArtifactError(message(name, rule, _line(error), remedy)) from error
    finally:
        module.train(training)
    batch, _, height, width = _PROBE
    shape = tuple(scores.shape)
    fits = len(shape) == 4 and shape[0] == batch and all(shape)
    if not fits or height % shape[2] or shape[3] * (height // shape[2]) != width:
        rule = "scores must be (N, classes, H/s, W/s) for a whole s"
        got = f"{shape} for images {_PROBE}"
        raise ArtifactError(message(name, rule, got, "return the scores before any argmax"))
    if shape[1] != num_classes:
        rule, remedy = f"scores must be of {num_classes} classes", "build it with num_classes"
        raise ArtifactError(message(name, rule, shape[1], remedy))
    return scores


def _freeze_unused(module: nn.Module, scores: Tensor) -> tuple[str, ...]:
    """Freeze the parameters that the scores do not depend on, and return their names.

    Several processes that train together wait for the gradient of everything that is trained.
    """
    trained = {key: weight for key, weight in module.named_parameters() if weight.requires_grad}
    if not trained or not scores.requires_grad:
        return ()
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
        scores.sum(), list(trained.values()), allow_unused=True
    )
    unused = [key for key, grad in zip(trained, gradients, strict=True) if grad is None]
    for key in unused:
        trained[key].requires_grad = False
    return tuple(unused)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def _enter_torchvision() -> None:
    for name, model in zip(_TORCHVISION_NAMES, TORCHVISION, strict=True):
        NETWORKS[name] = Network(build=partial(_torchvision, model), backbone=None)


_enter_torchvision()
