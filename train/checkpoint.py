"""Checkpoints: network, ModelSpec and the state of a run in one file without code in it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from fcnkit.errors import ArtifactError, message, within
from fcnkit.runtime.artifacts.spec import (
    FORMAT,
    METADATA_KEY,
    VOID,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ShapeRange,
    SourceSpec,
)
from fcnkit.runtime.files import atomic_path, atomic_write
from fcnkit.train import safetensors_file
from fcnkit.train.models import SegmentationNet, create_model
from fcnkit.train.recipe import Recipe

__all__ = [
    "SAFETENSORS",
    "Checkpoint",
    "Weights",
    "checkpoint_spec",
    "is_checkpoint",
    "is_model",
    "load_checkpoint",
    "load_model",
    "load_weights_file",
    "read_archive",
    "read_weights",
    "save_checkpoint",
    "save_weights",
]

SAFETENSORS: Final = ".safetensors"
"""Suffix of files with weights alone, which cannot hold code."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_WEIGHTS_KEYS: Final = {"spec", "model"}
_KEYS: Final = {*_WEIGHTS_KEYS, "resume", "epoch", "recipe", "scores"}
_RESUME_KEYS: Final = {"optimizer", "class_weights", "net", "updates"}
_AUXILIARY: Final = "auxiliary"
"""One more of these keys, where there is an auxiliary head."""
_USE_SAVED: Final = "use the file that was saved"
_NO_CODE: Final = "must be a checkpoint that torch can read without running code"
_AGAIN: Final = "train again or copy it again"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A network to deploy: all that a .safetensors file holds, or a .pt of adopt."""

    spec: ModelSpec
    model: dict[str, Tensor]
    """The state dict of the network to deploy: where weights are averaged, the average."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Weights):
    """What a checkpoint file holds."""

    resume: dict[str, Any] | None
    """What only resuming the run needs, see ``Learner.state``; None in best.pt."""
    epoch: int
    """Number of finished epochs."""
    recipe: Recipe
    scores: dict[str, Any]
    """The row of metrics.jsonl of that epoch."""


def checkpoint_spec(
    architecture: str,
    classes: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...],
    *,
    range: tuple[int, int] | None = None,
    bands: tuple[int, int, int] | None = None,
) -> ModelSpec:
    """Return the spec of a network under training: it computes float32 logits.

    Args:
        architecture: A name that create_model knows.
        classes: Class names.
        palette: One RGB color per class, 0..255.
        range: The values of pictures of more than 8 bits that it sees as 0 and 255.
        bands: The stored samples of a file that it sees as red, green and blue.

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
        range=range,
        bands=bands,
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
    _save(path, data)


def _save(path: Path, data: dict[str, Any]) -> None:
    """Write a file as a whole, in torch's format."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(data, file)
        except RuntimeError as error:
            # torch reports a full disk as a wrong position in the file. Its cause has the reason.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Args:
        path: A file that save_checkpoint wrote.

    Returns:
        Its content, tensors on the CPU.

    Raises:
        ArtifactError: The file is missing or is not such a checkpoint.
    """
    return _checkpoint_of(path, read_archive(path))


def _checkpoint_of(path: Path, data: Any) -> Checkpoint:
    if not is_checkpoint(data):
        got = f"{sorted(map(str, data))[:6]}" if isinstance(data, dict) else type(data).__name__
        rule = f"a checkpoint holds {', '.join(sorted(_KEYS))}"
        raise ArtifactError(message(str(path), rule, got, "give a best.pt or last.pt of a run"))
    _check_content(path, data)
    spec = ModelSpec.from_json(data["spec"], where=str(path))
    try:
        recipe = Recipe.from_dict(data["recipe"])
    except ValueError as error:
        raise ArtifactError(within(str(path), error)) from error
    return Checkpoint(**{**data, "spec": spec, "recipe": recipe})


def _loaded(path: Path) -> Weights:
    """Read a checkpoint, or weights and spec without a run's state."""
    data = read_archive(path)
    if is_checkpoint(data) or not is_model(data):
        return _checkpoint_of(path, data)
    if not isinstance(data["spec"], str) or not _is_state_dict(data["model"]):
        rule = "spec and model must be what fcnkit adopt saves"
        raise ArtifactError(message(str(path), rule, "others", _USE_SAVED))
    return Weights(spec=ModelSpec.from_json(data["spec"], where=str(path)), model=data["model"])


def _check_content(path: Path, data: dict[str, Any]) -> None:
    """Refuse a checkpoint whose entries have wrong types; only type names are shown.

    A hostile file may nest a value so that its repr fills the memory.
    """
    legal = {
        "spec": isinstance(data["spec"], str),
        "model": _is_state_dict(data["model"]),
        "resume": data["resume"] is None or _is_state(data["resume"]),
        "epoch": type(data["epoch"]) is int and data["epoch"] >= 0,
        "recipe": isinstance(data["recipe"], dict),
        "scores": isinstance(data["scores"], dict) and _is_plain(data["scores"], depth=3),
    }
    for key, fits in legal.items():
        if not fits:
            rule = f"{key} must be what fcnkit train saves"
            got = f"another {type(data[key]).__name__}"
            raise ArtifactError(message(str(path), rule, got, _USE_SAVED))


