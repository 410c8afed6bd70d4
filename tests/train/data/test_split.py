from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.errors import DataError
from fcnkit.train.data import split as split_module
from fcnkit.train.data.check import check_folder
from fcnkit.train.data.split import split_folder
from fcnkit.train.data.stratify import RATIOS, Ratios, deal, parse_ratios
from tests.refusal import refusal
from tests.train.data.importers.sources import listed
from tests.train.folders import make_folder, write_indices

PRESENCE = st.lists(st.frozensets(st.integers(0, 5), max_size=4), min_size=1, max_size=40)


@given(PRESENCE, st.data())
def test_groups_stay_together_and_no_split_is_empty(
    presence: list[frozenset[int]], data: st.DataObject
) -> None:
    groups = [data.draw(st.integers(0, 9)) for _ in presence]
    chosen = deal(presence, groups, RATIOS, 0)
    assert chosen == deal(presence, groups, RATIOS, 0)
    of_group: dict[int, set[str]] = {}
    for group, split in zip(groups, chosen, strict=True):
        of_group.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in of_group.values())
    expected = ("train", "val", "test")[: len(of_group)]
    assert set(chosen) == set(expected)


def test_a_rare_class_gets_its_share_of_every_split() -> None:
    presence = [frozenset({0, 1} if n % 20 == 3 else {0}) for n in range(200)]
    chosen = deal(presence, range(200), RATIOS, 5)
    assert Counter(chosen) == {"train": 140, "val": 20, "test": 40}
    rare = Counter(split for split, labels in zip(chosen, presence, strict=True) if 1 in labels)
    assert rare == {"train": 7, "val": 1, "test": 2}


@pytest.mark.parametrize("seed", range(4))
def test_every_class_gets_its_share(seed: int) -> None:
    random = np.random.default_rng(seed)
    often = np.array([0.9, 0.5, 0.3, 0.1, 0.05, 0.03])
    presence = [frozenset(np.flatnonzero(random.random(6) < often).tolist()) for _ in range(400)]
    chosen = deal(presence, range(400), RATIOS, seed)
    for label in range(6):
        images = [s for s, labels in zip(chosen, presence, strict=True) if label in labels]
        for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            wanted = share * len(images)
            assert abs(images.count(split) - wanted) <= max(1.5, 0.1 * wanted), (label, split)
    for split, share in (("train", 280), ("val", 40), ("test", 80)):
        assert abs(chosen.count(split) - share) <= 12


def test_the_seed_decides_which_images() -> None:
    presence = [frozenset({0})] * 50
    assert deal(presence, range(50), RATIOS, 1) != deal(presence, range(50), RATIOS, 2)


def test_without_a_share_there_is_no_test() -> None:
    assert set(deal([frozenset({0})] * 9, range(9), Ratios(80, 20, 0), 0)) == {"train", "val"}


@pytest.mark.parametrize(
    ("text", "ratios"),
    [("70/10/20", (70, 10, 20)), ("80/20", (80, 20, 0)), ("0.7/0.3/0", (0.7, 0.3, 0))],
)
def test_ratios(text: str, ratios: tuple[float, ...]) -> None:
    assert parse_ratios(text) == ratios


@pytest.mark.parametrize("text", ["", "1", "1/2/3/4", "a/b", "1/-1", "nan/1", "inf/1", "1e9/1"])
def test_malformed_ratios(text: str) -> None:
    rule = f"--ratios: shares are written TRAIN/VAL/TEST or TRAIN/VAL, got {text!r}; write 70/10/20"
    with refusal(ValueError, rule):
        parse_ratios(text)


@pytest.mark.parametrize("text", ["0/1", "1/0/1"])
def test_train_and_val_need_a_share(text: str) -> None:
    with refusal(ValueError, f"--ratios: train and val need a share, got {text!r}; write 70/10/20"):
        parse_ratios(text)


def data_set(root: Path) -> Path:
    """Write 20 images of two drives without lists; every fourth shows a dog."""
    names = [f"drive{n % 2}_{n:02d}" for n in range(20)]
    make_folder(root, all=names)
    (root / "ImageSets/Segmentation/all.txt").unlink()
    for n, name in enumerate(names):
        labels = np.ones((6, 8), np.uint8)
        labels[0, 0], labels[1, 1] = 0, 255
        labels[2, 2] = 2 if n % 4 == 0 else 1
        write_indices(root / "SegmentationClass" / f"{name}.png", labels)
    return root


