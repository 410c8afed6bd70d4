"""The weights that a training starts from: fresh, ImageNet's, or those of another file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from fcnkit.errors import ArtifactError, BadValueError, message
from fcnkit.runtime.artifacts.spec import METADATA_KEY
from fcnkit.train import safetensors_file
from fcnkit.train.checkpoint import SAFETENSORS, is_model, load_model, read_archive
from fcnkit.train.models import SegmentationNet, create_model
from fcnkit.train.models.backbone import RESNETS
from fcnkit.train.models.registry import find_network
from fcnkit.train.recipe import UpsampleInit

__all__ = ["D2L_MODULES", "LoadedWeights", "ModelOptions", "initial_model", "load_weights"]

D2L_ARCHITECTURE = "fcn32s-resnet18"
"""What the d2l.ai chapter trains."""

D2L_MODULES = {
    "0": "backbone.conv1",
    "1": "backbone.bn1",
    "4": "backbone.layer1",
    "5": "backbone.layer2",
    "6": "backbone.layer3",
    "7": "backbone.layer4",
    "final_conv": "final_conv",
    "transpose_conv": "transpose_conv",
}
"""The d2l.ai chapter's nn.Sequential of torchvision's ResNet-18 without its last two modules; 2 and
3, its ReLU and pooling, have no weights."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which network a run trains, and from what."""

    architecture: str = D2L_ARCHITECTURE
    """A name that create_model knows."""
    pretrained: bool = False
    """Start the backbone from ImageNet weights, which are downloaded."""
    init_from: Path | None = None
    """Start from this file's weights, see load_weights."""
    upsample_init: UpsampleInit = "bilinear"
    """How the transposed convolutions start."""
    freeze_upsample: bool = False
    """Do not train the transposed convolutions."""


class LoadedWeights(NamedTuple):
    """What load_weights took from a file."""

    path: Path
    """The file that was read."""
    architecture: str
    """Of the network in the file."""
    loaded: tuple[str, ...]
    """Names of the network's tensors that came from the file."""
    left: tuple[str, ...]
    """Names of the network's tensors that kept their values."""

    def summary(self) -> str:
        """Return one line for a person."""
        total = len(self.loaded) + len(self.left)
        taken = f"{len(self.loaded)} of {total} tensors from {self.path} ({self.architecture})"
        if not self.left:
            return taken
        return f"{taken}; left at their initialization: {', '.join(self._untouched())}"

    def _untouched(self) -> list[str]:
        """Name the outermost modules of which nothing was loaded."""
        touched = {name for key in self.loaded for name in _prefixes(key)}
        names = [next(n for n in _prefixes(key) if n not in touched) for key in self.left]
        return list(dict.fromkeys(names))


def initial_model(
    options: ModelOptions, num_classes: int
) -> tuple[SegmentationNet, LoadedWeights | None]:
    """Create the network of a run with the weights that it starts from.

    Args:
        options: Which network, and from what.
        num_classes: K, 1..255.

    Returns:
        The network as create_model gives it, and what came from init_from, if anything.

    Raises:
        ValueError: An option is unknown, or two of them exclude each other.
        ArtifactError: init_from is not a file of weights for this architecture.
        FcnkitError: The ImageNet weights cannot be fetched.
    """
    if options.init_from is not None and options.pretrained:
        rule = "weights come from a file or from ImageNet, not from both"
        remedy = "leave one of the two out"
        raise BadValueError(message("--init-from", rule, "--pretrained as well", remedy))
    net = create_model(
        options.architecture,
        num_classes,
        pretrained=options.pretrained,
        upsample_init=options.upsample_init,
        freeze_upsample=options.freeze_upsample,
    )
    if options.init_from is None:
        return net, None
    return net, load_weights(net, options.architecture, options.init_from)


def load_weights(net: SegmentationNet, architecture: str, path: Path) -> LoadedWeights:
    """Start a network from the weights of another that has the same backbone.

    Every layer of the same name and shapes is taken. What the other network does not have, such
    as the head for another number of classes, keeps its values.

    Args:
        net: The network, changed in place.
        architecture: The network's name.
        path: A checkpoint, the state dict of the d2l.ai chapter's network as torch.save writes
            it (keys ``0.weight`` to ``7.*``, ``final_conv.*``, ``transpose_conv.*``), or that of
            one of torchvision's ResNets (``conv1.weight`` to ``fc.bias``), whose classifier is
            left out; or any of them as .safetensors.

    Returns:
        What was loaded and what was not.

    Raises:
        ArtifactError: The file is neither, or its network has another backbone.
    """
    source, weights = _read_weights(path)
    if source != architecture and _backbone(source) != _backbone(architecture):
        rule = f"weights for {architecture} must come from a network with the same backbone"
        shared = source if source in RESNETS else find_network(source).backbone
        remedy = f"use a network on {shared}" if shared else f"use --model {source}"
        raise ArtifactError(message(str(path), rule, source, remedy))
    own = net.state_dict()
    unfit = {_layer(k) for k, v in own.items() if k not in weights or weights[k].shape != v.shape}
    # Frozen layers keep their values.
    unfit |= {_layer(k) for k, weight in net.named_parameters() if not weight.requires_grad}
    left = tuple(key for key in own if _layer(key) in unfit)
    loaded = tuple(key for key in own if _layer(key) not in unfit)
    net.load_state_dict({**own, **{key: weights[key] for key in loaded}})
    return LoadedWeights(path=path, architecture=source, loaded=loaded, left=left)


