"""The training loss, and the weights of the classes in it.

Shapes: logits_bmkp (B pictures of M times P pixels, K classes), labels_bmp with 255 = void. The
order of a picture's pixels is the network's choice, see ``SegmentationNet.pieces``: no loss depends
on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train import parallel
from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.data.voc import Sample, read_pair
from fcnkit.train.recipe import Recipe, parse_class_weights

__all__ = ["frequency_weights", "given_weights", "share_of_distance", "share_of_loss"]


def share_of_loss(
    logits_bmkp: Tensor,
    labels_bmp: Tensor,
    recipe: Recipe,
    *,
    pixels: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Compute this process's share of a batch's loss; the shares of all processes add up to it.

    Args:
        logits_bmkp: float32 (B, M, K, P), this process's pictures.
        labels_bmp: int64 (B, M, P), 255 = void, and where there is no pixel.
        recipe: Which loss, see ``Recipe.loss``, ``Recipe.reduction`` and ``Recipe.dice``.
        pixels: Number of pixels of one picture, void or not.
        class_weights: float32 (K,); None counts all classes alike.

    Returns:
        A scalar. One process's share is the loss itself.
    """
    losses = F.cross_entropy(
        logits_bmkp.flatten(0, 1),
        labels_bmp.flatten(0, 1),
        class_weights,
        ignore_index=VOID,
        reduction="none",
    )
    known = labels_bmp != VOID
    if recipe.loss == "focal":
        losses = losses * _focal(logits_bmkp, labels_bmp, known).flatten(0, 1)
    elif recipe.loss == "ohem":
        known = known & _hard(logits_bmkp, labels_bmp, known)
        losses = losses * known.flatten(0, 1)
    if recipe.reduction == "image-sum":
        loss, pictures = losses.sum() / pixels, 1
    else:
        counted = known.float()
        if class_weights is not None:
            counted = class_weights[labels_bmp.masked_fill(~known, 0)] * known
        # The mean is over the pixels of all processes, whose numbers of void pixels differ.
        loss = losses.sum() / parallel.total(counted.sum()).clamp(min=1e-6)
        pictures = len(labels_bmp) * parallel.world()
    if recipe.dice:
        loss = loss + recipe.dice * _dice(logits_bmkp, labels_bmp).sum() / pictures
    return loss


def share_of_distance(
    logits_bmkp: Tensor, taught_bmkp: Tensor, labels_bmp: Tensor, recipe: Recipe, *, pixels: int
) -> Tensor:
    """Compute this process's share of the distance to a teacher's probabilities.

    The Kullback-Leibler divergence per pixel, times the square of the temperature, so that its
    gradient keeps its size (Hinton et al., 2015, section 2). Void pixels do not count.

    Args:
        logits_bmkp: float32 (B, M, K, P), this process's pictures.
        taught_bmkp: The teacher's logits, alike.
        labels_bmp: As in share_of_loss.
        recipe: Reduction, weight and temperature.
        pixels: Number of pixels of one picture, void or not.

    Returns:
        A scalar, to be added to the share of the loss.
    """
    ours, theirs = (
        (logits / recipe.teacher_temperature).log_softmax(2)
        for logits in (logits_bmkp, taught_bmkp)
    )
    known = labels_bmp != VOID
    distance_bmp = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(2) * known
    count = torch.tensor(float(pixels))
    if recipe.reduction == "pixel-mean":
        count = parallel.total(known.sum().float()).clamp(min=1)
    weight = recipe.teacher_weight * recipe.teacher_temperature**2
    return weight * distance_bmp.sum() / count


def _focal(logits_bmkp: Tensor, labels_bmp: Tensor, known_bmp: Tensor) -> Tensor:
    """Return (1 - p)^2 of each pixel, p the probability of its true class.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4 with gamma 2.
    """
    return (1 - _true_probability(logits_bmkp, labels_bmp, known_bmp)).square()


