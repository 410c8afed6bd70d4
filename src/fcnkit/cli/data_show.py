"""``fcnkit data show``: images with their masks, and which color is which class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.options import (
    PictureBands,
    ValueRange,
    VocDir,
    parse_bands,
    parse_levels,
    parse_size,
)
from fcnkit.cli.say import say
from fcnkit.errors import missing_extra
from fcnkit.runtime.checks import check_choice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fcnkit.train.data.show import Shown
    from fcnkit.train.data.voc import VocFolder

__all__ = ["show_data_set"]


@documented
def show_data_set(
    folder: VocDir,
    *,
    out: Annotated[Path, typer.Option("-o", "--out")],
    split: str = "train",
    count: Annotated[int, typer.Option(min=1)] = 24,
    augmented: Annotated[bool, typer.Option("--augmented")] = False,
    recipe: str = "d2l",
    crop: str | None = None,
    value_range: ValueRange = None,
    bands: PictureBands = None,
) -> None:
    """Draw images with their masks and a legend of the classes.

    Options:
        out: Folder to write, new or empty.
        split: The list to show images of.
        count: Number of images, spread over the list.
        augmented: Show what training sees: augmented crops.
        recipe: With --augmented: the recipe of fcnkit train: d2l, modern or long.
        crop: With --augmented: HxW, as for fcnkit train.
    """
    from fcnkit.cli.progress import progress_of
    from fcnkit.train.data.show import save_sheets, spread
    from fcnkit.train.data.voc import open_voc

    opened = open_voc(
        folder,
        split=split,
        range=parse_levels(value_range, "--range"),
        bands=parse_bands(bands),
    )
    sheets = _augmented(opened, recipe, crop, count) if augmented else spread(opened, count)
    total = min(count, len(opened.samples))
    with progress_of() as advance:
        drawn = save_sheets(
            out, sheets, opened.labelmap, progress=lambda done: advance("draw", done, total)
        )
    say(f"{out}: {drawn} images of {split}")


def _augmented(opened: VocFolder, recipe: str, crop: str | None, count: int) -> Iterable[Shown]:
    """Return crops as training makes them."""
    from dataclasses import replace

    from fcnkit.train.recipe import RECIPES

    check_choice("--recipe", recipe, tuple(RECIPES))
    chosen = RECIPES[recipe]
    size = None if crop is None else parse_size(crop, "--crop")
    try:
        from fcnkit.train.augmented import augmented_crops
        from fcnkit.train.crop import fit_crop
    except ModuleNotFoundError as error:
        raise missing_extra("fcnkit data show --augmented", str(error.name), "train") from error
    if size is not None:
        return augmented_crops(opened, replace(chosen, crop=size), count)
    fitted, assumed = fit_crop(opened.samples, chosen)
    if assumed:
        say(assumed)
    return augmented_crops(opened, fitted, count)
