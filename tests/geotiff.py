"""GeoTIFF files for tests, written by rasterio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def write_geotiff(path: Path, image_hwc: NDArray[np.generic], **profile: Any) -> Path:
    """Write an image in tiles of 128 x 128, 0.3 meters per pixel in UTM zone 33 north.

    Args:
        path: Where.
        image_hwc: (H, W, C) of any type.
        profile: What rasterio gets besides, or instead.
    """
    rasterio = pytest.importorskip("rasterio")
    height, width, count = image_hwc.shape
    profile = {
        "driver": "GTiff",
        "crs": "EPSG:32633",
        "transform": rasterio.transform.from_origin(500000.5, 4600000.25, 0.3, 0.3),
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
        "photometric": "RGB" if count == 3 else "MINISBLACK",
        **profile,
    }
    size = {"height": height, "width": width, "count": count, "dtype": image_hwc.dtype}
    with rasterio.open(path, "w", **size, **profile) as file:
        file.write(np.moveaxis(image_hwc, 2, 0))
    return path
