"""A VOC-layout folder as training examples: read on demand, augmented, cropped, normalized.

Every random draw comes from (seed, epoch, position), so a run gives the same examples however many
workers read them, and a resumed run continues with the ones it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2 import functional as color

from fcnkit.errors import BadTypeError, BadValueError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.runtime.checks import check_int
from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.data.voc import Sample, read_pair
from fcnkit.train.reading import Loader, reading_loader
from fcnkit.train.recipe import Recipe

__all__ = ["CropDataset", "EpochSampler", "training_loader"]

Key = tuple[int, int]
"""(epoch, index of the sample)."""
_Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""An image (h, w, 3) and its labels (h, w)."""


class EpochSampler(Sampler[Key]):
    """Shuffles anew each epoch, by (seed, epoch), and hands the epoch on to the data set.

    With several processes each takes its part of every batch of the same order.
    """

    def __init__(self, length: int, recipe: Recipe, *, rank: int = 0, world: int = 1) -> None:
        """Choose the part of one process.

        Args:
            length: Number of samples.
            recipe: Batch size, over all processes, and seed.
            rank: Which process this is, 0..world - 1.
            world: Number of processes; it divides the batch size.
        """
        self.epoch = 1
        self._length = length
        self._recipe = recipe
        self._rank = rank
        # Batch normalization cannot train on a batch of one, so a short last batch is left out
        # unless it is the only one.
        self._batch = min(length, recipe.batch)
        self._share = self._batch // world

    def __len__(self) -> int:
        return self._length // self._batch * self._share

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng((self._recipe.seed, self.epoch)).permutation(self._length)
        batches = order[: self._length // self._batch * self._batch].reshape(-1, self._batch)
        first = self._rank * self._share
        share = batches[:, first : first + self._share]
        return iter([(self.epoch, int(index)) for index in share.ravel()])


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a recipe's size."""

    def __init__(self, samples: Sequence[Sample], labelmap: LabelMap, recipe: Recipe) -> None:
        self.samples = samples
        self.labelmap = labelmap
        self.recipe = recipe

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key | int) -> tuple[Tensor, Tensor]:
        """Return a crop as uint8 (3, h, w) RGB and int64 labels (h, w), 255 = void.

        Args:
            key: Epoch, counted from 1, and index of the sample; an index alone is of epoch 1.

        Raises:
            DataError: A file is broken.
            IndexError: There is no such sample.
            TypeError: The key is neither an integer nor a pair of them.
        """
        epoch, index = _pair(key)
        if not 0 <= index < len(self.samples):
            raise IndexError(index)
        random = np.random.default_rng((self.recipe.seed, epoch, index))
        recipe = self.recipe.of_epoch(epoch)
        image_hwc, labels_hw = self._crop(index, recipe, random)
        if recipe.class_mix and random.random() < recipe.class_mix:
            other = self._crop(int(random.integers(len(self.samples))), recipe, random)
            image_hwc, labels_hw = _mix((image_hwc, labels_hw), other, random)
        image_chw = torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))
        return image_chw, torch.from_numpy(labels_hw.astype(np.int64))

    def _crop(self, index: int, recipe: Recipe, random: np.random.Generator) -> _Pair:
        """Read a picture and its labels, and augment both."""
        sample = self.samples[index]
        image_hwc, labels_hw = read_pair(
            sample, self.labelmap, void_as_background=recipe.void_as_background
        )
        return _augment(image_hwc, labels_hw, recipe, random)


def _pair(key: object) -> Key:
    """Return epoch and index."""
    if isinstance(key, tuple) and len(key) == 2:
        return check_int("CropDataset: epoch", key[0], 0, 2**31), int(key[1])
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        return 1, int(key)
    rule = "a key is an index, or epoch and index"
    raise BadTypeError(message("CropDataset", rule, repr(key), "pass dataset[0]"))


