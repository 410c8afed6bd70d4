"""The comparison of models finds wrong ones: a handful of the mutants of ``benchmarks/mutants``."""

from __future__ import annotations

import pytest

from benchmarks.mutants import SOUND, Stand
from benchmarks.mutants_list import MUTANTS
from fcnkit.train.data.shapes import write_shapes

NETWORK = "fcn32s-resnet18"
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    folder = tmp_path_factory.mktemp("mutants")
    write_shapes(folder / "shapes", train=16, val=1, seed=0)
    return Stand(NETWORK, folder)


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    assert len(BY_NAME) == len(MUTANTS) >= 60


@pytest.mark.parametrize(
    ("head", "name", "reason"),
    [
        # Only one class wins on noise, so that the swap shows with balanced classes only.
        ("labels", "last: two rare classes swapped", "largest margin of balanced classes "),
        ("labels", "batch in reverse", "label agreement of a picture "),
        ("logits", "statistics of the batch", "max error "),
        ("logits", "first: weights in bfloat16", "max error "),
        ("scene", "right tile placed at the left", "label agreement "),
    ],
)
def test_a_mutant_is_caught(stand: Stand, head: str, name: str, reason: str) -> None:
    trial = stand.verified(head, "fp32", BY_NAME[name])
    assert trial is not None
    assert trial.caught
    assert reason in trial.reason


@pytest.mark.parametrize("head", ["logits", "labels", "scene"])
def test_the_sound_graph_passes(stand: Stand, head: str) -> None:
    trial = stand.verified(head, "fp32", SOUND)
    assert trial is not None
    assert not trial.caught, trial.reason


def test_an_error_above_batch_1_is_caught_after_a_build(stand: Stand) -> None:
    trial = stand.built("labels", BY_NAME["first picture for the whole batch"])
    assert trial is not None
    assert trial.caught
    begin = "mutant: must agree with sound within the tolerance of fp32, got label agreement "
    assert trial.reason.startswith(begin)
