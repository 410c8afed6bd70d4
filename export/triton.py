"""A repository for NVIDIA Triton Inference Server: the model, and what the server must know of it.

Only text is written here. The format is Triton's ``model_config.proto``, a message ModelConfig in
protobuf's text form.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from fcnkit.errors import ArtifactError, BadValueError, message
from fcnkit.runtime.artifacts.description import kind_of
from fcnkit.runtime.artifacts.engine_file import read_engine_file, sidecar_path
from fcnkit.runtime.artifacts.onnx_file import read_onnx_file
from fcnkit.runtime.artifacts.spec import InputSpec, ModelSpec, OutputSpec, Shape, ShapeRange
from fcnkit.runtime.checks import check_choice, check_int, check_type
from fcnkit.runtime.files import atomic_path, atomic_write

__all__ = ["Device", "TritonReport", "write_triton_repository"]

Device = Literal["auto", "cpu", "gpu"]

_TYPES: Final = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}


class TritonReport(NamedTuple):
    """What was written."""

    name: str
    """The name by which clients ask for the model."""
    folder: Path
    """The model's folder in the repository."""
    max_batch_size: int
    """0 where the server must not add a batch dimension."""


@dataclass(frozen=True, kw_only=True)
class _Model:
    """What the configuration needs to know of either kind of file."""

    backend: Literal["onnxruntime", "tensorrt"]
    spec: ModelSpec
    profiles: tuple[ShapeRange, ...]
    """Of an engine; an ONNX file has none."""

    @property
    def most(self) -> int:
        """Pictures that the server may join, whatever their sizes: one profile must take them."""
        legal = self.spec.shapes
        if not self.profiles:
            return legal.max[0]
        whole = (
            p.max[0] for p in self.profiles if p.min == legal.min and p.max[1:] == legal.max[1:]
        )
        return max(whole, default=1)

    @property
    def batches(self) -> bool:
        """Whether requests may be joined: any number from one picture up must be legal."""
        return self.spec.shapes.min[0] == 1 < self.most

    @property
    def file_name(self) -> str:
        return "model.onnx" if self.backend == "onnxruntime" else "model.plan"


def write_triton_repository(
    model: Path,
    out: Path,
    *,
    name: str | None = None,
    version: int = 1,
    device: Device = "auto",
    instances: int = 1,
    queue_delay: int = 1000,
) -> TritonReport:
    """Write a model and its configuration into a repository that Triton can be pointed at.

    Args:
        model: An .onnx file that fcnkit exported, or a TensorRT engine with its sidecar.
        out: The repository; made where it does not exist. The model becomes a folder in it.
        name: What clients call the model; the file's name without its suffix by default.
        version: The version's folder, which must not be there yet.
        device: Where instances of the model run; auto is a GPU where the server has one.
        instances: How many requests are computed at the same time per device.
        queue_delay: How many microseconds a request may wait for others to share a batch with.

    Returns:
        What was written.

    Raises:
        ArtifactError: The model is broken, has head ``scores``, or is an engine of TensorRT-RTX.
        TypeError: An option is of another type.
        ValueError: An option is out of range, the name is not fit for a folder, or the version is
            already there, or the model has another configuration there.
    """
    check_choice("--device", device, get_args(Device))
    check_type("--name", "" if name is None else name, str)
    read = _read(model)
    if read.spec.head == "scores":
        rule = "clients of a server need labels or logits"
        got = "head scores, whose last layer fcnkit's runtime computes"
        remedy = "export it again with --head labels or --head scene"
        raise ArtifactError(message(str(model), rule, got, remedy))
    most = 2**31 - 1  # int32 in the server's configuration
    version = check_int("--version", version, 1, most)
    instances = check_int("--instances", instances, 1, most)
    queue_delay = check_int("--queue-delay", queue_delay, 0, most)
    if read.backend == "tensorrt" and device == "cpu":
        rule = "an engine runs on a GPU only"
        raise BadValueError(message("--device", rule, "cpu", "give the ONNX file instead"))
    name = model.stem if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        rule = "a model's name must be letters, digits, '.', '_' and '-'"
        raise BadValueError(message("--name", rule, repr(name), "give a plainer one"))
    folder = out / name
    place = folder / str(version)
    if place.exists():
        remedy = f"remove it, or add a version with --version {version + 1}"
        raise BadValueError(message("-o", "must not hold this version yet", str(place), remedy))
    text = _config(read, name, device=device, instances=instances, queue_delay=queue_delay)
    config = folder / "config.pbtxt"
    if config.exists() and config.read_bytes() != text.encode():
        rule = "all versions of a model must have one configuration"
        remedy = "remove it if it may be replaced, or choose another --name"
        raise BadValueError(message("-o", rule, f"{config} of another model or edited", remedy))
    place.mkdir(parents=True)
    try:
        target = place / read.file_name
        with atomic_path(target) as temporary:
            shutil.copyfile(model, temporary)
        if read.backend == "tensorrt":
            shutil.copyfile(sidecar_path(model), sidecar_path(target))
        atomic_write(config, text.encode())
    except BaseException:
        shutil.rmtree(place)  # else the same command would be refused the next time
        raise
    return TritonReport(name=name, folder=folder, max_batch_size=_max_batch(read))


