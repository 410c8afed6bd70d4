"""Data sets on disk: reading, checking, downloading and drawing them, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.train.data.check import FolderReport, check_folder
    from fcnkit.train.data.download import download_voc2012
    from fcnkit.train.data.labelmap import LabelMap, read_labelmap, voc_labelmap
    from fcnkit.train.data.masks import read_image, read_mask
    from fcnkit.train.data.shapes import SHAPES, write_shapes
    from fcnkit.train.data.voc import Sample, VocFolder, open_voc, read_pair, read_split

__all__ = [
    "SHAPES",
    "FolderReport",
    "LabelMap",
    "Sample",
    "VocFolder",
    "check_folder",
    "download_voc2012",
    "open_voc",
    "read_image",
    "read_labelmap",
    "read_mask",
    "read_pair",
    "read_split",
    "voc_labelmap",
    "write_shapes",
]

__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "FolderReport": "fcnkit.train.data.check",
        "LabelMap": "fcnkit.train.data.labelmap",
        "SHAPES": "fcnkit.train.data.shapes",
        "Sample": "fcnkit.train.data.voc",
        "VocFolder": "fcnkit.train.data.voc",
        "check_folder": "fcnkit.train.data.check",
        "download_voc2012": "fcnkit.train.data.download",
        "open_voc": "fcnkit.train.data.voc",
        "read_image": "fcnkit.train.data.masks",
        "read_labelmap": "fcnkit.train.data.labelmap",
        "read_mask": "fcnkit.train.data.masks",
        "read_pair": "fcnkit.train.data.voc",
        "read_split": "fcnkit.train.data.voc",
        "voc_labelmap": "fcnkit.train.data.labelmap",
        "write_shapes": "fcnkit.train.data.shapes",
    },
)