def _layer(key: str) -> str:
    return key.rpartition(".")[0]


def _backbone(architecture: str) -> str | None:
    """Return the backbone; a network with its own encoder shares it with no other."""
    if architecture in RESNETS:
        return architecture
    backbone = find_network(architecture).backbone
    return architecture if backbone is None else backbone


def _prefixes(key: str) -> list[str]:
    """Split ``a.b.c`` into ``a``, ``a.b`` and ``a.b.c``."""
    return list(accumulate(key.split("."), "{}.{}".format))


def _read_weights(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return a file's architecture and a state dict that is known to fit it."""
    if path.suffix == SAFETENSORS:
        tensors, metadata = safetensors_file.read(path)
        if METADATA_KEY not in metadata:
            return _from_state_dict(path, tensors)
        net, loaded = load_model(path)
        return loaded.spec.architecture, net.state_dict()
    content = read_archive(path)
    if is_model(content):
        net, checkpoint = load_model(path)
        return checkpoint.spec.architecture, net.state_dict()
    return _from_state_dict(path, content)


_RULE = (
    "must be a checkpoint, or the state dict of the d2l.ai chapter's network or of a torchvision "
    "ResNet"
)
_REMEDY = "give a best.pt, or a file of torch.save(net.state_dict())"


def _from_state_dict(path: Path, content: object) -> tuple[str, dict[str, Tensor]]:
    """Tell whose state dict it is; return its architecture, or its backbone, and our names."""
    if not isinstance(content, dict):
        raise ArtifactError(message(str(path), _RULE, type(content).__name__, _REMEDY))
    for key, value in content.items():
        if not isinstance(value, Tensor):
            got = f"{key} of type {type(value).__name__}"
            raise ArtifactError(message(str(path), _RULE, got, _REMEDY))
    tensors = {str(key): tensor for key, tensor in content.items()}
    if {"conv1.weight", "layer1.0.conv1.weight", "fc.weight"} <= set(tensors):
        return _from_resnet(path, tensors)
    return D2L_ARCHITECTURE, _from_d2l(path, tensors)


def _from_resnet(path: Path, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Tell by names and shapes which of torchvision's ResNets it is, and drop its classifier.

    Files from before torch 0.4.1 lack ``num_batches_tracked``, which nothing here reads.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    for name in RESNETS:
        with torch.device("meta"):
            own = torchvision.models.get_model(name, weights=None).state_dict()
        wanted = {key: tuple(tensor.shape) for key, tensor in own.items()}
        fits = {
            key
            for key, shape in wanted.items()
            if shapes.get(key) == shape
            or key.startswith("fc.")
            or (key.endswith(_COUNTER) and key not in shapes)
        }
        if fits == set(wanted) >= set(shapes):
            weights = {
                f"backbone.{key}": tensors.get(key, torch.tensor(0))
                for key in wanted
                if not key.startswith("fc.")
            }
            return name, weights
    got = f"a ResNet that is none of {', '.join(RESNETS)}"
    raise ArtifactError(message(str(path), _RULE, got, _REMEDY))


_COUNTER = ".num_batches_tracked"


def _from_d2l(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the d2l.ai chapter's state dict and check that they are all there."""
    weights = {_renamed(key): tensor for key, tensor in tensors.items()}
    # The number of classes is the file's; on the meta device a network has shapes but no memory.
    bias = weights.get("final_conv.bias")
    with torch.device("meta"):
        expected = create_model(D2L_ARCHITECTURE, 1 if bias is None else bias.numel()).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    wanted = {key: tuple(tensor.shape) for key, tensor in expected.items()}
    wrong = [key for key in {**wanted, **shapes} if shapes.get(key) != wanted.get(key)]
    if wrong:
        first = _d2l_name(wrong[0])
        got = f"{first} of shape {shapes[wrong[0]]}" if wrong[0] in shapes else f"no {first}"
        raise ArtifactError(message(str(path), _RULE, got, _REMEDY))
    return weights


def _renamed(key: str) -> str:
    module, dot, rest = key.partition(".")
    return D2L_MODULES.get(module, module) + dot + rest


def _d2l_name(key: str) -> str:
    """Undo _renamed, to name a tensor as the file does."""
    for theirs, ours in D2L_MODULES.items():
        if key.startswith(f"{ours}."):
            return theirs + key.removeprefix(ours)
    return key
