"""What a checkpoint is, for ``fcnkit info``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fcnkit.runtime.files import sha256_of
from fcnkit.train.checkpoint import Checkpoint, load_model, read_weights
from fcnkit.train.models.foreign import is_factory

__all__ = ["describe_checkpoint"]


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Say what a checkpoint is, in the form of ``fcnkit.runtime.artifacts.description``.

    Args:
        path: A file that save_checkpoint or save_weights wrote.

    Returns:
        ``path``, ``kind``, ``bytes``, ``sha256``, ``parameters`` (their number), ``spec``, and of
        a checkpoint ``epoch``, ``recipe`` and ``scores``.

    Raises:
        ArtifactError: The file is not a checkpoint.
    """
    loaded = read_weights(path)
    if is_factory(loaded.spec.architecture):  # which is not imported for this
        parameters = sum(t.numel() for key, t in loaded.model.items() if not _is_statistic(key))
    else:
        net, loaded = load_model(path)
        parameters = sum(parameter.numel() for parameter in net.parameters())
    facts: dict[str, Any] = {
        "path": str(path),
        "kind": "checkpoint" if isinstance(loaded, Checkpoint) else "weights",
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "parameters": parameters,
    }
    if isinstance(loaded, Checkpoint):
        facts["epoch"] = loaded.epoch
        facts["recipe"] = loaded.recipe.to_dict()
        facts["scores"] = loaded.scores
    return {**facts, "spec": asdict(loaded.spec)}


def _is_statistic(key: str) -> bool:
    """Whether a tensor of a state dict is a batch norm's statistic and no parameter."""
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))
