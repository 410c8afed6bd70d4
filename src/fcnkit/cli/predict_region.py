"""The options of ``fcnkit predict`` that say which pixels of a picture are labeled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fcnkit.runtime import Region

__all__ = ["Mask", "Nodata", "Window", "region_of"]

Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="Y0:Y1,X0:X1",
        help="Label only these rows and columns, as if the picture were cut there.",
    ),
]
Nodata = Annotated[
    str | None,
    typer.Option(
        "--nodata",
        metavar="VALUE|auto",
        help="Stored value of pixels that become void; auto takes the file's tag and transparency.",
    ),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        metavar="PATH",
        help="A picture whose black pixels become void, or a folder with one for each result.",
    ),
]


def region_of(
    window: str | None, nodata: str | None, mask: Path | None, camera: int | str | None
) -> Region:
    """Return what the options describe.

    Args:
        window: Of ``--window``.
        nodata: Of ``--nodata``.
        mask: Of ``--mask``.
        camera: The camera that takes the place of pictures, which must have none of them.

    Raises:
        ValueError: An option is of another form, or a camera has one.
    """
    from fcnkit.runtime.predict.region import Region, check_no_region

    region = Region.parse(window=window, nodata=nodata, mask=mask)
    if camera is not None:
        check_no_region(region, "a camera")
    return region
