"""A VOC-layout folder as training examples: read on demand, augmented, cropped, normalised.

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
from torch.utils.data import DataLoader, Dataset, Sampler

from fcnkit.runtime.spec import VOID
from fcnkit.train.labelmap import LabelMap
from fcnkit.train.recipe import Recipe
from fcnkit.train.voc import Sample, read_pair

__all__ = ["CropDataset", "EpochSampler", "training_loader"]

Key = tuple[int, int]
"""(epoch, index of the sample)."""


class EpochSampler(Sampler[Key]):
    """Shuffles anew each epoch, by (seed, epoch), and hands the epoch on to the data set."""

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Random crops of a recipe's size."""

    def __init__(self, samples: Sequence[Sample], labelmap: LabelMap, recipe: Recipe) -> None:
        self.samples = samples
        self.labelmap = labelmap
        self.recipe = recipe

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Return a crop as uint8 (3, h, w) RGB and int64 labels (h, w), 255 = void.

        Args:
            key: Epoch and index of the sample.

        Raises:
            DataError: A file is broken.
        """
        epoch, index = key
        random = np.random.default_rng((self.recipe.seed, epoch, index))
        sample = self.samples[index]
        image_hwc, labels_hw = read_pair(
            sample, self.labelmap, void_as_background=self.recipe.void_as_background
        )
        image_hwc, labels_hw = _augment(image_hwc, labels_hw, self.recipe, random)
        image_chw = torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))
        return image_chw, torch.from_numpy(labels_hw.astype(np.int64))


def training_loader(
    samples: Sequence[Sample], labelmap: LabelMap, recipe: Recipe, *, workers: int
) -> tuple[DataLoader[tuple[Tensor, Tensor]], EpochSampler]:
    """Return the batches of one epoch, and the sampler on which the epoch is set.

    Args:
        samples: Pictures with masks.
        labelmap: Their classes.
        recipe: Crop, augmentation, batch size and seed.
        workers: Processes that read and augment; 0 reads in this one.

    Returns:
        The loader of (uint8 (B, 3, h, w), int64 (B, h, w)) batches, and its sampler.
    """
    sampler = EpochSampler(len(samples), seed=recipe.seed)
    loader = DataLoader(
        CropDataset(samples, labelmap, recipe),
        batch_size=recipe.batch,
        # Batch normalisation cannot train on a batch of one, so a short last batch is left out
        # unless it is the only one.
        drop_last=len(samples) >= recipe.batch,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    return loader, sampler


def _augment(
    image_hwc: NDArray[np.uint8],
    labels_hw: NDArray[np.uint8],
    recipe: Recipe,
    random: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resize, pad, crop and mirror a picture and its labels alike."""
    low, high = recipe.scale
    if high > low or low != 1.0:
        image_hwc, labels_hw = _resize(image_hwc, labels_hw, random.uniform(low, high))
    height, width = recipe.crop
    image_hwc, labels_hw = _pad(image_hwc, labels_hw, height, width)
    top = random.integers(image_hwc.shape[0] - height + 1)
    left = random.integers(image_hwc.shape[1] - width + 1)
    window = np.s_[top : top + height, left : left + width]
    image_hwc, labels_hw = image_hwc[window], labels_hw[window]
    if recipe.flip and random.random() < 0.5:
        image_hwc, labels_hw = image_hwc[:, ::-1], labels_hw[:, ::-1]
    return image_hwc, labels_hw


def _resize(
    image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8], factor: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    height, width = labels_hw.shape
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(image_hwc).resize(size, Image.Resampling.BILINEAR)
    labels = Image.fromarray(labels_hw).resize(size, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(labels)


def _pad(
    image_hwc: NDArray[np.uint8], labels_hw: NDArray[np.uint8], height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Grow a picture that is smaller than the crop: reflected, as the runtime does, and void."""
    bottom = max(0, height - labels_hw.shape[0])
    right = max(0, width - labels_hw.shape[1])
    if not bottom and not right:
        return image_hwc, labels_hw
    image_hwc = np.pad(image_hwc, ((0, bottom), (0, right), (0, 0)), mode="reflect")
    return image_hwc, np.pad(labels_hw, ((0, bottom), (0, right)), constant_values=VOID)
