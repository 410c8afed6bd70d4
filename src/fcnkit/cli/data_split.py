"""``fcnkit data split``: which images are for training, validation and testing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.following import say_next
from fcnkit.cli.options import Json, VocDir
from fcnkit.cli.say import say
from fcnkit.errors import printable

if TYPE_CHECKING:
    from fcnkit.train.data.split import SplitResult

__all__ = ["split_data_set"]


@documented
def split_data_set(
    folder: VocDir,
    *,
    ratios: Annotated[str, typer.Option(metavar="TRAIN/VAL/TEST")] = "70/10/20",
    group: Annotated[str | None, typer.Option(metavar="REGEX")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    force: Annotated[bool, typer.Option("--force")] = False,
    as_json: Json = False,
) -> None:
    """Divide the labeled images of a data set, every class in its share.

    Writes the lists train.txt, val.txt and test.txt.

    Options:
        ratios: Shares of the lists; 80/20 makes no test.
        group: Images with the same match of its one group stay together, such as the frames of one
            drive: '^(drive[0-9]+)_'.
        seed: Which of many equally good lists.
        force: Replace lists that are there.
    """
    from fcnkit.cli.progress import progress_of
    from fcnkit.train.data.split import split_folder
    from fcnkit.train.data.stratify import parse_ratios

    with progress_of() as advance:
        result = split_folder(
            folder,
            ratios=parse_ratios(ratios),
            group=group,
            seed=seed,
            force=force,
            progress=lambda done, total: advance("read", done, total),
        )
    if as_json:
        say(json.dumps(result.to_dict(), indent=2))
        return
    _say_result(result, grouped=group is not None)
    say_next("data", "check", folder)


def _say_result(result: SplitResult, *, grouped: bool) -> None:
    for name, found in result.splits.items():
        groups = f" in {found.groups} groups" if grouped else ""
        classes = ", ".join(f"{label} {count}" for label, count in found.classes.items())
        say(printable(f"{name}: {found.images} images{groups}; images with {classes}"))
    if result.without_mask:
        say(f"left out: {result.without_mask} images without a mask")
    for name, lacking in result.lacking.items():
        say(printable(f"note: no image of {name} shows {', '.join(lacking)}"))
    for name in ("train", "val"):
        if name not in result.splits:
            say(f"note: too few images or groups for {name}.txt, which training needs")
