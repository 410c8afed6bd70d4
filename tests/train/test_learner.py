from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcnkit.errors import FcnkitError
from fcnkit.train.checkpoint import Checkpoint, checkpoint_spec, load_checkpoint, save_checkpoint
from fcnkit.train.learner import Learner
from fcnkit.train.recipe import RECIPES
from tests.train.tiny import TinyNet

RECIPE = replace(RECIPES["modern"], precision="fp32", ema=0.9)
CLASSES, PALETTE = ("a", "b"), ((0, 0, 0), (9, 9, 9))


def new_net() -> TinyNet:
    torch.manual_seed(0)
    return TinyNet(2)


def step(learner: Learner, seed: int) -> float:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 32, 32, generator=random)
    return learner.step(x, torch.randint(0, 2, (2, 32, 32), generator=random), 1e-2)


def saved(learner: Learner, *, resume: bool = True) -> Checkpoint:
    return Checkpoint(
        spec=checkpoint_spec("fcn32s-resnet18", CLASSES, PALETTE),
        model=learner.model(),
        resume=learner.state() if resume else None,
        epoch=1,
        recipe=learner.recipe,
        scores={},
    )


def test_the_deployed_weights_are_the_moving_average() -> None:
    learner = Learner(new_net(), RECIPE)
    average: torch.Tensor | None = None
    for count in range(30):
        step(learner, count)
        now = learner.net.get_parameter("features.0.weight").detach().clone()
        decay = min(0.9, (1 + count) / (10 + count))
        average = now if average is None else decay * average + (1 - decay) * now
    assert average is not None
    deployed = learner.deployed.get_parameter("features.0.weight")
    torch.testing.assert_close(deployed, average)
    assert not torch.equal(deployed, learner.net.get_parameter("features.0.weight"))
    assert torch.equal(learner.model()["features.0.weight"], deployed)


def test_a_step_counts_the_pixels_that_were_right() -> None:
    learner = Learner(new_net(), RECIPE)
    x, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
    labels[0, :5] = 255
    learner.net.train()
    best = learner.net(x).argmax(1)
    _, right, known = learner.step(x, labels, 1e-2)
    assert (right, known) == (int((best == labels).sum()), 2 * 32 * 32 - 5 * 32)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_loaded_learner_goes_on_as_the_saved_one(ema: float, tmp_path: Path) -> None:
    recipe = replace(RECIPE, ema=ema)
    weights = torch.tensor([0.5, 1.5])
    a = Learner(new_net(), recipe, class_weights=weights)
    for seed in range(3):
        step(a, seed)
    b = Learner(new_net(), recipe, class_weights=weights)
    save_checkpoint(tmp_path / "x.pt", saved(a))
    b.load(load_checkpoint(tmp_path / "x.pt"))
    assert [step(a, seed) for seed in (7, 8)] == [step(b, seed) for seed in (7, 8)]
    assert all(torch.equal(value, b.model()[key]) for key, value in a.model().items())
    state = a.state()
    assert state["class_weights"] == [0.5, 1.5]
    assert (state["net"] is None, state["updates"]) == ((True, None) if not ema else (False, 5))


def test_best_does_not_resume() -> None:
    learner = Learner(new_net(), RECIPE)
    with pytest.raises(FcnkitError) as caught:
        learner.load(saved(learner, resume=False))
    assert str(caught.value) == (
        "resume: a run continues from a checkpoint that holds the optimizer, got a best.pt; "
        "use last.pt"
    )


def test_infinite_weights_are_noticed() -> None:
    learner = Learner(new_net(), RECIPE)
    assert learner.is_finite()
    with torch.no_grad():
        learner.net.get_parameter("features.0.weight")[0] = float("nan")
    assert not learner.is_finite()
