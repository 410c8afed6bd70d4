"""A trained network that teaches another one: distillation.

Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.checks import check_path
from fcnkit.runtime.files import sha256_of
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models import SegmentationNet
from fcnkit.train.recipe import Recipe

__all__ = ["open_teacher"]


def open_teacher(
    path: Path | None, spec: ModelSpec, recipe: Recipe
) -> tuple[SegmentationNet | None, Recipe]:
    """Open the network that a run learns from, and note its file in the recipe.

    Args:
        path: A checkpoint or .safetensors file, or None.
        spec: Of the network under training.
        recipe: How it is trained.

    Returns:
        The teacher in evaluation mode on the CPU, or None, and the recipe with the file's SHA-256.

    Raises:
        TypeError: path is neither a str nor a Path.
        ValueError: The teacher labels other classes, or takes other images; the recipe names
            another teacher, or says how to learn from one though there is none.
        ArtifactError: The file is not a model.
    """
    if path is None:
        _check_none(recipe)
        return None, recipe
    path = check_path("train: teacher", path)
    net, weights = load_model(path)
    for what, theirs, ours in (
        ("classes", weights.spec.classes, spec.classes),
        ("palette", weights.spec.palette, spec.palette),
        ("multiple", weights.spec.input.multiple, spec.input.multiple),
        ("input mean", weights.spec.input.mean, spec.input.mean),
        ("input std", weights.spec.input.std, spec.input.std),
        ("value range", weights.spec.range, spec.range),
        ("bands", weights.spec.bands, spec.bands),
    ):
        if theirs != ours:
            rule = f"a teacher must have the {what} of the data, {ours}"
            remedy = "use a network that was trained on this data"
            raise BadValueError(message("--teacher", rule, f"{theirs} in {path}", remedy))
    noted = sha256_of(path)
    if recipe.teacher not in ("none", noted):
        rule = f"the recipe's teacher has the SHA-256 {recipe.teacher}"
        raise BadValueError(message("--teacher", rule, f"{noted} of {path}", "use that file"))
    return net, replace(recipe, teacher=noted)


def _check_none(recipe: Recipe) -> None:
    """Refuse settings that nothing would read."""
    default = {field: getattr(Recipe, field) for field in ("teacher_weight", "teacher_temperature")}
    if recipe.teacher != "none":
        rule = f"the recipe's teacher has the SHA-256 {recipe.teacher}"
        raise BadValueError(message("--teacher", rule, "no file", "give that file"))
    for field, usual in default.items():
        if getattr(recipe, field) != usual:
            option = f"--{field.replace('_', '-')}"
            rule, remedy = "is for a run with --teacher", "add --teacher, or leave it out"
            raise BadValueError(message(option, rule, getattr(recipe, field), remedy))
