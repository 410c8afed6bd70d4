"""The training stage: PyTorch networks and recipes for data sets in Pascal VOC layout.

``fcnkit.train.data`` reads and checks data sets and needs no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.train import data
    from fcnkit.train.backend import open_checkpoint
    from fcnkit.train.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
    from fcnkit.train.evaluation import Measure, Protocol, evaluate, measure
    from fcnkit.train.loop import EpochResult, TrainingData, open_data, train
    from fcnkit.train.models import ARCHITECTURES, SegmentationNet, create_model
    from fcnkit.train.models.upsample import bilinear_kernel
    from fcnkit.train.recipe import RECIPES, Recipe
    from fcnkit.train.report import write_report
    from fcnkit.train.weights import ModelOptions

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "Checkpoint",
    "EpochResult",
    "Measure",
    "ModelOptions",
    "Protocol",
    "Recipe",
    "SegmentationNet",
    "TrainingData",
    "bilinear_kernel",
    "create_model",
    "data",
    "evaluate",
    "load_checkpoint",
    "load_model",
    "measure",
    "open_checkpoint",
    "open_data",
    "save_checkpoint",
    "train",
    "write_report",
]

__getattr__, __dir__ = lazy_face(
    __name__,
    {
        "ARCHITECTURES": "fcnkit.train.models",
        "Checkpoint": "fcnkit.train.checkpoint",
        "EpochResult": "fcnkit.train.loop",
        "Measure": "fcnkit.train.evaluation",
        "ModelOptions": "fcnkit.train.weights",
        "Protocol": "fcnkit.train.evaluation",
        "RECIPES": "fcnkit.train.recipe",
        "Recipe": "fcnkit.train.recipe",
        "SegmentationNet": "fcnkit.train.models",
        "TrainingData": "fcnkit.train.loop",
        "bilinear_kernel": "fcnkit.train.models.upsample",
        "create_model": "fcnkit.train.models",
        "data": "fcnkit.train.data",
        "evaluate": "fcnkit.train.evaluation",
        "load_checkpoint": "fcnkit.train.checkpoint",
        "load_model": "fcnkit.train.checkpoint",
        "measure": "fcnkit.train.evaluation",
        "open_checkpoint": "fcnkit.train.backend",
        "open_data": "fcnkit.train.loop",
        "save_checkpoint": "fcnkit.train.checkpoint",
        "train": "fcnkit.train.loop",
        "write_report": "fcnkit.train.report",
    },
)
