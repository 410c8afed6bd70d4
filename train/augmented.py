"""What training sees of a data set: crops after augmentation, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fcnkit.train.data.show import Shown, positions
from fcnkit.train.data.voc import VocFolder, drop_smaller
from fcnkit.train.dataset import CropDataset
from fcnkit.train.recipe import Recipe

__all__ = ["augmented_crops"]


def augmented_crops(folder: VocFolder, recipe: Recipe, count: int) -> Iterator[Shown]:
    """Make the crops that training with a recipe makes in its first epoch.

    Args:
        folder: The split. Its images are taken evenly spread, without those that the recipe
            leaves out.
        recipe: Crop, augmentation and seed.
        count: Number of images at most.

    Yields:
        The crops, void 255.

    Raises:
        DataError: An image or mask is broken.
    """
    recipe = recipe.for_classes(folder.labelmap)
    samples = folder.samples
    if recipe.drop_smaller:
        samples = drop_smaller(samples, *recipe.crop).kept
    crops = CropDataset(samples, folder.labelmap, recipe)
    for index in positions(len(samples), count):
        image_chw, labels_hw = crops[1, index]
        image_hwc = image_chw.numpy().transpose(1, 2, 0)
        labels = labels_hw.numpy().astype(np.uint8)
        yield Shown(samples[index].name, image_hwc, labels)
