"""Data sets on disk: import, read, check, divide, download and draw them, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.runtime.artifacts.classmap import ClassMap, parse_class_map
    from fcnkit.train.data.check import FolderReport, Problem, SplitReport, check_folder
    from fcnkit.train.data.download import download_voc2012
    from fcnkit.train.data.importers.importing import ImportReport, import_data
    from fcnkit.train.data.labelmap import LabelMap, read_labelmap, voc_labelmap
    from fcnkit.train.data.masks import read_image, read_mask
    from fcnkit.train.data.shapes import SHAPES, write_shapes
    from fcnkit.train.data.split import SplitResult, split_folder
    from fcnkit.train.data.stratify import Ratios, parse_ratios
    from fcnkit.train.data.voc import (
        Sample,
        VocFolder,
        open_voc,
        read_pair,
        read_split,
        split_names,
    )
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.runtime.artifacts.classmap": "ClassMap parse_class_map",
            "fcnkit.train.data.check": "FolderReport Problem SplitReport check_folder",
            "fcnkit.train.data.download": "download_voc2012",
            "fcnkit.train.data.importers.importing": "ImportReport import_data",
            "fcnkit.train.data.labelmap": "LabelMap read_labelmap voc_labelmap",
            "fcnkit.train.data.masks": "read_image read_mask",
            "fcnkit.train.data.shapes": "SHAPES write_shapes",
            "fcnkit.train.data.split": "SplitResult split_folder",
            "fcnkit.train.data.stratify": "Ratios parse_ratios",
            "fcnkit.train.data.voc": "Sample VocFolder open_voc read_pair read_split split_names",
        },
    )

__all__ = [
    "SHAPES",
    "ClassMap",
    "FolderReport",
    "ImportReport",
    "LabelMap",
    "Problem",
    "Ratios",
    "Sample",
    "SplitReport",
    "SplitResult",
    "VocFolder",
    "check_folder",
    "download_voc2012",
    "import_data",
    "open_voc",
    "parse_class_map",
    "parse_ratios",
    "read_image",
    "read_labelmap",
    "read_mask",
    "read_pair",
    "read_split",
    "split_folder",
    "split_names",
    "voc_labelmap",
    "write_shapes",
]