def _hard(logits_bmkp: Tensor, labels_bmp: Tensor, known_bmp: Tensor) -> Tensor:
    """Say which pixels are hard: p below 0.7, and at least a sixteenth of each picture's.

    Source: Wu et al., "High-performance Semantic Segmentation Using Very Deep Fully Convolutional
    Networks", 2016, online bootstrapping. Taken per picture, so that batches can be split.
    """
    p_bmp = _true_probability(logits_bmkp.detach(), labels_bmp, known_bmp)
    p_bx = p_bmp.masked_fill(~known_bmp, 2.0).flatten(1)
    least_b = (known_bmp.flatten(1).sum(1) // 16).clamp(min=1)
    limit_b1 = p_bx.sort(1).values.gather(1, least_b[:, None] - 1)
    return (p_bx <= limit_b1.clamp(min=0.7)).view_as(p_bmp)


def _true_probability(logits_bmkp: Tensor, labels_bmp: Tensor, known_bmp: Tensor) -> Tensor:
    labels = labels_bmp.masked_fill(~known_bmp, 0)[:, :, None]
    return logits_bmkp.softmax(2).gather(2, labels)[:, :, 0]


def _dice(logits_bmkp: Tensor, labels_bmp: Tensor) -> Tensor:
    """Return each picture's Dice loss (B,): 1 - the mean over its classes of 2|P.T|/(|P|+|T|).

    P holds the softmax's probabilities. Taken per picture, so that batches can be split.
    Source: Sudre et al., "Generalized Dice overlap as a deep learning loss function for highly
    unbalanced segmentations", 2017, section 2.1, for several classes of equal weight.
    """
    batch, _, classes, _ = logits_bmkp.shape
    known_bmp = labels_bmp != VOID
    p_bmkp = logits_bmkp.softmax(2) * known_bmp[:, :, None]
    labels_bmp = labels_bmp.masked_fill(~known_bmp, 0)
    hits_bmp = p_bmkp.gather(2, labels_bmp[:, :, None])[:, :, 0]
    nothing_bk = p_bmkp.new_zeros(batch, classes)
    both_bk = nothing_bk.scatter_add(1, labels_bmp.flatten(1), hits_bmp.flatten(1))
    truth_bk = nothing_bk.scatter_add(
        1, labels_bmp.flatten(1), known_bmp.flatten(1).to(p_bmkp.dtype)
    )
    overlap_bk = 2 * both_bk / (p_bmkp.sum((1, 3)) + truth_bk).clamp(min=1e-6)
    present_bk = truth_bk > 0
    return ((1 - overlap_bk) * present_bk).sum(1) / present_bk.sum(1).clamp(min=1)


def given_weights(text: str, classes: Sequence[str]) -> Tensor:
    """Turn class weights that were given by hand into a tensor.

    Args:
        text: See ``Recipe.class_weights``.
        classes: Class names.

    Returns:
        float32 (K,), 1 for what is not named.

    Raises:
        ValueError: A name is not one of the classes.
    """
    weights = parse_class_weights(text)
    for name in weights:
        if name not in classes:
            rule = f"names must be among the classes {', '.join(classes)}"
            raise BadValueError(message("--class-weights", rule, name, "use one of these"))
    return torch.tensor([weights.get(name, 1.0) for name in classes])


def frequency_weights(
    samples: Sequence[Sample], labelmap: LabelMap, *, void_as_background: bool
) -> Tensor:
    """Weigh classes by their share p of the masks' pixels: 1 / ln(1.02 + p).

    Source: Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation", 2016, section 5.2. Bounded, so that a class that hardly occurs does not rule the
    loss. Divided by the mean over all pixels, so that the learning rate keeps its meaning.

    Args:
        samples: Pictures with masks; every mask is read.
        labelmap: Their classes.
        void_as_background: See ``Recipe.void_as_background``.

    Returns:
        float32 (K,).

    Raises:
        DataError: A file is broken.
    """
    counts = np.zeros(len(labelmap.classes))
    for sample in samples:
        _, labels_hw = read_pair(sample, labelmap, void_as_background=void_as_background)
        counts += np.bincount(labels_hw.ravel(), minlength=256)[: len(counts)]
    shares = counts / max(1.0, counts.sum())
    weights = 1 / np.log(1.02 + shares)
    mean = float(shares @ weights) or 1.0
    return torch.from_numpy((weights / mean).astype(np.float32))
