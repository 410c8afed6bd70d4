"""Decoding JPEG: Pillow in threads and processes, and NVIDIA's nvJPEG through torchvision."""

from __future__ import annotations

import io
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.gpu.context import Context
from benchmarks.gpu.networks import checkpoint, pictures
from benchmarks.gpu.sessions import graph_of


def jpeg(context: Context) -> None:
    """Measure decoders alone, and nvJPEG in front of the network with PNG files behind it."""
    count = 16 if context.dry else 2000
    data = [path.read_bytes() for path in pictures(context.folder, count)]
    spawn = multiprocessing.get_context("spawn")
    pools: tuple[tuple[str, Callable[[int], Executor]], ...] = (
        ("threads", ThreadPoolExecutor),
        ("processes", lambda workers: ProcessPoolExecutor(workers, mp_context=spawn)),
    )
    for kind, pool in pools:
        for workers in (2,) if context.dry else (8, 16):
            key = f"Pillow, {workers} {kind}"
            context.attempt(key, partial(_pooled, pool, workers, data))
    if context.dry:
        return
    for batch in (8, 32, 128):
        context.attempt(f"nvJPEG, batch {batch}", partial(_decoded, data, batch))
    context.attempt("nvJPEG against Pillow", lambda: _gap(data[0]))
    context.attempt("nvJPEG, fp16 network, PNG files", lambda: _whole(context, data))


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode with Pillow, (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _size(data: bytes) -> int:
    return decode(data).size


def _pooled(pool: Callable[[int], Executor], workers: int, data: list[bytes]) -> dict[str, float]:
    with pool(workers) as executor:
        list(executor.map(_size, data[: 4 * workers], chunksize=4))  # processes start
        start = time.perf_counter()
        list(executor.map(_size, data, chunksize=16))
        return {"images_per_second": len(data) / (time.perf_counter() - start)}


def _on_gpu(data: list[bytes]) -> Any:
    """Decode with nvJPEG: tensors (3, H, W) uint8."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    raw = [torch.frombuffer(bytearray(item), dtype=torch.uint8) for item in data]
    return decode_jpeg(raw, device="cuda", mode=ImageReadMode.RGB)


def _decoded(data: list[bytes], batch: int) -> dict[str, float]:
    import torch

    def run(items: list[bytes]) -> None:
        for start in range(0, len(items), batch):
            _on_gpu(items[start : start + batch])
        torch.cuda.synchronize()

    run(data[: 4 * batch])
    start = time.perf_counter()
    run(data)
    return {"images_per_second": len(data) / (time.perf_counter() - start)}


def _gap(data: bytes) -> dict[str, float]:
    """How far nvJPEG's pixels are from libjpeg-turbo's, of 255."""
    theirs = _on_gpu([data])[0].cpu().numpy().transpose(1, 2, 0)
    gap = np.abs(theirs.astype(int) - decode(data))
    return {"largest": int(gap.max()), "mean": float(gap.mean())}


def _whole(context: Context, data: list[bytes], batch: int = 32) -> dict[str, float]:
    """JPEG bytes to label PNGs: nvJPEG, a CUDA graph in fp16, and threads that write."""
    import torch

    from fcnkit.train.checkpoint import load_model

    net = load_model(checkpoint(context.folder))[0].eval().cuda().half()
    net = net.to(memory_format=torch.channels_last)
    height, width = context.sides
    images = torch.zeros(batch, 3, height, width, device="cuda", dtype=torch.float16)
    images = images.to(memory_format=torch.channels_last)
    out = context.folder / "png"
    out.mkdir(exist_ok=True)

    def save(number: int, labels_hw: NDArray[np.uint8]) -> None:
        picture = Image.fromarray(labels_hw[:360, :480])
        picture.putpalette(list(range(256)) * 3)
        picture.save(out / f"{number}.png", compress_level=1)

    whole = len(data) // batch * batch
    with torch.inference_mode(), ThreadPoolExecutor(12) as pool:
        run = graph_of(lambda: net(images).argmax(1).to(torch.uint8), cuda=True)
        _on_gpu(data[:batch])
        start, written = time.perf_counter(), []
        for first in range(0, whole, batch):
            decoded = torch.stack(_on_gpu(data[first : first + batch]))
            images[:, :, :360].copy_(decoded.half().div_(255))
            labels = run().cpu().numpy()
            written += [pool.submit(save, first + i, item) for i, item in enumerate(labels)]
        for future in written:
            future.result()
        return {"images_per_second": whole / (time.perf_counter() - start)}
