"""The training loss, and the weights of the classes in it.

Shapes: logits_bkhw (B pictures, K classes), labels_bhw with 255 = void.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcnkit.runtime.spec import VOID
from fcnkit.train import parallel
from fcnkit.train.labelmap import LabelMap
from fcnkit.train.recipe import Recipe
from fcnkit.train.voc import Sample, read_pair

__all__ = ["frequency_weights", "share_of_loss"]


def share_of_loss(
    logits_bkhw: Tensor, labels_bhw: Tensor, recipe: Recipe, *, class_weights: Tensor | None = None
) -> Tensor:
    """Compute this process's share of a batch's loss; the shares of all processes add up to it.

    Args:
        logits_bkhw: float32 (B, K, H, W), this process's pictures.
        labels_bhw: int64 (B, H, W), 255 = void.
        recipe: Which loss, see ``Recipe.loss`` and ``Recipe.dice``.
        class_weights: float32 (K,); None counts all classes alike.

    Returns:
        A scalar. One process's share is the loss itself.
    """
    pixels_bhw = F.cross_entropy(
        logits_bkhw, labels_bhw, class_weights, ignore_index=VOID, reduction="none"
    )
    if recipe.loss == "image-sum":
        loss, pictures = pixels_bhw.mean((1, 2)).sum(), 1
    else:
        known = labels_bhw != VOID
        counted = known.float()
        if class_weights is not None:
            counted = class_weights[labels_bhw.masked_fill(~known, 0)] * known
        # The mean is over the pixels of all processes, whose numbers of void pixels differ.
        loss = pixels_bhw.sum() / parallel.total(counted.sum()).clamp(min=1e-6)
        pictures = len(labels_bhw) * parallel.world()
    if recipe.dice:
        loss = loss + recipe.dice * _dice(logits_bkhw, labels_bhw).sum() / pictures
    return loss


def _dice(logits_bkhw: Tensor, labels_bhw: Tensor) -> Tensor:
    """Return each picture's Dice loss (B,): 1 - the mean over its classes of 2|P.T|/(|P|+|T|).

    P holds the softmax's probabilities. Taken per picture, so that batches can be split.
    Source: Sudre et al., "Generalised Dice overlap as a deep learning loss function for highly
    unbalanced segmentations", 2017, section 2.1, for several classes of equal weight.
    """
    batch, classes = logits_bkhw.shape[:2]
    known = labels_bhw != VOID
    p_bkn = (logits_bkhw.softmax(1) * known[:, None]).flatten(2)
    labels_bn = labels_bhw.masked_fill(~known, 0).flatten(1)
    known_bn = known.flatten(1).to(p_bkn.dtype)
    hits_bn = p_bkn.gather(1, labels_bn[:, None])[:, 0]
    nothing_bk = p_bkn.new_zeros(batch, classes)
    both_bk = nothing_bk.scatter_add(1, labels_bn, hits_bn)
    truth_bk = nothing_bk.scatter_add(1, labels_bn, known_bn)
    overlap_bk = 2 * both_bk / (p_bkn.sum(2) + truth_bk).clamp(min=1e-6)
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
