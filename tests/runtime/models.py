"""Tiny real networks in all head forms, as fcnkit export writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fcnkit.runtime.artifacts.last_layer import BIAS_NAME, WEIGHT_NAME, LastLayerWeights
from fcnkit.runtime.artifacts.spec import (
    FORMAT,
    METADATA_KEY,
    Border,
    Form,
    Head,
    InputSpec,
    ModelSpec,
    OutputSpec,
    Shape,
    ShapeRange,
    SourceSpec,
)
from fcnkit.runtime.backends.base import BackendInfo
from fcnkit.runtime.backends.registry import Device

if TYPE_CHECKING:
    import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CLASSES = ("background", "sky", "tree", "road")
PALETTE = ((0, 0, 0), (70, 130, 180), (107, 142, 35), (128, 64, 128))
OPSET = 18


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A 5x5 convolution from 3 to 4 channels and its bias."""
    random = np.random.default_rng(7)
    kernel = random.normal(0, 0.2, (len(CLASSES), 3, 5, 5)).astype(np.float32)
    return kernel, random.normal(0, 0.1, len(CLASSES)).astype(np.float32)


def conv5() -> Callable[[torch.Tensor], torch.Tensor]:
    """The same network in PyTorch: from a normalized batch to logits."""
    import torch

    kernel, bias = (torch.from_numpy(array) for array in weights())
    return lambda batch: torch.nn.functional.conv2d(batch, kernel, bias, padding=2)


STRIDE = 8


