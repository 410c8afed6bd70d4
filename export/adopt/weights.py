"""Writing an adopted network as weights and spec, for PyTorch."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from fcnkit.errors import BadValueError, message
from fcnkit.export.adopt.understanding import Understood
from fcnkit.export.subject import Subject
from fcnkit.export.verification import VerifyReport, require, verify
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.files import atomic_path
from fcnkit.train.backend import open_checkpoint
from fcnkit.train.checkpoint import Weights, checkpoint_spec, save_weights
from fcnkit.train.models.base import MULTIPLE
from fcnkit.train.models.foreign import is_factory, register_factory

__all__ = ["is_weights", "write_weights"]

_SUFFIXES: Final = (".pt", ".safetensors")


def is_weights(out: Path) -> bool:
    """Say whether a file is to hold weights, by its name."""
    return out.suffix in _SUFFIXES


def write_weights(
    known: Understood, source: Subject, out: Path, *, max_pixels: int
) -> tuple[ModelSpec, VerifyReport]:
    """Write weights and spec, and keep the file where it computes what the source computes.

    Args:
        known: The source.
        source: Runs it.
        out: The .pt or .safetensors file.
        max_pixels: Pixels of one batch in the comparison at most.

    Returns:
        The spec and the comparison.

    Raises:
        ValueError: The source has no network in PyTorch, or takes BGR.
        VerifyError: The file does not compute what the source computes; none is left.
    """
    _check(known, out)
    make = known.opened.weights
    if make is None:
        raise AssertionError  # only for type checkers: _check refused it
    if is_factory(known.opened.architecture):
        register_factory(known.opened.architecture)  # which the user named
    versions = {"fcnkit": version("fcnkit"), "torch": torch.__version__}
    spec = replace(_for_training(known), versions=versions)
    with atomic_path(out) as temporary:
        save_weights(temporary, Weights(spec=spec, model=make()))
        backend = open_checkpoint(temporary, BackendRequest(options={"device": "cpu"}))
        with Subject(backend, name=out.name, kind="checkpoint", sha256=None) as written:
            report = verify(source, written, max_pixels=max_pixels)
        require(report, remedy="this is a bug of the adoption, please report it")
    return spec, report


def _for_training(known: Understood) -> ModelSpec:
    """Return the spec with the sizes that every network of ``create_model`` takes."""
    spec, smallest = known.spec, known.facts.smallest
    free = checkpoint_spec(spec.architecture, spec.classes, spec.palette)
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in smallest)
    return replace(
        spec,
        input=replace(spec.input, multiple=MULTIPLE),
        shapes=replace(free.shapes, min=(1, height, width)),
    )


def _check(known: Understood, out: Path) -> None:
    if not out.parent.is_dir():
        rule = "its folder must exist"
        raise BadValueError(message("-o", rule, str(out.parent), "create it first"))
    if known.opened.weights is None:
        rule = "a file of weights needs a network that PyTorch builds by its name"
        got = f"{out.name} for {known.opened.where}"
        raise BadValueError(message("-o", rule, got, "write a graph, model.onnx"))
    if known.spec.architecture != known.opened.architecture:
        rule = (
            f"a file of weights names the network that PyTorch builds, {known.opened.architecture}"
        )
        raise BadValueError(message("--name", rule, known.spec.architecture, "leave it out"))
    if known.facts.fixed or known.facts.gives_labels:
        rule = "a file of weights holds a network of scores for any size"
        got = "one of labels" if known.facts.gives_labels else "one size only"
        raise BadValueError(message("-o", rule, got, "write a graph, model.onnx"))
    if known.facts.stride > 1 and known.upsample != "bilinear":
        rule = "a file of weights enlarges coarse scores by bilinear"
        raise BadValueError(
            message("--upsample", rule, known.upsample, "write a graph, model.onnx")
        )
    if known.normal.color == "BGR":
        rule = "a file of weights holds a network that takes RGB"
        raise BadValueError(message("--color", rule, "BGR", "write a graph, model.onnx"))
