"""Checkpoint to ONNX: typed, verified against PyTorch, with the ModelSpec inside."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Final, get_args

import torch

from fcnkit.errors import BadValueError, message
from fcnkit.export.build import Typing, build_graph, build_typed, head_spec, trace_core
from fcnkit.export.calibration import (
    Calibration,
    model_inputs,
    open_calibration,
    sized_pictures,
)
from fcnkit.export.choices import Activations
from fcnkit.export.half_range import (
    HalfRange,
    check_half_range,
    measure_half_range,
    range_inputs,
)
from fcnkit.export.heads import Core
from fcnkit.export.int8_search import Int8Search, search_int8
from fcnkit.export.other_library import differing_backends
from fcnkit.export.saving import save_model
from fcnkit.export.shapes import MAX_PIXELS, bounded
from fcnkit.export.speed import measure_speedup
from fcnkit.export.subject import Subject, open_subject, verify_path
from fcnkit.export.trace import LOWEST_OPSET, OPSET
from fcnkit.export.verification import Pictures, VerifyReport, require, verify
from fcnkit.export.verify_data import ComparisonData
from fcnkit.runtime.artifacts.onnx_file import DIFFERS_KEY, KEPT_KEY
from fcnkit.runtime.artifacts.precisions import (
    PRECISIONS,
    Precision,
    Tolerance,
    precisions_taking,
)
from fcnkit.runtime.artifacts.spec import Head, LastLayer, ModelSpec, Shape, Tta
from fcnkit.runtime.backends.request import BackendRequest
from fcnkit.runtime.checks import check_choice, check_flag, check_int, check_names, check_type
from fcnkit.runtime.files import atomic_path, atomic_write, sha256_of
from fcnkit.train.backend import TorchBackend
from fcnkit.train.checkpoint import load_model
from fcnkit.train.models import SegmentationNet

__all__ = [
    "ExportReport",
    "check_out",
    "export_onnx",
    "open_typing",
    "write_verified",
]

MAX_MIOU_DROP: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written."""

    verify: VerifyReport
    """The comparison with PyTorch; also written beside the model."""
    speedup: float | None
    """How many times as fast as float32 the model is here; None for float32 itself."""
    calibration: tuple[str, ...]
    """Names of the pictures that int8 was calibrated on, or fp16's values were measured on."""
    half_range: HalfRange | None
    """The largest value of every tensor in float16; None for other precisions."""
    last_layer: LastLayer | None = None
    """What the runtime computes, for head ``scores``."""
    search: Int8Search | None = None
    """How int8 was chosen, where it was searched for."""

    def summary(self) -> str:
        """Return the figures as one line."""
        text = self.verify.summary()
        if self.verify.data:
            text += f"; {self.verify.data.summary()}"
        return text


