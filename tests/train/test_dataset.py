from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcnkit.train.data.voc import open_voc, read_pair
from fcnkit.train.dataset import CropDataset, EpochSampler, training_loader
from fcnkit.train.reading import batches
from fcnkit.train.recipe import RECIPES
from tests.refusal import refusal
from tests.train.folders import make_folder, write_image, write_indices

MODERN = replace(RECIPES["modern"], batch=4, crop=(96, 64))


def test_examples_depend_on_seed_and_epoch_only(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")

    def epoch(number: int, *, workers: int, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
        recipe = replace(MODERN, seed=seed)
        loader, sampler = training_loader(folder.samples, folder.labelmap, recipe, workers=workers)
        sampler.epoch = number
        return [tuple(batch) for batch in batches(loader)]

    def same(a: list[tuple[torch.Tensor, ...]], b: list[tuple[torch.Tensor, ...]]) -> bool:
        pairs = zip(a, b, strict=True)
        return all(torch.equal(x, y) for p, q in pairs for x, y in zip(p, q, strict=True))

    first = epoch(1, workers=0)
    assert len(first) == 4
    assert first[0][0].shape == (4, 3, 96, 64)
    assert first[0][0].dtype == torch.uint8
    assert first[0][1].shape == (4, 96, 64)
    assert same(first, epoch(1, workers=0))
    assert same(first, epoch(1, workers=2))
    assert not same(first, epoch(2, workers=0))
    assert not same(first, epoch(1, workers=0, seed=1))


def test_a_loader_that_nobody_told_an_epoch_gives_the_first(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    loader, _ = training_loader(folder.samples, folder.labelmap, MODERN, workers=0)
    image_bchw, labels_bhw = next(iter(loader))
    assert (image_bchw.shape, labels_bhw.shape) == ((4, 3, 96, 64), (4, 96, 64))


def test_a_data_set_is_a_sequence(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    crops = CropDataset(folder.samples, folder.labelmap, MODERN)
    for one, other in zip(crops[0], crops[1, 0], strict=True):
        assert torch.equal(one, other)
    assert sum(1 for _ in crops) == len(crops)  # ends with an IndexError
    with pytest.raises(IndexError):
        crops[len(crops)]
    with refusal(
        TypeError,
        "CropDataset: a key is an index, or epoch and index, got 'a'; pass dataset[0]",
    ):
        crops["a"]  # type: ignore[index]


def test_crop_without_augmentation_is_a_window_of_the_picture(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(RECIPES["d2l"], crop=(64, 64), void_as_background=False)
    image_chw, labels_hw = CropDataset(folder.samples, folder.labelmap, recipe)[1, 0]
    image_hwc, target_hw = read_pair(folder.samples[0], folder.labelmap)
    windows = np.lib.stride_tricks.sliding_window_view(image_hwc, (64, 64), axis=(0, 1))
    hits = np.argwhere((windows == image_chw.numpy()).all((2, 3, 4)))
    assert len(hits) == 1
    top, left = hits[0]
    assert np.array_equal(labels_hw, target_hw[top : top + 64, left : left + 64])


def test_picture_and_labels_are_augmented_alike(shapes_folder: Path, tmp_path: Path) -> None:
    # A picture that shows its own labels: whatever is done to both, they still agree.
    from PIL import Image

    from fcnkit.train.data.voc import Sample

    folder = open_voc(shapes_folder, split="train")
    _, target_hw = read_pair(folder.samples[0], folder.labelmap)
    target_hw = np.where(target_hw == 255, 0, target_hw)
    Image.fromarray(np.repeat(target_hw[..., None] * 40, 3, 2)).save(tmp_path / "x.png")
    Image.fromarray(target_hw).save(tmp_path / "m.png")
    sample = Sample("x", tmp_path / "x.png", tmp_path / "m.png")
    dataset = CropDataset([sample], folder.labelmap, replace(MODERN, color=0.0))
    for epoch in range(20):
        image_chw, labels_hw = dataset[epoch, 0]
        known = labels_hw != 255
        off = (image_chw[0].long() - labels_hw * 40).abs()[known] > 20
        # Only interpolated pixels along the borders differ.
        assert off.float().mean() < 0.1


def test_epochs_of_half_size_crop_pictures_of_half_the_size(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(
        RECIPES["d2l"], crop=(64, 64), void_as_background=False, epochs=2, half_size=0.5
    )
    examples = CropDataset(folder.samples, folder.labelmap, recipe)
    image_hwc, target_hw = read_pair(folder.samples[0], folder.labelmap)
    size = target_hw.shape[1] // 2, target_hw.shape[0] // 2
    small_hwc = np.asarray(Image.fromarray(image_hwc).resize(size, Image.Resampling.BILINEAR))
    small_hw = np.asarray(Image.fromarray(target_hw).resize(size, Image.Resampling.NEAREST))
    image_chw, labels_hw = examples[1, 0]
    windows = np.lib.stride_tricks.sliding_window_view(small_hwc, (32, 32), axis=(0, 1))
    hits = np.argwhere((windows == image_chw.numpy()).all((2, 3, 4)))
    assert len(hits) == 1
    top, left = hits[0]
    assert np.array_equal(labels_hw, small_hw[top : top + 32, left : left + 32])
    assert examples[2, 0][1].shape == (64, 64)


def test_smaller_pictures_are_padded_with_void(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(MODERN, crop=(320, 320), scale=(1.0, 1.0), flip=False, color=0.0)
    image_chw, labels_hw = CropDataset(folder.samples, folder.labelmap, recipe)[1, 0]
    image_hwc, target_hw = read_pair(folder.samples[0], folder.labelmap)
    height, width = target_hw.shape
    assert np.array_equal(image_chw[:, :height, :width], image_hwc.transpose(2, 0, 1))
    assert np.array_equal(labels_hw[:height, :width], target_hw)
    assert (labels_hw[height:] == 255).all()
    assert (labels_hw[:, width:] == 255).all()
    assert np.array_equal(image_chw[:, height, :width], image_hwc[height - 2].T)


def test_void_as_background(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(RECIPES["d2l"], crop=(96, 96))
    dataset = CropDataset(folder.samples, folder.labelmap, recipe)
    assert max(int(dataset[1, i][1].max()) for i in range(4)) < len(folder.classes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"crop": (100, 64)}, "--crop: sides must be multiples of 32, got 100x64; use 96x64"),
        ({"epochs": 0}, "--epochs: must be at least 1, got 0; raise it"),
        ({"batch": -1}, "--batch: must be at least 1, got -1; raise it"),
        ({"lr": float("nan")}, "--lr: must be positive, got nan; try 0.001"),
    ],
)
def test_recipe_refuses_what_cannot_train(change: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        replace(MODERN, **change)  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_colors_change_a_little_and_by_the_examples_own_draws(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    plain = replace(MODERN, color=0.0)
    (a, labels), (b, same_labels) = (
        CropDataset(folder.samples, folder.labelmap, recipe)[1, 0]
        for recipe in (plain, replace(plain, color=0.3))
    )
    assert torch.equal(labels, same_labels)
    assert not torch.equal(a, b)
    # Three factors of at most 1.3 each, most of which go opposite ways.
    assert (a.float() - b.float()).abs().mean() < 64


def test_processes_share_every_batch_of_the_same_order() -> None:
    recipe = replace(MODERN, batch=4)

    def order(rank: int, world: int) -> list[int]:
        sampler = EpochSampler(11, recipe, rank=rank, world=world)
        sampler.epoch = 3
        return [index for _, index in sampler]

    whole, halves = order(0, 1), [order(rank, 2) for rank in (0, 1)]
    assert len(whole) == 8  # the short last batch is left out
    for batch in range(2):
        parts = [half[2 * batch : 2 * batch + 2] for half in halves]
        assert parts[0] + parts[1] == whole[4 * batch : 4 * batch + 4]


def test_batches_that_cannot_be_shared_are_refused(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    for batch, world, text in (
        (8, 3, "--batch: must be a multiple of the 3 processes, got 8; change one of the two"),
        (
            32,
            2,
            "--batch: must be at most the 16 training pictures with several processes, got 32; "
            "lower it",
        ),
    ):
        recipe = replace(MODERN, batch=batch)
        with pytest.raises(ValueError) as caught:
            training_loader(folder.samples, folder.labelmap, recipe, workers=0, world=world)
        assert str(caught.value) == text


def test_balanced_crops_hold_every_class_as_often(tmp_path: Path) -> None:
    # A large image with one pixel of cat in a corner and one of dog in the middle.
    root = make_folder(tmp_path / "data", train=["a"])
    mask = np.zeros((200, 300), np.uint8)
    mask[0, 299], mask[100, 120] = 1, 2
    write_image(root / "JPEGImages" / "a.jpg", 200, 300)
    write_indices(root / "SegmentationClass" / "a.png", mask)
    folder = open_voc(root, split="train")
    recipe = replace(MODERN, crop=(32, 32), scale=(1.0, 1.0), flip=False, color=0.0)

    def shares(balanced: float) -> list[float]:
        crops = CropDataset(
            folder.samples, folder.labelmap, replace(recipe, balanced_crops=balanced)
        )
        labels = [crops[epoch, 0][1] for epoch in range(600)]
        return [sum(bool((one == label).any()) for one in labels) / 600 for label in (1, 2)]

    assert all(share < 0.1 for share in shares(0.0))
    # A third of them was placed on each class, and few others hold the pixel of dog by chance.
    assert shares(1.0) == pytest.approx([1 / 3, 1 / 3], abs=0.06)
    assert shares(0.5) == pytest.approx([1 / 6, 1 / 6], abs=0.05)


def test_a_balanced_crop_lies_anywhere_around_its_pixel(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", train=["a"])
    mask = np.full((70, 90), 255, np.uint8)
    mask[40, 10] = 1
    write_image(root / "JPEGImages" / "a.jpg", 70, 90)
    write_indices(root / "SegmentationClass" / "a.png", mask)
    folder = open_voc(root, split="train")
    recipe = replace(
        MODERN, crop=(32, 32), scale=(1.0, 1.0), flip=False, color=0.0, balanced_crops=1.0
    )
    crops = CropDataset(folder.samples, folder.labelmap, recipe)
    seen = {tuple(np.argwhere(crops[epoch, 0][1].numpy() == 1)[0]) for epoch in range(3000)}
    # Crops begin in rows 9 to 38 and columns 0 to 10: the image ends before others.
    assert seen == {(40 - top, 10 - left) for top in range(9, 39) for left in range(11)}
    mask[:] = 255
    write_indices(root / "SegmentationClass" / "a.png", mask)
    assert (crops[1, 0][1] == 255).all()


def test_a_class_mix_pastes_half_of_the_classes_of_another_crop(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    plain = replace(MODERN, color=0.0, scale=(1.0, 1.0), crop=(64, 64), flip=False)
    mixed = CropDataset(folder.samples, folder.labelmap, replace(plain, class_mix=1.0))
    pasted = 0
    for index in range(len(folder.samples)):
        image_chw, labels_hw = (one.numpy() for one in mixed[1, index])
        own_image, own_labels = (
            one.numpy() for one in CropDataset(folder.samples, folder.labelmap, plain)[1, index]
        )
        changed_hw = (image_chw != own_image).any(0) | (labels_hw != own_labels)
        # The draws are those of the data set: crop, whether to mix, the other image, its crop.
        random = np.random.default_rng((plain.seed, 1, index))
        height, width = read_pair(folder.samples[index], folder.labelmap)[1].shape
        random.integers(height - 63), random.integers(width - 63), random.random()
        other = folder.samples[int(random.integers(len(folder.samples)))]
        other_image, other_labels = read_pair(other, folder.labelmap)
        top = random.integers(other_labels.shape[0] - 63)
        left = random.integers(other_labels.shape[1] - 63)
        window = np.s_[top : top + 64, left : left + 64]
        other_labels, other_image = other_labels[window], other_image[window]
        assert (image_chw.transpose(1, 2, 0) == other_image)[changed_hw].all()
        assert (labels_hw == other_labels)[changed_hw].all()
        there = set(np.unique(other_labels)) - {255}
        assert len(set(np.unique(other_labels[changed_hw]))) <= -(-len(there) // 2)
        assert 255 not in other_labels[changed_hw]
        pasted += changed_hw.any()
    assert pasted > len(folder.samples) // 2


def test_mixed_and_balanced_crops_depend_on_seed_and_epoch_only(shapes_folder: Path) -> None:
    folder = open_voc(shapes_folder, split="train")
    recipe = replace(MODERN, class_mix=0.5, balanced_crops=0.5)
    first, again = (CropDataset(folder.samples, folder.labelmap, recipe) for _ in range(2))
    keys = [(epoch, index) for epoch in (1, 2) for index in range(8)]
    there = [first[key] for key in keys]
    back = [again[key] for key in reversed(keys)]
    for one, other in zip(there, reversed(back), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
