"""Searches for an int8 graph that loses little: ranges, biases, and the layers left in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from fcnkit.export.build import Typing, build_graph
from fcnkit.export.calibration import model_inputs
from fcnkit.export.choices import Ranges
from fcnkit.export.heads import Core, logits_model
from fcnkit.export.int8 import find_ranges, to_int8
from fcnkit.export.int8_bias import correct_biases, input_means
from fcnkit.export.precision import default_kept, keeper
from fcnkit.export.saving import save_model
from fcnkit.export.subject import Subject, open_subject
from fcnkit.export.verify_data import ComparisonData, compare_on_data
from fcnkit.runtime.artifacts.onnx_file import KEPT_KEY
from fcnkit.runtime.artifacts.onnx_precision import module_of
from fcnkit.runtime.artifacts.spec import ModelSpec, OutputSpec
from fcnkit.runtime.backends.onnxruntime import create_session
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.checks import PROCESSORS

__all__ = ["Int8Search", "search_int8"]

LOOKED_AT: Final = 8
"""Calibration pictures that candidates are compared on."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to quantize, and what it costs."""

    ranges: Ranges
    correct_bias: bool
    noise: float
    """Energy of the error of the scores as a share of that of the scores, on calibration
    pictures."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A graph whose mean IoU was measured on the held-out split."""

    kept: int
    """Layers left in float32 besides those that always are."""
    miou_drop: float


