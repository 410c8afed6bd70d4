"""The ways from picture files to label files, each as its own documentation writes it.

Each way is called with a list of pictures and a folder, and leaves a palette PNG per picture. All
hold the same trained weights, cover a picture by the same rule (grown by reflection to the next
multiples of the network, or averaged over the same two tiles), and use the same number of threads.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fcnkit.runtime import Segmenter
from fcnkit.runtime.artifacts.precisions import full_name
from fcnkit.runtime.artifacts.spec import ModelSpec
from fcnkit.runtime.pixels.palette import voc_palette
from fcnkit.runtime.predict.folder import find_jobs, predict_files

Work = Callable[[list[Path], Path], None]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One row of the table."""

    name: str
    engine: str
    """What runs the network; ways with the same one are compared with each other."""
    compute: str
    cover: str
    work: Work
    group: str
    """Letter of the peer, or ``fcnkit``."""


class Network:
    """The network as everybody has it, and what goes in and out of it."""

    def __init__(self, net: nn.Module | None, spec: ModelSpec) -> None:
        self._net, self.spec = net, spec
        palette = voc_palette()
        palette[: self.spec.num_classes] = self.spec.palette
        self.palette = palette.tobytes()

    @property
    def net(self) -> nn.Module:
        """The module; ways over an ONNX file do not ask for it."""
        assert self._net is not None
        return self._net

    def grown(self, image: Tensor) -> Tensor:
        """Grow (N, 3, H, W) to the next multiples, by reflection."""
        height, width = image.shape[2:]
        multiple = self.spec.input.multiple
        return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="reflect")

    def save(self, labels_hw: np.ndarray[Any, Any], out: Path, source: Path) -> None:
        picture = Image.fromarray(labels_hw.astype(np.uint8))
        picture.putpalette(self.palette)
        picture.save(out / f"{source.stem}.png")

    def normalized(self, path: Path) -> Tensor:
        """(1, 3, H, W), as torchvision's ToTensor and Normalize give it."""
        image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))) / 255
        mean, std = torch.tensor(self.spec.input.mean), torch.tensor(self.spec.input.std)
        return ((image - mean) / std).permute(2, 0, 1)[None]

    def normalized_array(self, path: Path) -> np.ndarray[Any, Any]:
        """(1, 3, H', W') float32 in numpy, grown to the next multiples."""
        image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        mean = np.array(self.spec.input.mean, np.float32)
        std = np.array(self.spec.input.std, np.float32)
        image = (image - mean) / std
        rows, columns = (-side % self.spec.input.multiple for side in image.shape[:2])
        image = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="reflect")
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def chapter(network: Network) -> Work:
    """d2l.ai, "Fully Convolutional Networks": predict(), one picture at a time."""

    @torch.no_grad()
    def work(pictures: list[Path], out: Path) -> None:
        for path in pictures:
            image = network.normalized(path)
            labels = network.net(network.grown(image)).argmax(dim=1)
            height, width = image.shape[2:]
            network.save(labels[0, :height, :width].numpy(), out, path)

    return work


def pytorch_compiled(network: Network) -> Work:
    return pytorch(network, compiled=True)


def pytorch(network: Network, *, compiled: bool = False) -> Work:
    """inference_mode, channels_last and, where asked, torch.compile."""
    net = network.net.to(memory_format=torch.channels_last)
    run = torch.compile(net) if compiled else net

    @torch.inference_mode()
    def work(pictures: list[Path], out: Path) -> None:
        for path in pictures:
            image = network.normalized(path)
            batch = network.grown(image).contiguous(memory_format=torch.channels_last)
            labels = run(batch).argmax(dim=1).to(torch.uint8)
            height, width = image.shape[2:]
            network.save(labels[0, :height, :width].numpy(), out, path)

    return work


def monai(network: Network) -> Work:
    """MONAI's sliding-window inference with the window that fits the picture."""
    from monai.inferers.utils import sliding_window_inference

    @torch.inference_mode()
    def work(pictures: list[Path], out: Path) -> None:
        for path in pictures:
            image = network.normalized(path)
            multiple = network.spec.input.multiple
            window = tuple(side // multiple * multiple for side in image.shape[2:])
            logits = sliding_window_inference(image, window, sw_batch_size=4, predictor=network.net)
            assert isinstance(logits, Tensor)
            network.save(logits.argmax(dim=1)[0].numpy(), out, path)

    return work


def argmax(logits: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Labels (H, W) of a session's logits; coarse ones are enlarged as their makers do it."""
    if logits.shape[2:] != size:
        enlarged = F.interpolate(torch.from_numpy(logits), size=size, mode="bilinear")
        logits = enlarged.numpy()
    labels: np.ndarray[Any, Any] = np.argmax(logits, axis=1)[0]
    return labels


def onnxruntime_script(
    network: Network, model: Path, threads: int, provider: str, options: dict[str, str]
) -> Work:
    """A tutorial's script: normalize in numpy, run, argmax in numpy."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), settings, providers=[(provider, options)])
    assert session.get_providers()[0] == provider
    name = session.get_inputs()[0].name

    def work(pictures: list[Path], out: Path) -> None:
        for path in pictures:
            with Image.open(path) as opened:
                width, height = opened.size
            batch = network.normalized_array(path)
            labels = argmax(session.run(None, {name: batch})[0], batch.shape[2:])
            network.save(labels[:height, :width], out, path)

    return work


def openvino_script(network: Network, model: Path, threads: int, precision: str | None) -> Work:
    """OpenVINO's Python API as its documentation writes it; its own precision unless told."""
    import openvino

    core = openvino.Core()
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision
    compiled = core.compile_model(core.read_model(model), "CPU", config)
    output = compiled.output(0)

    def work(pictures: list[Path], out: Path) -> None:
        for path in pictures:
            with Image.open(path) as opened:
                width, height = opened.size
            batch = network.normalized_array(path)
            labels = argmax(compiled([batch])[output], batch.shape[2:])
            network.save(labels[:height, :width], out, path)

    return work


def openvino_default(model: Path) -> str:
    """The precision that OpenVINO takes by itself on this processor."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU")
    return full_name(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def pytorch_cuda_graph(network: Network, size: tuple[int, int], *, tf32: bool) -> Work:
    """PyTorch on a GPU: one captured CUDA graph, replayed for each picture."""
    multiple = network.spec.input.multiple
    height, width = (-(-side // multiple) * multiple for side in size)
    net = network.net.cuda().to(memory_format=torch.channels_last)
    batch = torch.zeros(1, 3, height, width, device="cuda").contiguous(
        memory_format=torch.channels_last
    )
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    # The kernels that are captured keep the precision that is set while they are chosen.
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = tf32
    with torch.inference_mode():
        with torch.cuda.stream(side):
            for _ in range(3):
                net(batch).argmax(dim=1)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            labels = net(batch).argmax(dim=1).to(torch.uint8)
    for switch, held in zip(switches, before, strict=True):
        switch.allow_tf32 = held

    def work(pictures: list[Path], out: Path) -> None:
        for path in pictures:
            batch.copy_(network.grown(network.normalized(path)))
            graph.replay()
            network.save(labels[0, : size[0], : size[1]].cpu().numpy(), out, path)

    return work


def fcnkit_predict(segmenter: Segmenter) -> Work:
    """``fcnkit predict``."""

    def work(pictures: list[Path], out: Path) -> None:
        jobs = find_jobs(pictures, out)
        records = list(predict_files(segmenter, jobs, out, model_sha256=""))
        assert all(record.status == "done" for record in records), records

    return work


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