def _is_state_dict(value: object) -> bool:
    """Whether a value maps names to dense tensors of real numbers."""
    return isinstance(value, dict) and all(
        isinstance(key, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_complex()
        and not tensor.is_quantized
        for key, tensor in value.items()
    )


def _is_state(value: object) -> bool:
    """Whether a value has the form of ``Learner.state``; the optimizer checks its part itself."""
    if not isinstance(value, dict) or set(value) - {_AUXILIARY} != _RESUME_KEYS:
        return False
    weights, updates = value["class_weights"], value["updates"]
    return (
        isinstance(value["optimizer"], dict)
        and (value["net"] is None or _is_state_dict(value["net"]))
        and _is_state_dict(value.get(_AUXILIARY, {}))
        and (updates is None or type(updates) is int)
        and (weights is None or _is_plain(weights, depth=1))
    )


def _is_plain(value: object, *, depth: int) -> bool:
    """Whether a value is a str, a number, None, or a dict or list of these, at most this deep."""
    if isinstance(value, dict | list):
        inner = list(value) + list(value.values()) if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(item, depth=depth - 1) for item in inner)
    return value is None or type(value) in (int, float, str, bool)


def is_model(data: object) -> bool:
    """Say whether what read_archive returned is a checkpoint, or weights with their spec."""
    return is_checkpoint(data) or (isinstance(data, dict) and set(data) == _WEIGHTS_KEYS)


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
    _check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        got = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise ArtifactError(message(str(path), _NO_CODE, got, _AGAIN)) from error


_UNREADABLE: Final = (
    *(UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError),
    *(TypeError, AttributeError, IndexError, MemoryError, AssertionError, ImportError),
)
"""What torch's reader raises for files that are damaged or made to harm, seen by fuzzing."""


def _check_zip(path: Path) -> None:
    """Refuse a file that is not a zip or that unpacks to more: torch does not compress."""
    # torch would read a file that is not a zip as a bare pickle of its oldest format.
    got, remedy = "not a zip archive", _AGAIN
    if not is_zipfile(path) and _is_of_old_format(path):
        got = "the format of torch before 1.6, which is not a zip archive"
        remedy = "write it again with torch.save(torch.load(FILE, weights_only=True), NEW_FILE)"
    if is_zipfile(path):
        try:
            with ZipFile(path) as archive:
                entries = archive.infolist()
        except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
            got = str(error)
        else:
            if sum(entry.file_size for entry in entries) <= path.stat().st_size:
                return
            got = "a zip that unpacks to more than its size"
    raise ArtifactError(message(str(path), _NO_CODE, got, remedy))


_OLD_MAGIC: Final = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""What every file of torch's older format begins with."""


def _is_of_old_format(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_OLD_MAGIC)) == _OLD_MAGIC


def load_model(path: Path) -> tuple[SegmentationNet, Weights]:
    """Read a checkpoint or a .safetensors file and build its network.

    Args:
        path: A file that save_checkpoint or save_weights wrote.

    Returns:
        The network in evaluation mode on the CPU, and what was read: of a checkpoint, a
        ``Checkpoint``.

    Raises:
        ArtifactError: The file is neither, its weights do not fit its architecture, or that is a
            factory that was not registered, see ``register_factory``.
    """
    loaded = read_weights(path)
    architecture = loaded.spec.architecture
    try:
        net = create_model(architecture, loaded.spec.num_classes)
    except ValueError as error:
        raise ArtifactError(within(str(path), error)) from error
    try:
        net.load_state_dict(loaded.model)
    except RuntimeError as error:
        got = str(error).splitlines()[-1].strip()[:200]
        rule = f"weights must fit {architecture}"
        raise ArtifactError(message(str(path), rule, got, _USE_SAVED)) from error
    return net.eval(), loaded


def read_weights(path: Path) -> Weights:
    """Read spec and weights without building the network, as load_model reads them."""
    return load_weights_file(path) if path.suffix == SAFETENSORS else _loaded(path)


def save_weights(path: Path, weights: Weights) -> None:
    """Write a network's weights and spec: as .safetensors, which cannot hold code, or as .pt.

    Args:
        path: The file; its folder exists. Its suffix says the format.
        weights: What to write; of a checkpoint, what is deployed.

    Raises:
        MissingExtraError: safetensors is not installed.
        OSError: The file cannot be written.
    """
    if path.suffix != SAFETENSORS:
        _save(path, {"spec": weights.spec.to_json(), "model": weights.model})
        return
    content = safetensors_file.to_bytes(weights.model, {METADATA_KEY: weights.spec.to_json()})
    atomic_write(path, content)


def load_weights_file(path: Path) -> Weights:
    """Read what save_weights wrote.

    Args:
        path: The .safetensors file.

    Returns:
        Spec and weights, on the CPU.

    Raises:
        ArtifactError: The file is missing, damaged or without a spec.
        MissingExtraError: safetensors is not installed.
    """
    tensors, metadata = safetensors_file.read(path)
    if METADATA_KEY not in metadata:
        rule = f"a model needs a spec ({METADATA_KEY}) in the file's metadata"
        remedy = "write it with fcnkit.train.checkpoint.save_weights"
        raise ArtifactError(message(str(path), rule, "none", remedy))
    spec = ModelSpec.from_json(metadata[METADATA_KEY], where=str(path))
    return Weights(spec=spec, model=tensors)