def _read(model: Path) -> _Model:
    if kind_of(model) != "engine":
        spec = read_onnx_file(model).spec(where=str(model))
        return _Model(backend="onnxruntime", spec=spec, profiles=())
    engine = read_engine_file(model)
    if engine.flavor != "tensorrt":
        rule = "Triton runs engines of ordinary TensorRT only"
        remedy = f"give the ONNX file that it was built from, {engine.sidecar['onnx']['name']}"
        raise ArtifactError(message(str(model), rule, f"one of {engine.library}", remedy))
    return _Model(backend="tensorrt", spec=engine.spec, profiles=engine.profiles)


def _max_batch(model: _Model) -> int:
    return model.most if model.batches else 0


def _config(model: _Model, name: str, *, device: Device, instances: int, queue_delay: int) -> str:
    """Word the whole configuration."""
    spec = model.spec
    platform = "onnxruntime_onnx" if model.backend == "onnxruntime" else "tensorrt_plan"
    lines = [
        f"name: {_quoted(name)}",
        f"platform: {_quoted(platform)}",
        f"max_batch_size: {_max_batch(model)}",
        *_block("input", _tensor(spec.input, model)),
        *(line for one in spec.outputs for line in _block("output", _tensor(one, model))),
        *_block("instance_group", _instance_group(model, device, instances)),
    ]
    if model.batches:
        lines += _block("dynamic_batching", [f"max_queue_delay_microseconds: {queue_delay}"])
    for shape in _warmup_shapes(model):
        lines += _block("model_warmup", _warmup(shape, model))
    for key, value in (("classes", ", ".join(spec.classes)), ("head", spec.head)):
        held = _block("value", [f"string_value: {_quoted(value)}"])
        lines += _block("parameters", [f"key: {_quoted(key)}", *held])
    return "\n".join(lines) + "\n"


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"{name} {{", *(f"  {line}" for line in lines), "}"]


def _quoted(text: str) -> str:
    """Quote as protobuf's text form does, which JSON's plain escapes agree with."""
    return json.dumps(text, ensure_ascii=False)


def _tensor(tensor: InputSpec | OutputSpec, model: _Model) -> list[str]:
    """Describe an input or output; the dimension that the server batches over is left out."""
    low, high = model.spec.shapes.min, model.spec.shapes.max
    batch, height, width = (a if a == b else -1 for a, b in zip(low, high, strict=True))
    channels = 3 if isinstance(tensor, InputSpec) else model.spec.num_classes
    sides = {"N": batch, "C": channels, "H": height, "W": width}
    axes = tensor.layout.removeprefix("N") if model.batches else tensor.layout
    return [
        f"name: {_quoted(tensor.name)}",
        f"data_type: {_TYPES[tensor.dtype]}",
        f"dims: [{', '.join(str(sides[axis]) for axis in axes)}]",
    ]


def _instance_group(model: _Model, device: Device, instances: int) -> list[str]:
    kind = "gpu" if model.backend == "tensorrt" else device
    lines = [f"count: {instances}", f"kind: KIND_{kind.upper()}"]
    if len(model.profiles) > 1:
        # Without this the server would use the first profile alone.
        lines += [f"profile: {_quoted(str(index))}" for index in range(len(model.profiles))]
    return lines


def _warmup_shapes(model: _Model) -> list[Shape]:
    """Return what to run before the first request: the typical shapes, and one picture of each."""
    ranges = model.profiles or (model.spec.shapes,)
    shapes = [shapes.opt for shapes in ranges]
    single = [(1, *shape[1:]) for shape in shapes] if model.batches else []
    legal = [s for s in single if any(r.min[0] == 1 for r in ranges if r.opt[1:] == s[1:])]
    return list(dict.fromkeys([*legal, *shapes]))


def _warmup(shape: Shape, model: _Model) -> list[str]:
    batch, height, width = shape
    sides = {"N": batch, "C": 3, "H": height, "W": width}
    layout = model.spec.input.layout
    axes = layout.removeprefix("N") if model.batches else layout
    value = [
        f"data_type: {_TYPES[model.spec.input.dtype]}",
        f"dims: [{', '.join(str(sides[axis]) for axis in axes)}]",
        "zero_data: true",
    ]
    inputs = [f"key: {_quoted(model.spec.input.name)}", *_block("value", value)]
    return [
        f"name: {_quoted('x'.join(map(str, shape)))}",
        f"batch_size: {batch if model.batches else 1}",
        *_block("inputs", inputs),
    ]