def training_loader(
    samples: Sequence[Sample],
    labelmap: LabelMap,
    recipe: Recipe,
    *,
    workers: int,
    rank: int = 0,
    world: int = 1,
) -> tuple[Loader[tuple[Tensor, Tensor]], EpochSampler]:
    """Return the batches of one epoch, and the sampler on which the epoch is set.

    Args:
        samples: Pictures with masks.
        labelmap: Their classes.
        recipe: Crop, augmentation, batch size over all processes, and seed.
        workers: Processes that read and augment; 0 reads in this one.
        rank: Which of the training processes this is, 0..world - 1.
        world: Number of training processes.

    Returns:
        The loader, to be read with ``batches``: this process's share of every batch, (uint8
        (B, 3, h, w), int64 (B, h, w)). And its sampler.

    Raises:
        ValueError: The batches cannot be shared evenly.
    """
    if recipe.batch % world:
        rule = f"must be a multiple of the {world} processes"
        raise BadValueError(message("--batch", rule, recipe.batch, "change one of the two"))
    if world > 1 and len(samples) < recipe.batch:
        rule = f"must be at most the {len(samples)} training pictures with several processes"
        raise BadValueError(message("--batch", rule, recipe.batch, "lower it"))
    sampler = EpochSampler(len(samples), recipe, rank=rank, world=world)
    examples = CropDataset(samples, labelmap, recipe)
    loader = reading_loader(examples, sampler, batch=recipe.batch // world, workers=workers)
    return loader, sampler


def _augment(
    image_hwc: NDArray[np.uint8],
    labels_hw: NDArray[np.uint8],
    recipe: Recipe,
    random: np.random.Generator,
) -> _Pair:
    """Resize, pad, crop and mirror a picture and its labels alike."""
    low, high = recipe.scale
    if high > low or low != 1.0:
        image_hwc, labels_hw = _resize(image_hwc, labels_hw, random.uniform(low, high))
    height, width = recipe.crop
    image_hwc, labels_hw = _pad(image_hwc, labels_hw, height, width)
    top, left = _corner(labels_hw, recipe, random)
    window = np.s_[top : top + height, left : left + width]
    image_hwc, labels_hw = image_hwc[window], labels_hw[window]
    if recipe.flip and random.random() < 0.5:
        image_hwc, labels_hw = image_hwc[:, ::-1], labels_hw[:, ::-1]
    if recipe.color:
        image_hwc = _recolor(image_hwc, recipe.color, random)
    return image_hwc, labels_hw


def _corner(
    labels_hw: NDArray[np.uint8], recipe: Recipe, random: np.random.Generator
) -> tuple[int, int]:
    """Draw where the crop begins: anywhere, or so that it holds a pixel of a drawn class."""
    spare = [size - side for size, side in zip(labels_hw.shape, recipe.crop, strict=True)]
    low, high = [0, 0], spare
    if recipe.balanced_crops and random.random() < recipe.balanced_crops:
        classes = np.setdiff1d(labels_hw, VOID)
        if len(classes):
            places = np.argwhere(labels_hw == random.choice(classes))
            place = places[random.integers(len(places))]
            low = [max(0, at - side + 1) for at, side in zip(place, recipe.crop, strict=True)]
            high = [min(at, most) for at, most in zip(place, spare, strict=True)]
    top, left = (int(random.integers(a, b + 1)) for a, b in zip(low, high, strict=True))
    return top, left


def _mix(under: _Pair, over: _Pair, random: np.random.Generator) -> _Pair:
    """Paste half of the classes of one crop onto another of the same size."""
    classes = np.setdiff1d(over[1], VOID)
    chosen = random.permutation(classes)[: -(-len(classes) // 2)]
    pasted_hw = np.isin(over[1], chosen)
    image_hwc = np.where(pasted_hw[..., None], over[0], under[0])
    return image_hwc, np.where(pasted_hw, over[1], under[1])


def _recolor(
    image_hwc: NDArray[np.uint8], strength: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and, a little, the hue, in a random order."""
    image = Image.fromarray(np.ascontiguousarray(image_hwc))
    factors = random.uniform(1 - strength, 1 + strength, 3).tolist()
    turn = 0.1 * random.uniform(-strength, strength)
    changes = (
        (color.adjust_brightness, factors[0]),
        (color.adjust_contrast, factors[1]),
        (color.adjust_saturation, factors[2]),
        (color.adjust_hue, turn),
    )
    for index in random.permutation(len(changes)):
        change, amount = changes[index]
        image = change(image, amount)
    return np.asarray(image)


def _resize(image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8], factor: float) -> _Pair:
    height, width = labels_hw.shape
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(image_hwc).resize(size, Image.Resampling.BILINEAR)
    labels = Image.fromarray(labels_hw).resize(size, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(labels)


def _pad(
    image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8], height: int, width: int
) -> _Pair:
    """Grow a picture that is smaller than the crop: reflected, as the runtime does, and void."""
    bottom = max(0, height - labels_hw.shape[0])
    right = max(0, width - labels_hw.shape[1])
    if not bottom and not right:
        return image_hwc, labels_hw
    image_hwc = np.pad(image_hwc, ((0, bottom), (0, right), (0, 0)), mode="reflect")
    return image_hwc, np.pad(labels_hw, ((0, bottom), (0, right)), constant_values=VOID)
