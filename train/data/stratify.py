"""Divides images into train, val and test so that every class gets its share of each.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): the rarest class is dealt out
first, each image to the split that still lacks most of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

import numpy as np

from fcnkit.errors import BadValueError, message

__all__ = ["RATIOS", "SPLITS", "Ratios", "deal", "parse_ratios"]

SPLITS: Final = ("train", "val", "test")


class Ratios(NamedTuple):
    """Shares of the three splits, in any unit."""

    train: float = 70
    val: float = 10
    test: float = 20


RATIOS: Final = Ratios()

_MOST = 1_000_000
_TRIED = 100
"""Number of groups that are looked at to find one that a split can do without."""


def parse_ratios(text: str) -> Ratios:
    """Read ``70/10/20`` or ``80/20``.

    Args:
        text: Two or three numbers joined by ``/``; the shares of train, val and test.

    Returns:
        The shares; test has 0 where there are two.

    Raises:
        ValueError: text is anything else, train or val has no share, or a number is too large.
    """
    parts = text.split("/")
    try:
        shares = [float(part) for part in parts]
    except ValueError:
        shares = []
    if len(shares) not in (2, 3) or not all(0 <= share <= _MOST for share in shares):
        rule = "shares are written TRAIN/VAL/TEST or TRAIN/VAL"
        raise BadValueError(message("--ratios", rule, repr(text), "write 70/10/20"))
    if not shares[0] or not shares[1]:
        rule, remedy = "train and val need a share", "write 70/10/20"
        raise BadValueError(message("--ratios", rule, repr(text), remedy))
    return Ratios(*shares, *([0.0] if len(shares) == 2 else []))


def deal(
    presence: Sequence[AbstractSet[int]], groups: Sequence[object], ratios: Ratios, seed: int
) -> list[str]:
    """Give every image a split.

    Args:
        presence: The labels that occur in each image.
        groups: What each image belongs to. Images of one group stay together.
        ratios: The shares.
        seed: Decides between equal choices.

    Returns:
        ``train``, ``val`` or ``test`` for every image. Where there are fewer groups than splits,
        train comes first, then val.
    """
    members: dict[object, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    keys = sorted(members, key=repr)
    order = np.random.default_rng(seed).permutation(len(keys))
    bundles = [members[keys[place]] for place in order]
    # Large groups first: what comes last fills the gaps.
    bundles.sort(key=len, reverse=True)
    counts = [Counter(label for index in bundle for label in presence[index]) for bundle in bundles]
    chosen = _deal_bundles([len(bundle) for bundle in bundles], counts, ratios)
    _fill_empty(chosen, [len(bundle) for bundle in bundles], counts, ratios)
    found = [""] * len(presence)
    for bundle, split in zip(bundles, chosen, strict=True):
        for index in bundle:
            found[index] = split
    return found


def _deal_bundles(
    sizes: Sequence[int], counts: Sequence[Counter[int]], ratios: Ratios
) -> list[str]:
    """Return a split for every group of images."""
    share = {split: part / sum(ratios) for split, part in ratios._asdict().items() if part}
    totals = sum(counts, Counter())
    room = {split: part * sum(sizes) for split, part in share.items()}
    wanted = {
        split: {label: part * n for label, n in totals.items()} for split, part in share.items()
    }
    chosen = [""] * len(sizes)
    left = set(range(len(sizes)))
    holders: dict[int, set[int]] = defaultdict(set)
    for bundle, count in enumerate(counts):
        for label in count:
            holders[label].add(bundle)
    while left:
        rare = min((label for label in holders if holders[label]), key=lambda label: (
            sum(counts[bundle][label] for bundle in holders[label]), label
        ), default=None)  # fmt: skip
        for bundle in sorted(left if rare is None else set(holders[rare])):
            need = {split: wanted[split].get(rare, 0.0) for split in share}  # type: ignore[arg-type]
            split = max(share, key=lambda name: (need[name], room[name]))
            chosen[bundle] = split
            left.discard(bundle)
            room[split] -= sizes[bundle]
            for label, images in counts[bundle].items():
                wanted[split][label] -= images
                holders[label].discard(bundle)
    return chosen


def _fill_empty(
    chosen: list[str], sizes: Sequence[int], counts: Sequence[Counter[int]], ratios: Ratios
) -> None:
    """Move a small group to every split that has a share and got nothing."""

    def cost(bundle: int) -> tuple[int, int]:
        """Return how many classes a group's split would lose with it, and the group's size."""
        others = [n for n, owner in enumerate(chosen) if owner == chosen[bundle] and n != bundle]
        lost = sum(not any(counts[n][label] for n in others) for label in counts[bundle])
        return lost, sizes[bundle]

    for split, part in ratios._asdict().items():
        if not part or split in chosen:
            continue
        owned = Counter(chosen)
        # Train keeps what it has where there are too few groups.
        spare = [n for n, owner in enumerate(chosen) if owned[owner] > 1]
        if not spare and split != "test":
            spare = [n for n, owner in enumerate(chosen) if owner == "test"]
        if not spare and split == "train":
            spare = list(range(len(chosen)))
        if spare:
            small = sorted(spare, key=lambda n: sizes[n])[:_TRIED]
            chosen[min(small, key=cost)] = split
