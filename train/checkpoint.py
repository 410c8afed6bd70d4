"""Checkpoints: network, ModelSpec and the state of a run in one file without code in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final
from zipfile import is_zipfile

import torch
from torch import Tensor

from fcnkit.errors import ArtifactError, message
from fcnkit.runtime.files import atomic_path, sha256_of
from fcnkit.runtime.spec import (
    FORMAT,
    VOID,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ShapeRange,
    SourceSpec,
)
from fcnkit.train.models import SegmentationNet, create_model
from fcnkit.train.recipe import Recipe

__all__ = [
    "Checkpoint",
    "checkpoint_spec",
    "describe_checkpoint",
    "is_checkpoint",
    "load_checkpoint",
    "load_model",
    "read_archive",
    "save_checkpoint",
]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_KEYS: Final = {"spec", "model", "resume", "epoch", "recipe", "scores"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds."""

    spec: ModelSpec
    model: dict[str, Tensor]
    """The state dict of the network to deploy: where weights are averaged, the average."""
    resume: dict[str, Any] | None
    """What only continuing the run needs, see ``Learner.state``; None in best.pt."""
    epoch: int
    """Number of finished epochs."""
    recipe: Recipe
    scores: dict[str, Any]
    """Validation scores after that epoch, and ``best_mean_iou`` of the run so far."""


def checkpoint_spec(
    architecture: str, classes: tuple[str, ...], palette: tuple[tuple[int, int, int], ...]
) -> ModelSpec:
    """Return the spec of a network under training: it computes float32 logits.

    Args:
        architecture: A name that create_model knows.
        classes: Class names.
        palette: One RGB colour per class, 0..255.

    Returns:
        The spec, with the shape range that exports start from.
    """
    return ModelSpec(
        format=FORMAT,
        architecture=architecture,
        head="logits",
        precision="fp32",
        classes=classes,
        palette=palette,
        ignore_index=VOID,
        input=InputSpec(
            name="image",
            layout="NCHW",
            dtype="float32",
            color="RGB",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            multiple=32,
        ),
        output=OutputSpec(name="logits", layout="NCHW", dtype="float32"),
        shapes=ShapeRange(min=(1, 32, 32), opt=(1, 320, 480), max=(16, 2048, 2048)),
        source=SourceSpec(sha256=None, parity=None),
        versions={"fcnkit": version("fcnkit"), "torch": torch.__version__},
    )


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a kill at any moment leaves the previous file or the new one.

    Args:
        path: The file; its folder exists.
        checkpoint: What to write.

    Raises:
        OSError: The file cannot be written.
    """
    data = {
        "spec": checkpoint.spec.to_json(),
        "model": checkpoint.model,
        "resume": checkpoint.resume,
        "epoch": checkpoint.epoch,
        "recipe": checkpoint.recipe.to_dict(),
        "scores": checkpoint.scores,
    }
    with atomic_path(path) as temporary:
        torch.save(data, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Args:
        path: A file that save_checkpoint wrote.

    Returns:
        Its content, tensors on the CPU.

    Raises:
        ArtifactError: The file is missing or is not such a checkpoint.
    """
    data = read_archive(path)
    if not is_checkpoint(data):
        got = f"{sorted(map(str, data))[:6]}" if isinstance(data, dict) else type(data).__name__
        rule = f"a checkpoint holds {', '.join(sorted(_KEYS))}"
        raise ArtifactError(message(str(path), rule, got, "give a best.pt or last.pt of a run"))
    spec = ModelSpec.from_json(data["spec"], where=str(path))
    try:
        recipe = Recipe.from_dict(data["recipe"])
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from error
    return Checkpoint(**{**data, "spec": spec, "recipe": recipe})


def is_checkpoint(data: object) -> bool:
    """Say whether what read_archive returned has a checkpoint's keys."""
    return isinstance(data, dict) and set(data) == _KEYS


def read_archive(path: Path) -> Any:
    """Read what torch.save wrote; nothing in the file is executed.

    Args:
        path: The file.

    Returns:
        Its content, tensors on the CPU.

    Raises:
        ArtifactError: The file is missing, or holds more than tensors and plain values.
    """
    if not path.is_file():
        remedy = "give a best.pt or last.pt of a run"
        raise ArtifactError(message(str(path), "must be a checkpoint file", "no file", remedy))
    rule = "must be a checkpoint that torch can read without running code"
    if not is_zipfile(path):
        # torch would read such a file as a bare pickle of its oldest format.
        got = "no zip archive"
        raise ArtifactError(message(str(path), rule, got, "train again or copy it again"))
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        got = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise ArtifactError(
            message(str(path), rule, got, "train again or copy it again")
        ) from error


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Say what a checkpoint is, in the form of ``fcnkit.runtime.describe``.

    Args:
        path: A file that save_checkpoint wrote.

    Returns:
        ``path``, ``kind``, ``bytes``, ``sha256``, ``epoch``, ``parameters`` (their number),
        ``recipe``, ``scores`` and ``spec``.

    Raises:
        ArtifactError: The file is no checkpoint.
    """
    net, checkpoint = load_model(path)
    return {
        "path": str(path),
        "kind": "checkpoint",
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "epoch": checkpoint.epoch,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "recipe": checkpoint.recipe.to_dict(),
        "scores": checkpoint.scores,
        "spec": asdict(checkpoint.spec),
    }


def load_model(path: Path) -> tuple[SegmentationNet, Checkpoint]:
    """Read a checkpoint and build its network.

    Args:
        path: A file that save_checkpoint wrote.

    Returns:
        The network in evaluation mode on the CPU, and the checkpoint.

    Raises:
        ArtifactError: The file is no checkpoint, or its weights do not fit its architecture.
    """
    checkpoint = load_checkpoint(path)
    net = create_model(checkpoint.spec.architecture, checkpoint.spec.num_classes)
    try:
        net.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        rule = f"weights must fit {checkpoint.spec.architecture}"
        got = str(error).splitlines()[-1].strip()
        raise ArtifactError(message(str(path), rule, got, "use the file that was saved")) from error
    return net.eval(), checkpoint