def test_the_lists_of_a_folder(tmp_path: Path) -> None:
    root = data_set(tmp_path / "d")
    (root / "SegmentationClass/drive0_00.png").unlink()
    seen: list[tuple[int, int]] = []
    result = split_folder(root, progress=lambda *amount: seen.append(amount))
    lists = listed(root)
    assert {name: len(names) for name, names in lists.items()} == {"train": 13, "val": 2, "test": 4}
    assert result.without_mask == 1
    assert seen[-1] == (19, 19)
    for name, found in result.splits.items():
        dogs = sum(int(entry[-2:]) % 4 == 0 for entry in lists[name])
        images = len(lists[name])
        assert found.classes == {"background": images, "cat": images, "dog": dogs}
        assert found.images == found.groups == images
    assert check_folder(root).ok


def test_the_same_arguments_give_the_same_lists(tmp_path: Path) -> None:
    root = data_set(tmp_path / "d")
    split_folder(root)
    first = listed(root)
    split_folder(root, force=True)
    assert listed(root) == first
    split_folder(root, seed=1, force=True)
    assert listed(root) != first


def test_frames_of_one_drive_stay_together(tmp_path: Path) -> None:
    root = data_set(tmp_path / "d")
    result = split_folder(root, group="^(drive[0-9])_")
    assert {name: len(names) for name, names in listed(root).items()} == {"train": 10, "val": 10}
    assert {name: found.groups for name, found in result.splits.items()} == {"train": 1, "val": 1}
    for names in listed(root).values():
        assert len({name[:6] for name in names}) == 1
    # Dogs are on drive0 alone, and training needs them first.
    assert result.lacking == {"val": ["dog"]}


def test_lists_are_replaced_only_on_demand(tmp_path: Path) -> None:
    root = data_set(tmp_path / "d")
    split_folder(root)
    folder = root / "ImageSets/Segmentation"
    (folder / "mine.txt").write_text("drive0_00\n")
    before = listed(root)
    text = (
        f"{folder}: lists are not replaced, got train.txt, val.txt, test.txt; "
        "pass --force to replace them"
    )
    with refusal(DataError, text):
        split_folder(root, ratios=Ratios(50, 50, 0))
    assert listed(root) == before
    # A list for testing without a share would hold images of the new train.txt.
    split_folder(root, ratios=Ratios(50, 50, 0), force=True)
    assert {name: len(names) for name, names in listed(root).items()} == {
        "train": 10,
        "val": 10,
        "mine": 1,
    }


def test_a_kill_between_two_lists_leaves_no_lists_that_do_not_belong_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = data_set(tmp_path / "d")
    split_folder(root)
    write, written = split_module.atomic_write, []

    def killed(path: Path, content: bytes) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(split_module, "atomic_write", killed)
    with pytest.raises(KeyboardInterrupt):
        split_folder(root, seed=1, force=True)
    assert list(listed(root)) == ["train"]


@pytest.mark.parametrize(
    ("group", "kind", "text"),
    [
        (
            "(",
            ValueError,
            "--group: must be a regular expression, got (, missing ), unterminated subpattern at "
            "position 0; write '^(drive[0-9]+)_'",
        ),
        (
            "a",
            ValueError,
            "--group: must have one group in parentheses, got 0 in a; write '^(drive[0-9]+)_'",
        ),
        (
            "(a)(b)",
            ValueError,
            "--group: must have one group in parentheses, got 2 in (a)(b); write '^(drive[0-9]+)_'",
        ),
        (
            "^(drive1)_",
            DataError,
            "--group: every name must match ^(drive1)_, got drive0_00; change --group",
        ),
        (
            "drive|(x)",
            DataError,
            "--group: every name must match drive|(x), got drive0_00; change --group",
        ),
    ],
)
def test_groups_that_do_not_fit(
    group: str, kind: type[Exception], text: str, tmp_path: Path
) -> None:
    root = data_set(tmp_path / "d")
    with refusal(kind, text):
        split_folder(root, group=group)
    assert listed(root) == {}


def test_a_broken_mask_and_none_at_all(tmp_path: Path) -> None:
    root = data_set(tmp_path / "d")
    write_indices(root / "SegmentationClass/drive0_00.png", np.full((6, 8), 9, np.uint8))
    text = (
        f"{root}/SegmentationClass/drive0_00.png: labels are 0..2 or 255, got 9 (48 px); "
        "mend the mask or name the class in labelmap.txt"
    )
    with refusal(DataError, text):
        split_folder(root)
    assert listed(root) == {}
    for path in (root / "SegmentationClass").iterdir():
        path.unlink()
    with refusal(
        DataError, (f"{root}: some image must have a mask, got none; name masks like their images")
    ):
        split_folder(root)