def score_weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An 8x8 convolution with stride 8 from 3 to 4 channels and its bias: head ``scores``."""
    random = np.random.default_rng(8)
    kernel = random.normal(0, 0.1, (len(CLASSES), 3, STRIDE, STRIDE)).astype(np.float32)
    return kernel, random.normal(0, 0.1, len(CLASSES)).astype(np.float32)


def make_layer(border: Border = "zero", form: Form = "dense") -> LastLayerWeights:
    """A last layer near to bilinear, as a trained one is."""
    random = np.random.default_rng(9)
    ramp = 1 - np.abs(np.arange(2 * STRIDE) - (STRIDE - 0.5)) / STRIDE
    shape = (len(CLASSES),) * (2 if form == "dense" else 1) + (2 * STRIDE,) * 2
    weight = random.normal(0, 0.05, shape)
    weight[np.diag_indices(len(CLASSES)) if form == "dense" else slice(None)] += np.outer(
        ramp, ramp
    )
    bias = random.normal(0, 0.1, len(CLASSES)).astype(np.float32)
    return LastLayerWeights(weight=weight.astype(np.float32), bias=bias, border=border)


def make_info(device: Device = "cpu") -> BackendInfo:
    """What a backend without a library says of itself."""
    return BackendInfo(
        library="none", version="1.0", device=device, device_name="x", threads=1, precision="fp32"
    )


def make_spec(
    head: Head,
    *,
    low: Shape = (1, 32, 32),
    high: Shape | None = None,
    multiple: int | None = None,
    layer: LastLayerWeights | None = None,
    confidence: bool = False,
) -> ModelSpec:
    floats = head in ("logits", "scores")
    high = high or ((1, 2048, 2048) if head == "scene" else (16, 2048, 2048))
    return ModelSpec(
        format=FORMAT,
        architecture="conv5",
        head=head,
        precision="fp32",
        classes=CLASSES,
        palette=PALETTE,
        ignore_index=255,
        input=InputSpec(
            name="image",
            layout="NCHW" if floats else "NHWC",
            dtype="float32" if floats else "uint8",
            color="RGB",
            mean=MEAN,
            std=STD,
            multiple=multiple or (1 if head == "scene" else 32),
        ),
        output=OutputSpec(
            name=head if floats else "labels",
            layout="NCHW" if floats else "NHW",
            dtype="float32" if floats else "uint8",
        ),
        shapes=ShapeRange(min=low, opt=low, max=high),
        source=SourceSpec(sha256="0" * 64, parity=None),
        versions={"fcnkit": "0.1.0"},
        last_layer=(layer or make_layer()).described() if head == "scores" else None,
        confidence=OutputSpec(name="confidence", layout="NHW", dtype="uint8")
        if confidence
        else None,
    )


def noise_batch(spec: ModelSpec, shape: Shape) -> NDArray[Any]:
    """A batch of fixed noise of shape (N, H, W) in the form that a model takes."""
    count, height, width = shape
    random = np.random.default_rng(0)
    if spec.input.dtype == "float32":
        return random.standard_normal((count, 3, height, width), np.float32)
    return random.integers(0, 256, (count, height, width, 3), np.uint8)


def write_model(
    path: Path,
    spec: ModelSpec,
    *,
    metadata: dict[str, str] | None = None,
    dims: tuple[int | str, int | str, int | str] | None = None,
    output_name: str | None = None,
    layer: LastLayerWeights | None = None,
) -> Path:
    """Write the network with the head that the spec names.

    Args:
        path: Where.
        spec: What goes into the metadata, unless metadata is given.
        metadata: The whole metadata instead.
        dims: Declared (N, H, W), symbolic by default.
        output_name: Another name than the spec's.
        layer: For the head scores: the weights to store; those of ``make_layer`` by default.
    """
    free = ("N", "H", "W") if spec.head == "scene" else ("N", "32*h", "32*w")
    batch, height, width = dims or ((1, *free[1:]) if spec.head == "scene" else free)
    kernel, bias = weights()
    tensors = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")]
    out = output_name or spec.output.name
    if spec.head == "logits":
        nodes = [helper.make_node("Conv", ["image", "kernel", "bias"], [out], pads=[2] * 4)]
        image = _info("image", TensorProto.FLOAT, [batch, 3, height, width])
        result = _info(out, TensorProto.FLOAT, [batch, len(CLASSES), height, width])
    elif spec.head == "scores":
        layer = layer or make_layer()
        named = zip(("kernel", "bias"), score_weights(), strict=True)
        tensors = [numpy_helper.from_array(values, name) for name, values in named]
        tensors += [
            numpy_helper.from_array(layer.weight, WEIGHT_NAME),
            numpy_helper.from_array(layer.bias, BIAS_NAME),
        ]
        strides = {"strides": [STRIDE] * 2}
        nodes = [helper.make_node("Conv", ["image", "kernel", "bias"], [out], **strides)]
        image = _info("image", TensorProto.FLOAT, [batch, 3, height, width])
        sides: list[int | str] = [
            side // STRIDE if isinstance(side, int) else f"4*{axis}"
            for side, axis in ((height, "h"), (width, "w"))
        ]
        result = _info(out, TensorProto.FLOAT, [batch, len(CLASSES), *sides])
    else:
        tensors += [
            numpy_helper.from_array(np.array(MEAN, np.float32).reshape(1, 3, 1, 1) * 255, "mean"),
            numpy_helper.from_array(np.array(STD, np.float32).reshape(1, 3, 1, 1) * 255, "std"),
        ]
        nodes = [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["nchw"], perm=[0, 3, 1, 2]),
            helper.make_node("Sub", ["nchw", "mean"], ["centered"]),
            helper.make_node("Div", ["centered", "std"], ["normal"]),
            helper.make_node("Conv", ["normal", "kernel", "bias"], ["logits"], pads=[2] * 4),
            helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
            helper.make_node("Cast", ["index"], [out], to=TensorProto.UINT8),
        ]
        image = _info("image", TensorProto.UINT8, [batch, height, width, 3])
        result = _info(out, TensorProto.UINT8, [batch, height, width])
    results = [result]
    if spec.confidence is not None:
        # Another way than the export's, which sums exponentials.
        tensors += [
            numpy_helper.from_array(np.array(value, dtype), name)
            for name, value, dtype in (("one", [1], np.int64), ("most", 255, np.float32))
        ]
        nodes += [
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("ReduceMax", ["probabilities", "one"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", "most"], ["scaled"]),
            helper.make_node("Round", ["scaled"], ["rounded"]),
            helper.make_node("Cast", ["rounded"], ["confidence"], to=TensorProto.UINT8),
        ]
        results.append(_info("confidence", TensorProto.UINT8, [batch, height, width]))
    graph = helper.make_graph(nodes, "conv5", [image], results, tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10, producer_name="tests"
    )
    onnx.checker.check_model(model)
    for key, value in ({METADATA_KEY: spec.to_json()} if metadata is None else metadata).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, path)
    return path


_MIDDLE = """
middle (float[tiles, h, w, 3] tiles) => (float[tiles, 4, h, w] logits) {
  planes = Transpose <perm = [0, 3, 1, 2]> (tiles)
  centered = Sub (planes, mean)
  normal = Div (centered, std)
  logits = Conv <pads = [2, 2, 2, 2]> (normal, kernel, bias)
}
"""


def write_scene(path: Path, *, confidence: bool = False) -> Path:
    """Write the network with head ``scene`` as exports have it: cut, joined, averaged."""
    from fcnkit.export.scene import wrap_scene

    middle = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {OPSET}]>{_MIDDLE}')
    kernel, bias = weights()
    scale = {"mean": MEAN, "std": STD}
    planes = {key: 255 * np.array(v, np.float32).reshape(1, 3, 1, 1) for key, v in scale.items()}
    for name, value in {"kernel": kernel, "bias": bias, **planes}.items():
        middle.graph.initializer.append(numpy_helper.from_array(value, name))
    model = wrap_scene(middle, confidence=confidence)
    spec = make_spec("scene", confidence=confidence)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return path


def _info(name: str, kind: int, dims: list[int | str]) -> Any:
    return helper.make_tensor_value_info(name, kind, dims)
