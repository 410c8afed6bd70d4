"""What the exact sub-pixel form gains: head ``labels`` against the export that everybody writes.

    python -m benchmarks.export [--json FILE] [--threads N] [--rounds N] [--size HxW]

Both sides hold the same weights and turn a uint8 picture into labels in the graph. The plain side
is FCN-32s with nn.ConvTranspose2d, then ArgMax, exported by the same exporter. They run in turn,
with the same threads, and their labels are compared: on CPUs that have bfloat16, OpenVINO computes
in it by default, and the two sides then round differently. A third graph ends at the scores, before
any upsampling: what it takes, no form of the upsampling can save.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.utils
import onnxruntime
import openvino
import torch
from torch import Tensor, nn

from benchmarks.timing import alternate, median_ratio
from fcnkit.export.build import build_graph, head_spec, trace_core
from fcnkit.export.comparison_images import noise_pictures
from fcnkit.export.trace import trace
from fcnkit.runtime.artifacts.spec import InputSpec
from fcnkit.train.checkpoint import checkpoint_spec
from fcnkit.train.models import SubpixelConvTranspose2d, create_model

CLASSES = 21


class PlainLabels(nn.Module):
    """The network as the d2l.ai chapter writes it, between a plain normalization and the argmax."""

    def __init__(self, net: nn.Module, given: InputSpec) -> None:
        super().__init__()
        self.net = net
        mean, std = torch.tensor(given.mean), torch.tensor(given.std)
        self.scale = nn.Buffer((1 / (255 * std)).view(3, 1, 1))
        self.shift = nn.Buffer((-mean / std).view(3, 1, 1))

    def forward(self, image_nhwc: Tensor) -> Tensor:
        image_nchw = image_nhwc.to(torch.float32).permute(0, 3, 1, 2)
        return self.net(image_nchw * self.scale + self.shift).argmax(1).to(torch.uint8)


def plain_transposed(fast: SubpixelConvTranspose2d) -> nn.ConvTranspose2d:
    channels, out_channels, _, _ = fast.weight.shape
    stride = fast.stride
    plain = nn.ConvTranspose2d(channels, out_channels, 2 * stride, stride, stride // 2)
    plain.load_state_dict(fast.state_dict())
    return plain


def write_models(folder: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    net = create_model("fcn32s-resnet18", CLASSES).eval()
    names = tuple(f"class{i}" for i in range(CLASSES))
    spec = head_spec(
        checkpoint_spec("fcn32s-resnet18", names, ((0, 0, 0),) * CLASSES), "labels", sha256="0"
    )
    core = trace_core(net, CLASSES)
    labels, _ = build_graph(core, spec)
    onnx.save(labels, folder / "subpixel.onnx")
    scores = core.model.graph.node[-1].input[0]
    typed = onnx.shape_inference.infer_shapes(labels)
    trunk = onnx.utils.Extractor(typed).extract_model(["image"], [scores])
    onnx.save(trunk, folder / "trunk.onnx")
    net.transpose_conv = plain_transposed(net.transpose_conv)  # type: ignore[assignment]
    example = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    onnx.save(
        trace(PlainLabels(net, spec.input), example, "image", "labels"), folder / "plain.onnx"
    )
    return {name: folder / f"{name}.onnx" for name in ("plain", "subpixel", "trunk")}


def open_onnxruntime(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # The sessions take turns, and one that spins while it waits slows down the other.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def open_openvino(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda image: request.infer([image])[0]


def compare(size: tuple[int, int], threads: int, rounds: int) -> list[dict[str, Any]]:
    image = noise_pictures((1, *size))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_models(Path(folder))
        for library, opener in (("onnxruntime", open_onnxruntime), ("openvino", open_openvino)):
            runs = {name: opener(path, threads) for name, path in paths.items()}
            labels = {name: run(image).copy() for name, run in runs.items()}
            seconds = alternate(
                {name: lambda run=run: run(image) for name, run in runs.items()}, rounds=rounds
            )
            rows.append(
                {
                    "library": library,
                    "plain_ms": 1000 * statistics.median(seconds["plain"]),
                    "subpixel_ms": 1000 * statistics.median(seconds["subpixel"]),
                    "trunk_ms": 1000 * statistics.median(seconds["trunk"]),
                    "speedup": median_ratio(seconds["plain"], seconds["subpixel"]),
                    "largest_speedup": median_ratio(seconds["plain"], seconds["trunk"]),
                    "label_agreement": float((labels["plain"] == labels["subpixel"]).mean()),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--size", default="320x480")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    rows = compare((height, width), options.threads, options.rounds)
    print(f"FCN-32s ResNet-18, {CLASSES} classes, {options.size}, {options.threads} threads")
    for row in rows:
        print(
            f"{row['library']:12} plain {row['plain_ms']:7.1f} ms  "
            f"sub-pixel {row['subpixel_ms']:7.1f} ms  {row['speedup']:.2f}x  "
            f"(at most {row['largest_speedup']:.2f}x: scores alone {row['trunk_ms']:.1f} ms)  "
            f"same labels {100 * row['label_agreement']:.3f} %"
        )
    if options.json:
        facts = {"size": options.size, "threads": options.threads, "rows": rows}
        options.json.write_text(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
