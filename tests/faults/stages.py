"""Functions of the stages ``train`` and ``export`` that get wrong arguments, and right ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fcnkit.runtime.artifacts.spec import Head
from tests.export.adopt import graphs

__all__ = ["EXAMPLES", "FIXED", "fitting", "targets"]

EXAMPLES = {
    "fcnkit.train.models.create_model": 30,
    "fcnkit.train.models.upsample.SubpixelConvTranspose2d": 200,
    "fcnkit.train.models.upsample.bilinear_kernel": 300,
    "fcnkit.train.models.upsample.subpixel_weight": 300,
    "fcnkit.train.device.pick_device": 200,
    "fcnkit.train.recipe.Recipe": 400,
    "fcnkit.train.data.shapes.write_shapes": 20,
    "fcnkit.train.data.voc.open_voc": 100,
    "fcnkit.train.loop.train": 12,
    "fcnkit.export.to_onnx.export_onnx": 60,
    "fcnkit.export.adopt.adopting.adopt": 60,
    "fcnkit.export.adopt.claims.Claims": 400,
    "fcnkit.export.engine.build_engine": 20,
    "fcnkit.export.engine_profiles.parse_profile": 200,
    "fcnkit.export.triton.write_triton_repository": 200,
}
"""The functions, and how often each is called at most: a call that is right may take seconds."""

FIXED = {
    "create_model": ("pretrained",),  # would be fetched
    "write_shapes": ("out", "progress"),
    "open_voc": ("root",),
    # More processes than cores, and a compiler, are legal and take long.
    "train": ("run", "workers", "compiled", "on_weights", "on_step", "on_epoch"),
    "export_onnx": ("checkpoint", "out", "calibration", "max_pixels", "on_picture"),
    "adopt": ("source", "out", "calibration", "data", "max_pixels", "on_picture"),
    "Claims": ("labelmap",),
    "build_engine": ("model", "out", "timing_cache", "advance"),
    "write_triton_repository": ("model", "out"),
}
"""Paths and callbacks, for which Python itself words the error, and what would take too long."""


def targets() -> dict[str, Callable[..., Any]]:
    """Return the functions by their full names."""
    found = {}
    for full in EXAMPLES:
        module, _, name = full.rpartition(".")
        found[full] = getattr(importlib.import_module(module), name)
    return found


def fitting(target: str, place: Path) -> dict[str, st.SearchStrategy[Any]]:
    """Return what the parameters of a function might rightly be; nothing for other functions.

    Args:
        target: The function's full name.
        place: A folder for what it needs; it holds the model ``m.onnx``.

    Returns:
        Strategies by parameter.
    """
    if target not in EXAMPLES:
        return {}
    values = _VALUES[target.rpartition(".")[2]](place)
    return {name: st.sampled_from(list(choice)) for name, choice in values.items()}


def _network(_: Path) -> dict[str, Any]:
    return {
        "architecture": ["fcn32s-resnet18"], "num_classes": [4], "pretrained": [False],
        "upsample_init": ["bilinear", "xavier"], "freeze_upsample": [True, False],
    }  # fmt: skip


def _weight(_: Path) -> dict[str, Any]:
    import torch

    weights = [torch.zeros(3, 5, 4, 4), torch.zeros(4, 4), torch.zeros(2, 2, 5, 4)]
    return {"weight": weights, "stride": [2, 1]}


def _recipe(_: Path) -> dict[str, Any]:
    from fcnkit.train.recipe import RECIPES

    return {name: [value] for name, value in asdict(RECIPES["modern"]).items()}


def _training(place: Path) -> dict[str, Any]:
    from fcnkit.train.data.shapes import write_shapes
    from fcnkit.train.loop import open_data
    from fcnkit.train.recipe import RECIPES
    from fcnkit.train.weights import ModelOptions

    write_shapes(place / "shapes", train=2, val=1)
    tiny = replace(RECIPES["modern"], epochs=1, batch=2, crop=(32, 32))
    return {
        "data": [open_data(place / "shapes", tiny)], "run": _fresh(place), "workers": [0],
        "recipe": [tiny], "model": [ModelOptions()], "device": ["cpu"], "resume": [True, False],
        "compiled": [False], "validate_every": [1, 2], "on_weights": [None], "on_step": [None],
        "on_epoch": [None],
    }  # fmt: skip


def _data_set(place: Path) -> dict[str, Any]:
    from fcnkit.train.data.shapes import write_shapes

    write_shapes(place / "shapes", train=2, val=1)
    return {"root": [place / "shapes"], "split": ["train", "val"]}


def _exported(place: Path) -> dict[str, Any]:
    import torch

    from tests.corpus.make_models import good_checkpoint

    torch.save(good_checkpoint(), place / "c.pt")
    heads: list[Head] = ["labels", "logits"]
    return {
        "checkpoint": [place / "c.pt", *[place / "none.pt"] * 7], "head": heads,
        "out": [place / "out.onnx"],
        "precision": ["fp32"], "keep_fp32": [()], "calibration": [None], "max_pixels": [2**12],
        "activations": ["uint8"], "max_miou_drop": [None], "search": [False], "on_picture": [None],
        "shape": [None], "opset": [18, 20],
    }  # fmt: skip


def _adopted(place: Path) -> dict[str, Any]:
    from fcnkit.export.adopt import Claims

    graphs.save(place / "foreign.onnx", graphs.full())
    heads: list[Head] = ["labels", "logits"]
    claims = Claims(mean=(0.0,) * 3, std=(1.0,) * 3, color="RGB", scale=1)
    return {
        "source": [place / "foreign.onnx", *[place / "none.onnx"] * 7], "head": heads,
        "out": [place / "out.onnx"], "claims": [claims], "precision": ["fp32"], "keep_fp32": [()],
        "calibration": [None], "activations": ["uint8"], "shape": [None, (1, 32, 48)],
        "data": [None], "split": ["val"], "max_pixels": [2**12], "on_picture": [None],
    }  # fmt: skip


def _built(place: Path) -> dict[str, Any]:
    from fcnkit.export.engine_profiles import ProfileRequest
    from fcnkit.runtime.artifacts.engine_file import BuilderOptions

    return {
        "model": [place / "m.onnx"], "out": [place / "m.engine"], "flavor": ["tensorrt-rtx"],
        "profiles": [(), [ProfileRequest(opt=(1, 64, 64))]], "timing_cache": [None],
        "options": [None, BuilderOptions()], "advance": [None],
    }  # fmt: skip


def _fresh(place: Path) -> list[Path]:
    return [place / f"new-{number}" for number in range(40)]


_VALUES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "create_model": _network,
    "SubpixelConvTranspose2d": lambda _: {
        "in_channels": [4], "out_channels": [3], "stride": [2, 4, 3],
    },
    "bilinear_kernel": lambda _: {"channels": [1, 4], "kernel_size": [1, 4, 64]},
    "subpixel_weight": _weight,
    "pick_device": lambda _: {
        "name": ["cpu", "auto", "cpu:x"], "what": ["--device"], "remedy": ["use --device cpu"],
    },
    "Recipe": _recipe,
    "write_shapes": lambda place: {
        "out": _fresh(place), "train": [1], "val": [1], "test": [0], "seed": [0, 1],
        "progress": [None],
    },
    "open_voc": _data_set,
    "train": _training,
    "export_onnx": _exported,
    "adopt": _adopted,
    "Claims": lambda _: {
        "classes": [None, 5], "labelmap": [None], "mean": [None, (0.5, 0.5, 0.5)],
        "std": [None, (0.5, 0.5, 0.5)], "scale": [None, 1, 255], "color": [None, "RGB", "BGR"],
        "multiple": [None, 8], "name": [None, "x"], "output": [None, "y"],
        "upsample": [None, "bilinear", "align-corners"],
    },
    "build_engine": _built,
    "parse_profile": lambda _: {"text": ["1x32x32,1x64x64,2x64x96", "1x32"]},
    "write_triton_repository": lambda place: {
        "model": [place / "m.onnx"], "out": _fresh(place), "name": [None, "x"], "version": [1],
        "device": ["auto", "cpu"], "instances": [1], "queue_delay": [0],
    },
}  # fmt: skip
