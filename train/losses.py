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

from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train import parallel
from fcnkit.train.data.labelmap import LabelMap
from fcnkit.train.data.voc import Sample, read_pair
from fcnkit.train.recipe import Recipe

__all__ = ["frequency_weights", "share_of_loss"]


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
        recipe: Which loss, see ``Recipe.loss`` and ``Recipe.dice``.
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
    if recipe.loss == "image-sum":
        loss, pictures = losses.sum() / pixels, 1
    else:
        known = labels_bmp != VOID
        counted = known.float()
        if class_weights is not None:
            counted = class_weights[labels_bmp.masked_fill(~known, 0)] * known
        # The mean is over the pixels of all processes, whose numbers of void pixels differ.
        loss = losses.sum() / parallel.total(counted.sum()).clamp(min=1e-6)
        pictures = len(labels_bmp) * parallel.world()
    if recipe.dice:
        loss = loss + recipe.dice * _dice(logits_bmkp, labels_bmp).sum() / pictures
    return loss


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
