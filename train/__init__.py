"""The training: PyTorch networks and recipes for data sets in Pascal VOC layout.

``fcnkit.train.data`` reads and checks data sets and needs no PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcnkit.faces import lazy_face

if TYPE_CHECKING:
    from fcnkit.train import data
    from fcnkit.train.backend import open_checkpoint
    from fcnkit.train.checkpoint import (
        Checkpoint,
        Weights,
        checkpoint_spec,
        load_checkpoint,
        load_model,
        save_checkpoint,
        save_weights,
    )
    from fcnkit.train.crop import FittedRecipe, fit_crop
    from fcnkit.train.description import describe_checkpoint
    from fcnkit.train.evaluation import Measure, PictureScore, Protocol, evaluate, measure
    from fcnkit.train.loop import EpochResult, TrainingData, open_data, train
    from fcnkit.train.models import ARCHITECTURES, SegmentationNet, create_model
    from fcnkit.train.models.backbone import ResNetSegmentationNet
    from fcnkit.train.models.foreign import ForeignNet, register_factory
    from fcnkit.train.models.registry import register
    from fcnkit.train.models.upsample import SubpixelConvTranspose2d, bilinear_kernel
    from fcnkit.train.recipe import RECIPES, Recipe
    from fcnkit.train.report import write_report
    from fcnkit.train.weights import LoadedWeights, ModelOptions, load_weights
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "fcnkit.train.backend": "open_checkpoint",
            "fcnkit.train.checkpoint": (
                "Checkpoint Weights checkpoint_spec load_checkpoint load_model save_checkpoint "
                "save_weights"
            ),
            "fcnkit.train.crop": "FittedRecipe fit_crop",
            "fcnkit.train.data": "data",
            "fcnkit.train.description": "describe_checkpoint",
            "fcnkit.train.evaluation": "Measure PictureScore Protocol evaluate measure",
            "fcnkit.train.loop": "EpochResult TrainingData open_data train",
            "fcnkit.train.models": "ARCHITECTURES SegmentationNet create_model",
            "fcnkit.train.models.backbone": "ResNetSegmentationNet",
            "fcnkit.train.models.foreign": "ForeignNet register_factory",
            "fcnkit.train.models.registry": "register",
            "fcnkit.train.models.upsample": "SubpixelConvTranspose2d bilinear_kernel",
            "fcnkit.train.recipe": "RECIPES Recipe",
            "fcnkit.train.report": "write_report",
            "fcnkit.train.weights": "LoadedWeights ModelOptions load_weights",
        },
        extra="train",
    )

__all__ = [
    "ARCHITECTURES",
    "RECIPES",
    "Checkpoint",
    "EpochResult",
    "FittedRecipe",
    "ForeignNet",
    "LoadedWeights",
    "Measure",
    "ModelOptions",
    "PictureScore",
    "Protocol",
    "Recipe",
    "ResNetSegmentationNet",
    "SegmentationNet",
    "SubpixelConvTranspose2d",
    "TrainingData",
    "Weights",
    "bilinear_kernel",
    "checkpoint_spec",
    "create_model",
    "data",
    "describe_checkpoint",
    "evaluate",
    "fit_crop",
    "load_checkpoint",
    "load_model",
    "load_weights",
    "measure",
    "open_checkpoint",
    "open_data",
    "register",
    "register_factory",
    "save_checkpoint",
    "save_weights",
    "train",
    "write_report",
]