@dataclass(frozen=True, kw_only=True)
class Int8Search:
    """What was found, and on the way to it."""

    typing: Typing
    """How to build the graph."""
    candidates: tuple[Candidate, ...]
    """From the least to the most noise."""
    sensitivity: tuple[tuple[str, float], ...]
    """Layers and the noise that each alone makes in int8, the most first; empty where no layer had
    to be kept."""
    attempts: tuple[Attempt, ...]
    """One per look at the held-out split; none without truth."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        typing = self.typing
        return {
            "ranges": typing.ranges,
            "correct_bias": typing.correct_bias,
            "keep_fp32": list(typing.keep_fp32),
            "candidates": [vars(one) for one in self.candidates],
            "sensitivity": dict(self.sensitivity),
            "attempts": [vars(one) for one in self.attempts],
        }

    def summary(self) -> str:
        """Return the choice as one line."""
        best, typing = self.candidates[0], self.typing
        plain = next(
            one for one in self.candidates if (one.ranges, one.correct_bias) == ("minmax", False)
        )
        biases = "biases corrected" if typing.correct_bias else "biases as they were"
        kept = ", ".join(typing.keep_fp32) or "no more layers"
        looks = f"looks at the held-out split: {len(self.attempts)}"
        return (
            f"ranges by {typing.ranges}, {biases}: noise {100 * best.noise:.2f} % of the scores "
            f"(minmax alone {100 * plain.noise:.2f} %); {kept} kept in fp32; {looks}"
        )


def search_int8(
    core: Core,
    spec: ModelSpec,
    source: Subject,
    *,
    typing: Typing,
    data: ComparisonData | None,
    max_miou_drop: float,
) -> Int8Search:
    """Choose how to quantize a network.

    Ranges and bias correction are those with the least error of the class scores on calibration
    pictures. If the graph then loses more mean IoU than allowed, the layers that alone make the
    most error are kept in float32: 1, 2, 4 and so on, until the limit holds or half of the layers
    are kept.

    Args:
        core: The network.
        spec: Of the head to export, precision int8.
        source: Runs the network as it was given.
        typing: The calibration pictures, and what is kept in float32 in any case.
        data: Labeled pictures held out; without them no layer is kept.
        max_miou_drop: Largest loss of mean IoU on them.

    Returns:
        What was found. Its typing may still lose more than allowed: the export then refuses it.

    Raises:
        DataError: A picture is broken.
    """
    bench = _Bench(core, spec, typing)
    candidates = bench.candidates()
    best = candidates[0]
    chosen = replace(typing, ranges=best.ranges, correct_bias=best.correct_bias, search=False)
    attempts: list[Attempt] = []
    sensitivity: tuple[tuple[str, float], ...] = ()
    kept = 0
    while data is not None:
        layers = tuple(name for name, _ in sensitivity[:kept])
        tried = replace(chosen, keep_fp32=(*typing.keep_fp32, *layers))
        drop = _miou_drop(core, spec, source, tried, data)
        attempts.append(Attempt(kept=kept, miou_drop=drop))
        if drop <= max_miou_drop or 2 * kept >= len(bench.layers):
            chosen = tried
            break
        sensitivity = sensitivity or bench.sensitivity(best)
        kept = max(1, 2 * kept)
    return Int8Search(
        typing=chosen,
        candidates=candidates,
        sensitivity=sensitivity,
        attempts=tuple(attempts),
    )


class _Bench:
    """Measures the error of the logits on calibration pictures."""

    def __init__(self, core: Core, spec: ModelSpec, typing: Typing) -> None:
        assert typing.calibration is not None  # open_typing asks for it
        self._activations = typing.activations
        self._model = logits_model(core)
        spec, pictures = _logits_spec(spec), typing.calibration.pictures
        places = np.linspace(0, len(pictures) - 1, LOOKED_AT).round().astype(int)
        seen = replace(typing.calibration, pictures=tuple(pictures[place] for place in places))
        self._seen = [np.ascontiguousarray(batch) for batch in model_inputs(seen, spec)]
        self._wanted = list(_results(self._model, self._seen))
        inputs = partial(model_inputs, typing.calibration, spec)
        self._means = input_means(self._model, inputs())
        self._ranges: dict[Ranges, Any] = {
            ranges: find_ranges(self._model, inputs(), ranges=ranges, activations=self._activations)
            for ranges in get_args(Ranges)
        }
        self._stays = keeper(self._model, (*default_kept("int8", core), *typing.keep_fp32))
        convolutions = [node.name for node in self._model.graph.node if node.op_type == "Conv"]
        quantized = (module_of(name) for name in convolutions if not self._stays(name))
        self.layers = tuple(dict.fromkeys(quantized))
        """The modules whose convolutions become int8."""

    def candidates(self) -> tuple[Candidate, ...]:
        """Measure every way to quantize, the best first."""
        found = [
            Candidate(
                ranges=ranges, correct_bias=bias, noise=self._noise(ranges, bias, self._stays)
            )
            for ranges in self._ranges
            for bias in (False, True)
        ]
        return tuple(sorted(found, key=lambda one: one.noise))

    def sensitivity(self, way: Candidate) -> tuple[tuple[str, float], ...]:
        """Measure the noise of every layer where it alone is int8, the most first.

        The other way around, with one layer in float32, would hide two layers that share a tensor
        of bad range: either alone still quantizes it.
        """

        def alone(layer: str) -> float:
            def kept(node: str) -> bool:
                return module_of(node) != layer or self._stays(node)

            return self._noise(way.ranges, way.correct_bias, kept)

        noises = [(layer, alone(layer)) for layer in self.layers]
        return tuple(sorted(noises, key=lambda pair: pair[1], reverse=True))

    def _noise(self, ranges: Ranges, correct_bias: bool, kept: Callable[[str], bool]) -> float:
        """Return the energy of the error as a share of that of the logits."""
        model = to_int8(self._model, self._ranges[ranges], kept=kept, activations=self._activations)
        if correct_bias:
            correct_biases(model, self._model, self._means)
        error = energy = 0.0
        for got, wanted in zip(_results(model, self._seen), self._wanted, strict=True):
            error += float(np.square(got - wanted).sum(dtype=np.float64))
            energy += float(np.square(wanted).sum(dtype=np.float64))
        return error / energy if energy else 0.0


def _logits_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec of head logits, whatever head is exported: all have the same layers."""
    return replace(
        spec,
        head="logits",
        input=replace(spec.input, layout="NCHW", dtype="float32"),
        output=OutputSpec(name="logits", layout="NCHW", dtype="float32"),
        last_layer=None,
        confidence=None,
        tta=None,
    )


def _results(
    model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Run a graph with one input and one output."""
    session = create_session(
        model.SerializeToString(), name="onnxruntime", threads=PROCESSORS, where="the search"
    )
    source = model.graph.input[0].name
    for batch in inputs:
        yield session.run(None, {source: batch})[0]


def _miou_drop(
    core: Core, spec: ModelSpec, source: Subject, typing: Typing, data: ComparisonData
) -> float:
    """Build the graph of the head, and measure what it loses on labeled pictures."""
    model, kept = build_graph(core, spec, typing)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        save_model(model, spec, path, notes={KEPT_KEY: ", ".join(kept)})
        with open_subject(path, BackendRequest(backend="onnxruntime")) as exported:
            drop = compare_on_data(source, exported, data).miou_drop
    assert drop is not None  # a held-out split has truth
    return drop
