"""``adopt``: a network from elsewhere to a verified file of fcnkit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from fcnkit.errors import BadValueError, message
from fcnkit.export.adopt.claims import Claims
from fcnkit.export.adopt.precision import check_precision, operators_named
from fcnkit.export.adopt.probing import Facts
from fcnkit.export.adopt.trying import Trial, try_claims
from fcnkit.export.adopt.understanding import Understood, understand
from fcnkit.export.adopt.weights import is_weights, write_weights
from fcnkit.export.build import head_spec, with_resize
from fcnkit.export.choices import Activations
from fcnkit.export.heads import Core
from fcnkit.export.shapes import MAX_PIXELS
from fcnkit.export.subject import Subject
from fcnkit.export.to_onnx import check_out, open_typing, write_verified
from fcnkit.export.verification import VerifyReport
from fcnkit.runtime.artifacts.precisions import PRECISIONS
from fcnkit.runtime.artifacts.spec import Head, ModelSpec, Precision, Shape
from fcnkit.runtime.checks import check_choice, check_int, check_names, check_path, check_type
from fcnkit.runtime.pixels.tile_plan import MAX_SIDE

__all__ = ["AdoptReport", "adopt"]

_log = logging.getLogger("fcnkit.model")


@dataclass(frozen=True, kw_only=True)
class AdoptReport:
    """What was found out, and what was written."""

    facts: tuple[str, ...]
    """What was found out about the source, a line each."""
    spec: ModelSpec
    """What the written file promises, parity aside."""
    verify: VerifyReport
    """The comparison with the source."""
    trial: Trial | None
    """How the claims and others score on labeled images; None without."""

    def summary(self) -> str:
        """Return the figures of the comparison as one line."""
        return self.verify.summary()


def adopt(
    source: str | Path,
    out: Path,
    *,
    claims: Claims | None = None,
    head: Head | None = None,
    precision: Precision = "fp32",
    keep_fp32: Sequence[str] = (),
    calibration: Path | None = None,
    activations: Activations = "uint8",
    shape: Shape | None = None,
    data: Path | None = None,
    split: str = "val",
    max_pixels: int = MAX_PIXELS,
    on_picture: Callable[[int, int], None] | None = None,
) -> AdoptReport:
    """Take over a network, and run it against its source before the file appears.

    Args:
        source: An ONNX file, a state dict or ``package.module:factory``.
        out: The file to write; its folder exists. An .onnx file holds a graph, and ``out`` with
            ``.verify.json`` is written beside it. A .pt or .safetensors file holds the weights of a
            state dict or a factory, to be exported, evaluated or trained on.
        claims: What cannot be found out, such as the mean; by default nothing.
        head: What the graph computes; by default ``logits``, and ``labels`` where the network
            takes the argmax itself.
        precision: What it computes in; inputs and outputs keep their types.
        keep_fp32: Parts of the network that stay in float32.
        calibration: Images for int8 and fp16, as for ``export_onnx``.
        activations: For int8, as for ``export_onnx``.
        shape: The only (N, H, W) that the graph takes.
        data: Labeled images in VOC layout, on which these claims and others are scored.
        split: Which list of data.
        max_pixels: Pixels of one batch in the comparison at most.
        on_picture: Called with (images done, images in all) of the held-out split and of data.

    Returns:
        What was found out and measured.

    Raises:
        ArtifactError: The source cannot be read or adopted, or not in this precision.
        DataError: A label map or an image is broken.
        MissingExtraError: A package is missing that the source needs.
        TypeError: An argument is of another type.
        ValueError: Something must be said about the network, or what is said is wrong.
        VerifyError: The result does not compute what the source computes; no file is left.
    """
    out = check_path("adopt: out", out)
    source = source if isinstance(source, str) else check_path("adopt: source", source)
    claims = Claims() if claims is None else claims
    check_type("adopt: claims", claims, Claims)
    check_type("adopt: split", split, str)
    max_pixels = check_int("adopt: max_pixels", max_pixels, 1, 2**63 - 1)
    if head is not None:
        check_choice("--head", head, get_args(Head))
    check_choice("--precision", precision, get_args(Precision))
    check_choice("--activations", activations, get_args(Activations))
    check_names("--keep-fp32", keep_fp32)
    _check_shape(shape)
    if is_weights(out):
        _refuse_graph_options(head, precision, shape, calibration, keep_fp32)
    else:
        check_out(out)
    typing = open_typing(precision, keep_fp32, calibration, activations)
    _refuse_itself(source, out)
    known = understand(source, claims, shape)
    head = _head(head, known.facts)
    trial = None if data is None else _tried(known, data, split, on_picture)
    with _subject(known) as subject:
        if is_weights(out):
            spec, verified = write_weights(known, subject, out, max_pixels=max_pixels)
        else:
            core, sha256 = _core(known, head), known.opened.sha256
            check_precision(core, precision, keep_fp32)
            spec = head_spec(
                known.spec, head, sha256=sha256, precision=precision, shape=shape, core=core
            )
            with operators_named(precision):
                verified = write_verified(
                    core,
                    spec,
                    subject,
                    out,
                    typing=typing,
                    calibration=calibration,
                    tolerance=PRECISIONS[precision].tolerance,
                    max_pixels=max_pixels,
                    on_picture=on_picture,
                ).verify
    lines = (*known.lines(), *([trial.line()] if trial else []))
    return AdoptReport(facts=lines, spec=spec, verify=verified, trial=trial)


def _check_shape(shape: object) -> None:
    if shape is None:
        return
    check_type("--shape", shape, tuple)
    if not isinstance(shape, tuple) or len(shape) != 3:
        raise BadValueError(
            message("--shape", "must be (N, H, W)", repr(shape), "use (1, 320, 480)")
        )
    for side in shape:
        check_int("--shape", side, 1, MAX_SIDE)


def _refuse_itself(source: str | Path, out: Path) -> None:
    """Refuse to write over the source."""
    path = Path(source)
    if path.exists() and out.exists() and path.samefile(out):
        rule, remedy = "must be another file than the source", "name it model.onnx"
        raise BadValueError(message("-o", rule, str(out), remedy))


def _core(known: Understood, head: Head) -> Core:
    """Make the graph, with the last layer where the head needs it: to find it takes a run."""
    core, facts = known.core(), known.facts
    if head != "scores":
        return core
    return with_resize(core, least=(facts.batch or 1, *facts.smallest), fixed=facts.fixed)


def _subject(known: Understood) -> Subject:
    opened = known.opened
    return Subject(known.backend(), name=opened.name, kind=opened.kind, sha256=opened.sha256)


def _tried(
    known: Understood,
    data: Path,
    split: str,
    on_picture: Callable[[int, int], None] | None,
) -> Trial:
    """Score the claims and others, and warn where another is better."""
    with known.backend() as backend:
        trial = try_claims(backend, known.normal, data, split=split, on_picture=on_picture)
    for line in trial.doubts():
        _log.warning("%s", line)
    return trial


def _refuse_graph_options(
    head: Head | None,
    precision: Precision,
    shape: Shape | None,
    calibration: Path | None,
    keep_fp32: Sequence[str],
) -> None:
    """Refuse what belongs to a graph where weights are written."""
    for option, given in (
        ("--head", head is not None),
        ("--precision", precision != "fp32"),
        ("--shape", shape is not None),
        ("--calibration", calibration is not None),
        ("--keep-fp32", bool(keep_fp32)),
    ):
        if given:
            rule, got = "goes with an .onnx file", "a file of weights"
            raise BadValueError(message(option, rule, got, "leave it out, or write model.onnx"))


def _head(wanted: Head | None, facts: Facts) -> Head:
    """Choose a head that the network can have."""
    if facts.gives_labels:
        if wanted not in (None, "labels"):
            rule = "a network that takes the argmax itself gives labels only"
            remedy = "use --head labels, or export the network without its argmax"
            raise BadValueError(message("--head", rule, wanted, remedy))
        return "labels"
    if wanted == "scene" and (facts.fixed or facts.batch is not None):
        rule = "scene needs a network for any size and batch"
        height, width = facts.smallest
        got = f"one for {f'{height}x{width}' if facts.fixed else f'a batch of {facts.batch}'} only"
        remedy = "use --head labels, or export the network with dynamic sizes and batch"
        raise BadValueError(message("--head", rule, got, remedy))
    return wanted or "logits"
