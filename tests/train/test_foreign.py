"""Networks that fcnkit did not write: a factory of the user's, torchvision's, backbones of timm."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from fcnkit.errors import ArtifactError, FcnkitError
from fcnkit.train import parallel
from fcnkit.train.checkpoint import load_model, read_archive
from fcnkit.train.frozen import frozen_copy
from fcnkit.train.models import create_model
from fcnkit.train.models.foreign import ForeignNet, is_factory, register_factory
from fcnkit.train.models.registry import NETWORKS
from fcnkit.train.weights import ModelOptions, initial_model
from tests.cli.shell import called, fcnkit
from tests.refusal import refusal

SOURCE = '''
import pathlib
from torch import nn

pathlib.Path(__file__).with_name("imported").touch()


class Net(nn.Module):
    """Scores at a quarter of the size, and an auxiliary result that nobody takes."""

    def __init__(self, classes):
        super().__init__()
        self.one = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        )
        self.score = nn.Conv2d(16, classes, 1)
        self.aux_score = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        return {"out": self.score(self.one(x)), "aux": self.aux_score(self.one[:3](x))}


def make(num_classes):
    return Net(num_classes)


def three():
    return Net(3)


def broken(num_classes):
    raise RuntimeError("no such file: weights.bin")


number = 7
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module ``nets_of_a_user``, from which commands are called."""
    (tmp_path / "nets_of_a_user.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "nets_of_a_user", raising=False)
    known = dict(NETWORKS)
    yield tmp_path
    NETWORKS.clear()
    NETWORKS.update(known)
    sys.modules.pop("nets_of_a_user", None)


NAME = "nets_of_a_user:make"
COMMON = ["--recipe", "modern", "--crop", "32x32", "--batch", "16", "--workers", "0"]


def done(*arguments: object) -> str:
    """Run a command that leaves nothing imported and registered, as a new process would."""
    run = called(*arguments)
    NETWORKS.pop(NAME, None)
    sys.modules.pop("nets_of_a_user", None)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_it_trains_is_killed_resumes_exports_and_evaluates(
    package: Path, shapes_folder: Path
) -> None:
    run, model = package / "run", ["--model", NAME]
    command = ["train", shapes_folder, "-o", run, *COMMON, *model, "--precision", "fp32"]
    code = "from fcnkit.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command), "--epochs", "500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not (run / "last.pt").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    rows = len((run / "metrics.jsonl").read_text().splitlines())
    epochs = rows + 2
    told = done(*command, "--resume", "--epochs", epochs)
    assert f"epoch {epochs}: loss " in told
    assert "epoch 1: " not in told
    assert len((run / "metrics.jsonl").read_text().splitlines()) == epochs
    best = run / "best.pt"
    scores = json.loads(done("eval", best, shapes_folder, *model, "--json"))
    for head in ("logits", "labels", "scene"):
        file = package / f"{head}.onnx"
        told = done("export", "onnx", best, "-o", file, "--head", head, *model)
        assert "labels equal" in told or "agree" in told
        exported = json.loads(done("eval", file, shapes_folder, "--json"))
        assert exported["mean_iou"] == pytest.approx(scores["mean_iou"], abs=2e-3)
    done("verify", best, package / "labels.onnx", *model)


def test_a_checkpoint_never_imports_what_it_names(package: Path, shapes_folder: Path) -> None:
    run, model = package / "run", ["--model", NAME]
    done("train", shapes_folder, "-o", run, *COMMON, *model, "--epochs", "1")
    (package / "imported").unlink()
    best = run / "best.pt"
    rule = (
        f"error: {best}: create_model: architecture: a factory is imported only where it is named "
        f"by you, got {NAME}; add --model {NAME} (Python: fcnkit.train.register_factory)\n"
    )
    for command in (
        ["eval", best, shapes_folder],
        ["predict", best, shapes_folder / "JPEGImages", "-o", "out"],
        ["export", "onnx", best, "-o", "m.onnx"],
        ["verify", best, best],
        ["bench", "latency", best, "--runs", "2"],
        ["train", shapes_folder, "-o", "other", "--init-from", best],
    ):
        refused = called(*command)
        assert (refused.returncode, refused.stderr) == (2, rule), command
    facts = json.loads(done("info", best, "--json"))
    assert facts["spec"]["architecture"] == NAME
    assert facts["parameters"] == sum(p.numel() for p in _module().parameters())
    assert not (package / "imported").exists()
    told = fcnkit("predict", best, shapes_folder / "JPEGImages", "-o", "out", *model)
    assert told.returncode == 0, told.stderr
    assert (package / "imported").exists()


def _module() -> nn.Module:
    space: dict[str, Any] = {"__file__": os.devnull + "/x"}
    exec(SOURCE.replace("pathlib.Path(__file__)", "#"), space)
    module: nn.Module = space["make"](6)  # the classes of the shapes
    return module


def test_two_processes_train_it(package: Path, shapes_folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = ["train", shapes_folder, "-o", "run", *COMMON, "--model", NAME, "--epochs", "1"]
    code = "from fcnkit.cli import main; main()"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, command), "--device", "cpu"],
            env={
                **os.environ,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "WORLD_SIZE": "2",
                "RANK": rank,
                "LOCAL_RANK": rank,
                "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    ends = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert (package / "run" / "best.pt").exists()


def test_what_the_scores_do_not_depend_on_is_not_trained(package: Path) -> None:
    register_factory(NAME)
    net = create_model(NAME, 4)
    assert isinstance(net, ForeignNet)
    assert net.unused == ("aux_score.weight", "aux_score.bias")
    assert not net.module.get_parameter("aux_score.weight").requires_grad
    x = torch.randn(2, 3, 64, 32)
    scores = net.eval().module(x)["out"]
    wanted = nn.functional.interpolate(scores, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(net(x), wanted)
    assert torch.equal(net.labels(x), wanted.argmax(1).float())


def test_factories_that_do_not_fit_are_refused(package: Path) -> None:
    made = create_named("nets_of_a_user:three", 3)
    assert made(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    name = "nets_of_a_user:three"
    with refusal(
        ArtifactError,
        f"{name}: scores must be of 4 classes, got 3; build it with num_classes",
    ):
        create_named(name, 4)
    with refusal(
        FcnkitError,
        "nets_of_a_user:broken: the factory must return an nn.Module, got no such file: "
        "weights.bin; add --debug to see where it fails",
    ):
        create_named("nets_of_a_user:broken", 4)
    with refusal(
        FcnkitError,
        "--model: the factory must be a function or class that returns an nn.Module, got "
        "nets_of_a_user:number of type int; name a function",
    ):
        register_factory("nets_of_a_user:number")
    with refusal(
        FcnkitError,
        "--model: the factory must be importable, got no_such_module:make: No module named "
        "'no_such_module'; see what python -c \"import no_such_module\" says in this folder",
    ):
        register_factory("no_such_module:make")
    with refusal(
        ValueError,
        "--model: a network of yours is named package.module:factory, got a b:c; write for "
        "example mypackage.nets:make_net",
    ):
        register_factory("a b:c")


def create_named(name: str, classes: int) -> nn.Module:
    register_factory(name)
    return create_model(name, classes)


@pytest.mark.parametrize(
    ("result", "rule"),
    [
        (
            lambda x: x.argmax(1),
            "net: scores must be (N, classes, H/s, W/s) for a whole s, got (2, 64, 96) for "
            "images (2, 3, 64, 96); return the scores before any argmax",
        ),
        (
            lambda x: x[:, :, :-1],
            "net: scores must be (N, classes, H/s, W/s) for a whole s, got (2, 3, 63, 96) for "
            "images (2, 3, 64, 96); return the scores before any argmax",
        ),
        (
            lambda x: [x],
            "network: the network must return a tensor, a dict with out, or an object with "
            ".logits, got list; return the class scores from forward",
        ),
        (
            lambda x: x.reshape(7, -1),
            "net: the network must take float images (2, 3, 64, 96), got shape '[7, -1]' is "
            "invalid for input of size 36864; fcnkit trains networks for sides that are multiples "
            "of 32",
        ),
    ],
)
def test_results_that_are_no_scores_are_refused(result: Any, rule: str) -> None:
    with refusal(ArtifactError, rule):
        ForeignNet(_Gives(result), 3, name="net")


class _Gives(nn.Module):
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, x: Tensor) -> Any:
        return self.result(x)


def test_an_object_with_logits_is_taken() -> None:
    net = ForeignNet(_Gives(lambda x: SimpleNamespace(logits=x[:, :, ::4, ::4])), 3, name="net")
    assert net(torch.zeros(1, 3, 32, 64)).shape == (1, 3, 32, 64)


class _OtherOrder(nn.Module):
    """Defines a convolution just before a normalization that comes before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        nn.init.uniform_(self.norm.running_mean, 1, 2)
        nn.init.uniform_(self.norm.running_var, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.conv(self.norm(x))
        return scores


def test_the_order_of_definition_means_nothing_in_a_foreign_network() -> None:
    net = ForeignNet(_OtherOrder(), 3, name="net").eval()
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(frozen_copy(net)(x), net(x))


def test_torchvision_networks_are_known_by_name() -> None:
    torch.manual_seed(1)
    net = create_model("torchvision:lraspp_mobilenet_v3_large", 5).eval()
    x = torch.randn(1, 3, 64, 96)
    assert isinstance(net, ForeignNet)
    torch.testing.assert_close(net(x), net.module(x)["out"])
    own = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )
    assert set(net.state_dict()) == {f"module.{key}" for key in own.state_dict()}
    assert not is_factory("torchvision:lraspp_mobilenet_v3_large")
    assert is_factory("torchvision:other")


timm = pytest.importorskip("timm", reason="the extra timm is not installed")


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "resnet18", "convnext_atto"])
@pytest.mark.parametrize("head", ["fcn8s", "fpn"])
def test_backbones_of_timm(head: str, backbone: str) -> None:
    torch.manual_seed(0)
    net = create_model(f"{head}-timm:{backbone}", 4)
    net.train()(torch.randn(2, 3, 64, 64))  # moves the statistics of batch normalizations
    net.eval()
    x = torch.randn(1, 3, 64, 96)
    assert net(x).shape == (1, 4, 64, 96)
    torch.testing.assert_close(frozen_copy(net)(x), net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "no_such_model"])
def test_backbones_without_these_features_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"^--backbone: a backbone must give features of the "
    ) as e:
        create_model(f"fpn-timm:{name}", 3)
    assert f"got timm:{name}: " in str(e.value)


def test_a_timm_network_trains_and_exports(shapes_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    model = ["--model", "fpn", "--backbone", "timm:mobilenetv3_small_050"]
    done("train", shapes_folder, "-o", run, *COMMON, *model, "--epochs", "1")
    _net, loaded = load_model(run / "best.pt")
    assert loaded.spec.architecture == "fpn-timm:mobilenetv3_small_050"
    done("export", "onnx", run / "best.pt", "-o", tmp_path / "m.onnx", "--head", "labels")


def test_shared_batch_norms_keep_timms_activations() -> None:
    layer = timm.layers.BatchNormAct2d(4).train()
    alone = nn.Sequential(layer)
    x = torch.randn(3, 4, 8, 8)
    wanted = nn.Sequential(timm.layers.BatchNormAct2d(4).train())(x)
    parallel._convert(alone)
    torch.testing.assert_close(alone(x), wanted)
    assert (alone(x) >= 0).all()


class _Scaled(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_derived_batch_norm_is_refused_in_several_processes() -> None:
    with refusal(
        FcnkitError,
        "training: several processes can train nn.BatchNorm2d, not classes derived from it, got "
        "_Scaled at 1; train in one process",
    ):
        parallel._check_norms(nn.Sequential(nn.Conv2d(3, 3, 1), _Scaled(3)))


def test_torchvisions_resnet_starts_the_backbone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    net = torchvision.models.resnet18()
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(net.state_dict(), path)
    started, loaded = initial_model(ModelOptions(init_from=path), 3)
    assert loaded is not None
    assert loaded.architecture == "resnet18"
    assert set(loaded.left) == {k for k in started.state_dict() if not k.startswith("backbone.")}
    for key, value in net.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(started.state_dict()[f"backbone.{key}"], value), key
    options = ModelOptions(architecture="fpn-resnet34", init_from=path)
    with refusal(
        ArtifactError,
        f"{path}: weights for fpn-resnet34 must come from a network with the same backbone, got "
        "resnet18; use a network on resnet18",
    ):
        initial_model(options, 3)
    state = dict(net.state_dict())
    state["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    torch.save(state, path)
    with refusal(
        ArtifactError,
        f"{path}: must be a checkpoint, or the state dict of the d2l.ai chapter's network or of a "
        "torchvision ResNet, got a ResNet that is none of resnet18, resnet34, resnet50, resnet101; "
        "give a best.pt, or a file of torch.save(net.state_dict())",
    ):
        initial_model(ModelOptions(init_from=path), 3)


def test_the_old_format_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pth", tmp_path / "new.pth"
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, old, _use_new_zipfile_serialization=False)
    with refusal(
        ArtifactError,
        f"{old}: must be a checkpoint that torch can read without running code, got the format of "
        "torch before 1.6, which is not a zip archive; write it again with "
        "torch.save(torch.load(FILE, weights_only=True), NEW_FILE)",
    ):
        read_archive(old)
    torch.save(torch.load(old, weights_only=True), new)
    again = read_archive(new)
    assert all(np.array_equal(again[key], value) for key, value in state.items())


def test_the_table_of_networks_is_not_changed_by_an_import() -> None:
    before = set(NETWORKS)
    importlib.import_module("fcnkit.train.models.foreign")
    assert set(NETWORKS) == before
