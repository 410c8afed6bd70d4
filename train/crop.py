"""The crop of a run for which none was chosen: the recipe's, or one that fits small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcnkit.train.checkpoint import load_checkpoint
from fcnkit.train.data.masks import size_of
from fcnkit.train.data.voc import Sample, open_voc
from fcnkit.train.recipe import Recipe
from fcnkit.train.run_folder import LAST

__all__ = ["FittedRecipe", "fit_crop", "recipe_without_crop"]

_LEAST = 64
"""Smallest side. At 32 pixels the deepest feature map is 1x1, on which batch normalization cannot
train with a batch of one."""

_LOOKED_AT = 1000
"""Sizes of at most this many pictures are read; they are spread over the whole split."""


class FittedRecipe(NamedTuple):
    """A recipe for a data set, and what was assumed."""

    recipe: Recipe
    note: str | None
    """One line for the user; None where the recipe is unchanged."""


def recipe_without_crop(root: Path, recipe: Recipe, *, resumed: Path | None) -> FittedRecipe:
    """Choose the crop of a run whose user chose none.

    Args:
        root: A VOC-layout folder.
        recipe: The recipe, with its default crop.
        resumed: The run folder to continue. A run that it holds keeps its crop, even if the data
            set has changed since. None for a new run.

    Returns:
        The recipe to train with.

    Raises:
        ArtifactError: The run's ``last.pt`` is broken.
        DataError: The folder is not in VOC layout, or a picture is broken.
    """
    last = None if resumed is None else resumed / LAST
    if last is None or not last.exists():
        return fit_crop(open_voc(root, split="train").samples, recipe)
    began = load_checkpoint(last).recipe
    kept = replace(recipe, crop=began.crop, drop_smaller=began.drop_smaller)
    note = f"crop {_text(kept.crop)}, as the run began" if kept != recipe else None
    return FittedRecipe(kept, note)


def fit_crop(samples: Sequence[Sample], recipe: Recipe) -> FittedRecipe:
    """Keep the recipe's crop where it fits half of the pictures; else fit it to them.

    A side then becomes the largest multiple of 32 that is at most the pictures' median side and at
    most the recipe's, but at least 64. Smaller pictures are padded, whatever the recipe says.

    Args:
        samples: At least one picture; of each only the header is read.
        recipe: The recipe, with its default crop.

    Returns:
        The recipe to train with.

    Raises:
        DataError: A picture is broken.
    """
    spread = np.linspace(0, len(samples) - 1, min(len(samples), _LOOKED_AT)).astype(int)
    sizes = np.array([size_of(samples[index].image) for index in spread])
    smaller = int((sizes < recipe.crop).any(axis=1).sum())
    if 2 * smaller <= len(sizes):
        return FittedRecipe(recipe, None)
    height, width = (
        min(side, max(_LEAST, int(median) // 32 * 32))
        for side, median in zip(recipe.crop, np.median(sizes, axis=0), strict=True)
    )
    fitted = replace(recipe, crop=(height, width), drop_smaller=False)
    sampled = " sampled" if len(sizes) < len(samples) else ""
    note = (
        f"crop {_text(fitted.crop)}: {smaller} of {len(sizes)}{sampled} pictures are smaller than "
        f"the recipe's {_text(recipe.crop)}; pictures smaller than the crop are padded; "
        "choose another with --crop"
    )
    return FittedRecipe(fitted, note)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
