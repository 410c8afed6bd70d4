"""A network that is a PyTorch module: run by PyTorch, traced to ONNX."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fcnkit.errors import ArtifactError, message
from fcnkit.export.adopt.claims import Claims, ColorOrder, Upsampling
from fcnkit.export.adopt.core import foreign_core
from fcnkit.export.adopt.foreign_graph import cleaned, declared, image_input
from fcnkit.export.adopt.normalization import own_normalization
from fcnkit.export.adopt.opened import Opened, Prepared
from fcnkit.export.adopt.probing import CallError, Facts, Run, probe
from fcnkit.export.heads import Core
from fcnkit.export.trace import OPSET
from fcnkit.runtime.artifacts.spec import Shape
from fcnkit.runtime.backends.onnxruntime import create_session

__all__ = ["ScoresOf", "open_module", "run_of"]

_CLOSE: Final = 1e-3
"""Share of the largest score that a trace may be off, before it is taken for another function."""


class ScoresOf(nn.Module):
    """A network whose call gives the scores alone, whatever it gives around them."""

    def __init__(self, net: nn.Module, where: str) -> None:
        """Wrap a network, which is put into evaluation mode.

        Args:
            net: Its call gives a tensor, a dict with ``out`` or an object with ``.logits``.
            where: What it is called in errors.
        """
        super().__init__()
        self.net, self._where = net.eval(), where

    def forward(self, image_nchw: Tensor) -> Tensor:
        """Return the scores or labels."""
        result = self.net(image_nchw)
        if isinstance(result, Mapping) and "out" in result:
            result = result["out"]
        elif not isinstance(result, Tensor) and hasattr(result, "logits"):
            result = result.logits
        if not isinstance(result, Tensor):
            rule = "its call must give a tensor, a dict with 'out' or an object with .logits"
            got = type(result).__name__
            remedy = "return a module whose forward gives the scores alone"
            raise CallError(message(self._where, rule, got, remedy))
        return result


def run_of(net: nn.Module) -> Run:
    """Return what runs a module on arrays."""

    def run(image_nchw: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            result = net(torch.from_numpy(np.ascontiguousarray(image_nchw)))
        given: NDArray[Any] = result.cpu().numpy()
        return given

    return run


def open_module(
    net: nn.Module,
    *,
    where: str,
    name: str,
    architecture: str,
    sha256: str | None,
    known: Claims | None = None,
    voc: bool = False,
    lines: tuple[str, ...] = (),
) -> Opened:
    """Make a source of a module.

    Args:
        net: The module; it is put into evaluation mode.
        where: What it is called in errors.
        name: What it is called in reports.
        architecture: What the network is called unless the user says otherwise.
        sha256: Of the file of its weights.
        known: What its layout says.
        voc: Whether 21 classes are those of Pascal VOC.
        lines: What was found out already.

    Returns:
        The source.
    """
    scores = ScoresOf(net, where).requires_grad_(requires_grad=False)
    run = run_of(scores)

    def prepare(multiple: int | None, shape: Shape | None) -> Prepared:
        free = (None, 3, None, None)
        facts = probe(run, free, multiple=multiple, shape=shape, where=where)
        model, tracer = _trace(scores, run, facts, where=where)
        graph = cleaned(model, model.graph.output[0].name, where=where)
        # What the trace froze is fixed from here on, whatever the module takes.
        batch = declared(image_input(graph, where=where))[0]
        fixed = replace(facts, batch=facts.batch or batch)

        def core(classes: int, color: ColorOrder, upsample: Upsampling) -> Core:
            return foreign_core(graph, fixed, classes=classes, color=color, upsample=upsample)

        own = own_normalization(graph)
        return Prepared(facts=fixed, own=own, core=core, lines=(f"traced by {tracer}",))

    return Opened(
        where=where,
        name=name,
        architecture=architecture,
        kind="module",
        sha256=sha256,
        run=run,
        library=f"torch {torch.__version__}",
        prepare=prepare,
        weights=lambda: {f"module.{key}": value for key, value in net.state_dict().items()},
        known=known or Claims(),
        voc=voc,
        lines=lines,
    )


def _trace(net: ScoresOf, run: Run, facts: Facts, *, where: str) -> tuple[onnx.ModelProto, str]:
    """Return the first trace that gives what the module gives, and what made it."""
    tracers: dict[str, Callable[[nn.Module, Facts], onnx.ModelProto]] = {
        "torch.export": _by_export,
        "torch.export, its sizes found by itself": _by_auto,
        "TorchScript": _by_script,
    }
    failures = []
    for name, tracer in tracers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                logging.getLogger("torch.onnx").setLevel(logging.ERROR)
                logging.getLogger("torch._dynamo").setLevel(logging.CRITICAL)
                model = tracer(net, facts)
            difference = _difference(model, run, facts, where=where)
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            failures.append(f"{name}: {lines[0][:150]}")
            continue
        if difference is None:
            return model, name
        failures.append(f"{name}: {difference}")
    rule = "the module must be traced by one of torch's exporters"
    remedy = "export it to ONNX yourself and adopt that file"
    raise ArtifactError(message(where, rule, "; ".join(failures), remedy))


def _example(facts: Facts) -> Tensor:
    """Return images whose sides are different odd multiples, where these are free."""
    batch = 2 if facts.batch is None else facts.batch
    if facts.fixed:
        return torch.zeros(batch, 3, *facts.smallest)
    step = facts.multiple
    side = -(-max(64, *facts.smallest) // step) | 1
    return torch.zeros(batch, 3, step * side, step * (side + 2))


def _by_export(net: nn.Module, facts: Facts) -> onnx.ModelProto:
    shape: dict[int, Any] = {}
    if not facts.fixed:
        height, width = torch.export.Dim("h"), torch.export.Dim("w")
        shape = {2: facts.multiple * height, 3: facts.multiple * width}
    if facts.batch is None:
        shape[0] = torch.export.Dim("n")
    return _export(net, facts, shape)


def _by_auto(net: nn.Module, facts: Facts) -> onnx.ModelProto:
    return _export(net, facts, dict.fromkeys(_free(facts), torch.export.Dim.AUTO))


def _free(facts: Facts) -> list[int]:
    """Return the axes of the input that have any size."""
    batch = [0] if facts.batch is None else []
    return batch + ([] if facts.fixed else [2, 3])


def _export(net: nn.Module, facts: Facts, shape: dict[int, Any]) -> onnx.ModelProto:
    program = torch.onnx.export(
        net,
        (_example(facts),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes=(shape,),
        verbose=False,
    )
    if program is None:
        raise AssertionError  # only for type checkers: dynamo=True gives a program
    model: onnx.ModelProto = program.model_proto
    return model


def _by_script(net: nn.Module, facts: Facts) -> onnx.ModelProto:
    free = {axis: "nchw"[axis] for axis in _free(facts)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            net,
            (_example(facts),),
            path,
            dynamo=False,
            opset_version=18,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": free, "scores": free},
        )
        model: onnx.ModelProto = onnx.load(path)
    return model


def _difference(model: onnx.ModelProto, run: Run, facts: Facts, *, where: str) -> str | None:
    """Say what a trace gives differently from the module, at other sizes than the traced ones."""
    session = create_session(model.SerializeToString(), name="onnxruntime", threads=1, where=where)
    output = model.graph.output[0].name
    more = 0 if facts.fixed else 3 * facts.multiple
    sides = tuple(more + side for side in facts.smallest)
    batch = 3 if facts.batch is None else facts.batch
    for shape in ((batch, 3, *sides), (facts.batch or 1, 3, sides[0], facts.smallest[1])):
        images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        wanted, got = run(images), session.run([output], {"image": images})[0]
        if wanted.shape != got.shape:
            return f"{got.shape} where the module gives {wanted.shape}"
        largest = max(1e-30, float(np.abs(wanted).max()))
        if wanted.dtype.kind == "f" and not np.abs(wanted - got).max() <= _CLOSE * largest:
            return "other scores than the module's"
    return None
