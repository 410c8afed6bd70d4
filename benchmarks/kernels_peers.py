"""The other ways to do what the kernels do, each as fast as its library allows on one thread.

What a peer does not need to do for the comparison it does not do: inputs are prepared in its own
format outside the clock, and it writes into its own memory where its library can.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fcnkit.runtime.pixels.tiling import TilePlan


Peers: TypeAlias = "dict[str, Callable[[], object]]"

MISSING: list[str] = []


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        MISSING.append(name)
        return None


cv2 = _library("cv2")
torch = _library("torch")
torchvision_functional = _library("torchvision.transforms.functional")
monai_inferers = _library("monai.inferers")
if cv2:
    cv2.setNumThreads(1)
if torch:
    torch.set_num_threads(1)


def limit_seconds_call(kind: str, size: int) -> Callable[[], object]:
    """Return a call that takes as long as the memory needs.

    copy: a memcpy that reads and writes size bytes in all; read: a search through size bytes for
    one that is not there, which is the C library's fastest loop over memory.
    """
    if kind == "copy":
        source, target = np.ones(size // 2, np.uint8), np.ones(size // 2, np.uint8)
        return lambda: np.copyto(target, source)
    memory = np.ones(size, np.uint8)
    memchr = ctypes.CDLL(None).memchr
    memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    return lambda: memchr(memory.ctypes.data, 2, size)


def decode_peers(labels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Peers:
    rgb = np.empty((*labels.shape, 3), np.uint8)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    table[255] = (224, 224, 192)
    peers: Peers = {
        "palette[labels]": lambda: table[labels],
        "np.take": lambda: np.take(table, labels, axis=0, out=rgb, mode="clip"),
    }
    if cv2:
        planes = np.repeat(labels[..., None], 3, axis=2)
        peers["cv2.LUT"] = lambda: cv2.LUT(planes, table[None], dst=rgb)
    return peers


def _keys(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The d2l.ai chapter's own expression."""
    wide = rgb.astype("int32")
    keys: NDArray[np.int32] = (wide[:, :, 0] * 256 + wide[:, :, 1]) * 256 + wide[:, :, 2]
    return keys


def encode_peers(rgb: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Peers:
    colors = [*palette.tolist(), [224, 224, 192]]
    labels = [*range(len(palette)), 255]
    small = np.full(1 << 24, 255, np.uint8)
    wide = np.zeros(1 << 24, np.int64)
    for (red, green, blue), label in zip(colors, labels, strict=True):
        small[(red * 256 + green) * 256 + blue] = label
        wide[(red * 256 + green) * 256 + blue] = label
    peers: Peers = {"numpy uint8 table": lambda: small[_keys(rgb)]}
    if torch:
        chapter = torch.from_numpy(wide)
        peers["chapter's int64 table"] = lambda: chapter[torch.from_numpy(_keys(rgb))]
    else:
        peers["chapter's int64 table"] = lambda: wide[_keys(rgb)]
    return peers


def overlay_peers(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], palette: NDArray[np.uint8]
) -> Peers:
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette

    def floats() -> NDArray[np.uint8]:
        blend = image * np.float32(0.5) + table[labels] * np.float32(0.5)
        return np.where((labels == 255)[..., None], image, (blend + 0.5).astype(np.uint8))

    def integers() -> NDArray[np.uint8]:
        """The fastest found: tables of the weighted colors, sums in uint16, in place."""
        blend = image.astype(np.uint16)
        blend *= weights[labels][..., None]
        blend += np.take(weighted, labels, axis=0)
        blend >>= 8
        return blend.astype(np.uint8)

    weights = np.full(256, 128, np.uint16)
    weights[255] = 256
    weighted = table.astype(np.uint16) * 128 + 128
    weighted[255] = 0
    return {"numpy float": floats, "numpy integer": integers}


def gather_peers(image: NDArray[np.uint8], mean: list[float], std: list[float]) -> Peers:
    peers: Peers = {}
    scale = (1 / np.array(std) / 255).astype(np.float32)
    shift = (-np.array(mean) / np.array(std)).astype(np.float32)
    peers["numpy"] = lambda: np.ascontiguousarray((image * scale + shift).transpose(2, 0, 1))
    if cv2:
        center = tuple(255 * value for value in mean)
        peers["cv2 blobFromImage"] = lambda: cv2.dnn.blobFromImage(image, 1 / 57.0, mean=center)
    if torch:
        pixels = torch.from_numpy(image)
        t_mean, t_std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

        def normalize() -> object:
            planes = pixels.permute(2, 0, 1).contiguous().float().div_(255)
            return planes.sub_(t_mean).div_(t_std)

        peers["torch in place"] = normalize
    if torchvision_functional:
        to_tensor, standardize = torchvision_functional.to_tensor, torchvision_functional.normalize
        peers["torch normalize"] = lambda: standardize(to_tensor(image), mean, std)
    return peers


def argmax_peers(logits: NDArray[Any]) -> Peers:
    peers: Peers = {"np.argmax": lambda: np.argmax(logits, axis=1)}
    if torch:
        tensor = torch.from_numpy(logits)
        peers["torch argmax"] = lambda: tensor.argmax(dim=1)
    return peers


def stitch_peers(logits: NDArray[np.float32], plan: TilePlan) -> Peers:
    h, w = plan.tile
    count = np.zeros((plan.height, plan.width), np.float32)
    for top, left in plan:
        count[top : top + h, left : left + w] += 1

    def accumulate() -> object:
        total = np.zeros((logits.shape[1], plan.height, plan.width), np.float32)
        for tile, (top, left) in zip(logits, plan, strict=True):
            total[:, top : top + h, left : left + w] += tile
        total /= count
        return total.argmax(axis=0)

    peers: Peers = {"numpy accumulate": accumulate}
    if torch and monai_inferers:
        tensor = torch.from_numpy(logits)
        image = torch.zeros(1, 3, plan.height, plan.width)

        def monai() -> object:
            done = 0

            def prepared(batch: Any) -> Any:
                nonlocal done
                done += len(batch)
                return tensor[done - len(batch) : done]

            infer = monai_inferers.sliding_window_inference
            mean = infer(image, plan.tile, 4, prepared, overlap=0.0, mode="constant")
            return mean.argmax(dim=1)

        peers["MONAI"] = monai
    return peers


def upsample_peers(scores: NDArray[np.float32], weights: NDArray[np.float32], stride: int) -> Peers:
    if not torch:
        return {}
    tensor, kernel = torch.from_numpy(scores), torch.from_numpy(weights)
    upsample = torch.nn.functional.conv_transpose2d
    options = {"stride": stride, "padding": stride // 2}
    return {
        "torch transposed convolution, argmax": lambda: upsample(tensor, kernel, **options).argmax(
            dim=1
        )
    }


def confusion_peers(target: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> Peers:
    def bincount() -> object:
        counted = target != 255
        pairs = classes * target[counted].astype(np.int64) + predicted[counted]
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    return {"np.bincount": bincount}