def export_onnx(
    checkpoint: Path,
    out: Path,
    *,
    head: Head | None = None,
    precision: Precision = "fp32",
    keep_fp32: Sequence[str] = (),
    calibration: Path | None = None,
    activations: Activations = "uint8",
    max_miou_drop: float | None = None,
    search: bool = False,
    shape: Shape | None = None,
    confidence: bool = False,
    tta: Tta | None = None,
    opset: int = OPSET,
    max_pixels: int = MAX_PIXELS,
    on_picture: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write a checkpoint's network as ONNX and run it against PyTorch before the file appears.

    Args:
        checkpoint: A best.pt or last.pt.
        out: The .onnx file; its folder exists. ``out`` with ``.verify.json`` is written beside it.
        head: What the graph computes, see the ModelSpec; by default ``scores`` where the network
            has them, else ``logits``.
        precision: What it computes in; inputs and outputs keep their types.
        keep_fp32: Modules, by their names in the state dict, that stay in float32.
        calibration: For int8 and fp16: a folder in VOC layout or of pictures, at least 16 of
            them. int8 takes the ranges of its activations from them; fp16 needs none, but the
            largest values are measured on them too. With a labeled second split, that is used to
            measure what the precision costs.
        activations: For int8: see ``Activations`` in export/choices.py.
        max_miou_drop: Largest loss of mean IoU on that split; by default the tolerance's, 0.01
            for int8 and 0.005 for fp16.
        search: For int8: compare ways to choose ranges, correct biases where that helps, and keep
            the layers that cost most in float32 until max_miou_drop holds, see search_int8.
        shape: The only (N, H, W) that the graph takes, for runtimes without free sizes; by default
            it takes any of the head's range.
        confidence: For the heads ``labels`` and ``scene``: whether a second uint8 output gives 255
            times the probability of each label.
        tta: ``flip``, for the head ``scene``: the graph takes the mean of the logits of each tile
            and of its mirror image, in twice the time.
        opset: Version of ONNX's operator set, lower for older libraries: 18 to 20.
        max_pixels: Pixels of one batch in the comparison at most.
        on_picture: Called with (pictures done, pictures in all) of that split.

    Returns:
        What was measured; the comparison is also in the file's spec and beside it.

    Raises:
        ArtifactError: The checkpoint is none, or a weight does not fit the precision.
        DataError: The folder to calibrate on has too few or broken pictures.
        TypeError: keep_fp32, max_miou_drop or max_pixels is of another type.
        ValueError: out does not end in .onnx, its folder does not exist, an option is none of its
            values or does not fit the precision, or a module to keep is not there.
        VerifyError: The exported model does not compute what PyTorch computes, or float16 does
            not hold its activations; no file is left.
    """
    check_out(out)
    if head is not None:
        check_choice("--head", head, get_args(Head))
    check_choice("--precision", precision, get_args(Precision))
    check_choice("--activations", activations, get_args(Activations))
    if tta is not None:
        check_choice("--tta", tta, get_args(Tta))
    opset = check_int("--opset", opset, LOWEST_OPSET, OPSET)
    max_pixels = check_int("export_onnx: max_pixels", max_pixels, 1, 2**63 - 1)
    check_names("--keep-fp32", keep_fp32)
    if max_miou_drop is not None:
        check_type("--max-miou-drop", max_miou_drop, Real)
        if not max_miou_drop <= 1:  # refuses NaN too, which every comparison would pass
            rule = "must be a share, at most 1"
            raise BadValueError(message("--max-miou-drop", rule, max_miou_drop, "try 0.01"))
    typing = open_typing(
        precision,
        keep_fp32,
        calibration,
        activations,
        max_miou_drop,
        search=check_flag("--search", search),
    )
    tolerance = PRECISIONS[precision].tolerance
    if max_miou_drop is not None:
        tolerance = replace(tolerance, max_miou_drop=max_miou_drop)
    net, loaded = load_model(checkpoint)
    sha256 = sha256_of(checkpoint)
    core = trace_core(net, loaded.spec.num_classes, opset=opset)
    head = head or ("logits" if core.last_layer is None else "scores")
    spec = head_spec(
        loaded.spec,
        head,
        sha256=sha256,
        precision=precision,
        shape=shape,
        core=core,
        confidence=check_flag("--confidence", confidence),
        tta=tta,
    )
    with _in_memory(net, loaded.spec, checkpoint, spec.source.sha256) as source:
        return write_verified(
            core,
            spec,
            source,
            out,
            typing=typing,
            calibration=calibration,
            tolerance=tolerance,
            max_pixels=max_pixels,
            on_picture=on_picture,
        )


def write_verified(
    core: Core,
    spec: ModelSpec,
    source: Subject,
    out: Path,
    *,
    typing: Typing,
    calibration: Path | None,
    tolerance: Tolerance,
    max_pixels: int = MAX_PIXELS,
    on_picture: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Complete a core to the graph of a head, and write it where it agrees with its source.

    Args:
        core: The network.
        spec: What the file is to promise.
        source: Runs the network as it was given.
        out: The .onnx file.
        typing: How the precision is reached.
        calibration: The folder of typing's pictures.
        tolerance: How far both may differ.
        max_pixels: As for export_onnx.
        on_picture: As for export_onnx.

    Returns:
        As export_onnx.

    Raises:
        As export_onnx.
    """
    precision = spec.precision
    data = _held_out(typing.calibration, calibration)
    found = None
    if typing.search:
        most = tolerance.max_miou_drop
        found = search_int8(core, spec, source, typing=typing, data=data, max_miou_drop=most)
        typing = found.typing
    model, kept = build_graph(core, spec, typing)
    half_range = _half_range(core, spec, typing, max_pixels=max_pixels, where=out.name)
    pictures = typing.calibration.names if typing.calibration else ()
    notes = {KEPT_KEY: ", ".join(kept), "calibration": ", ".join(pictures)}
    with atomic_path(out) as temporary, tempfile.TemporaryDirectory() as folder:
        save_model(model, spec, temporary, notes=notes)
        twin = _float_twin(core, spec, Path(folder))
        with open_subject(temporary, BackendRequest(backend="onnxruntime")) as exported:
            if twin:
                _require_twin(source, twin, name=exported.name, max_pixels=max_pixels)
            report = verify(
                source,
                exported,
                data=data,
                tolerance=tolerance,
                pictures=_pictures(spec, typing),
                max_pixels=max_pixels,
                on_picture=on_picture,
            )
        require(report, remedy=PRECISIONS[precision].remedy)
        notes[DIFFERS_KEY] = ", ".join(differing_backends(temporary, spec, name=out.name))
        speedup = measure_speedup(twin, temporary) if twin else None
        save_model(model, spec.with_parity(report.summary()), temporary, notes=notes)
        report = replace(report, b={**report.b, "sha256": sha256_of(temporary)})
        more: dict[str, Any] = {"speedup_over_fp32": speedup, "calibration": list(pictures)}
        if half_range:
            more["half_range"] = asdict(half_range)
        if found:
            more["search"] = found.to_dict()
        atomic_write(verify_path(out), report.to_json(**more).encode())
    return ExportReport(
        verify=report,
        speedup=speedup,
        calibration=pictures,
        half_range=half_range,
        last_layer=spec.last_layer,
        search=found,
    )


def check_out(out: Path) -> None:
    """Refuse a file name that is not ``FOLDER/NAME.onnx`` in a folder that exists."""
    if out.suffix != ".onnx":
        raise BadValueError(message("-o", "must end in .onnx", str(out), "name it model.onnx"))
    if not out.parent.is_dir():
        rule = "its folder must exist"
        raise BadValueError(message("-o", rule, str(out.parent), "create it first"))


def open_typing(
    precision: Precision,
    keep_fp32: Sequence[str],
    folder: Path | None,
    activations: Activations,
    max_miou_drop: float | None = None,
    *,
    search: bool = False,
) -> Typing:
    """Check the options that a precision takes, and open its pictures."""
    if PRECISIONS[precision].quantized and folder is None:
        rule = f"{precision} needs pictures to find the ranges of activations"
        remedy = "give the training data with --calibration DATA"
        raise BadValueError(message("--precision", rule, "no --calibration", remedy))
    for option, given in (
        ("--calibration", folder is not None),
        ("--keep-fp32", bool(keep_fp32)),
        ("--activations", activations != "uint8"),
        ("--max-miou-drop", max_miou_drop is not None),
        ("--search", search),
    ):
        if given and option not in PRECISIONS[precision].takes:
            rule = f"goes with --precision {' or '.join(precisions_taking(option))}"
            raise BadValueError(message(option, rule, precision, "leave it out"))
    opened = open_calibration(folder) if folder else None
    return Typing(
        keep_fp32=tuple(keep_fp32), calibration=opened, activations=activations, search=search
    )


def _in_memory(
    net: SegmentationNet, spec: ModelSpec, checkpoint: Path, sha256: str | None
) -> Subject:
    backend = TorchBackend(net, spec, device=torch.device("cpu"))
    return Subject(backend, name=checkpoint.name, kind="checkpoint", sha256=sha256)


def _held_out(opened: Calibration | None, root: Path | None) -> ComparisonData | None:
    if opened is None or root is None or opened.held_out is None:
        return None
    return ComparisonData(root=root, pictures=(), truth=opened.held_out)


def _pictures(spec: ModelSpec, typing: Typing) -> Pictures | None:
    """Return what a quantized model is compared on, its own pictures; None for noise."""
    if PRECISIONS[spec.precision].quantized and typing.calibration:
        return sized_pictures(typing.calibration, spec)
    return None


def _half_range(
    core: Core, spec: ModelSpec, typing: Typing, *, max_pixels: int, where: str
) -> HalfRange | None:
    """Refuse float16 where it does not hold the activations; None for other precisions."""
    if spec.precision != "fp16":
        return None
    plain, half, kept = build_typed(core, spec, typing)
    shape = bounded((1, *spec.shapes.opt[1:]), spec.shapes.min, max_pixels, multiple=core.multiple)
    pictures = model_inputs(typing.calibration, spec) if typing.calibration else ()
    names = typing.calibration.names if typing.calibration else ()
    inputs = range_inputs(spec.input, spec.head, shape, pictures)
    found = measure_half_range(plain, half, inputs, pictures=names)
    check_half_range(found, plain, kept, where=where)
    return found


def _float_twin(core: Core, spec: ModelSpec, folder: Path) -> Path | None:
    """Write the same head in float32; None if the model is float32 already."""
    if spec.precision == "fp32":
        return None
    plain = replace(spec, precision="fp32")
    path = folder / "fp32.onnx"
    save_model(build_graph(core, plain)[0], plain, path)
    return path


def _require_twin(source: Subject, twin: Path, *, name: str, max_pixels: int) -> None:
    """Refuse a head that is wrong in float32 already.

    The rounding of 8 or 11 bits hides faults of the graph, as large as its tolerance is.
    """
    with open_subject(twin) as plain:
        plain.name = f"{name} in fp32"
        require(verify(source, plain, max_pixels=max_pixels), remedy=PRECISIONS["fp32"].remedy)
