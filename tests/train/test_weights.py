from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import Tensor, nn

from fcnkit.errors import ArtifactError, FcnkitError
from fcnkit.train.models import create_model
from fcnkit.train.weights import ModelOptions, initial_model, load_weights
from tests.refusal import refusal
from tests.train.networks import lively, save_network

FCN = "fcn32s-resnet18"


def chapters_network(num_classes: int) -> nn.Sequential:
    """Build the network as the d2l.ai chapter writes it, with its own statistics."""
    torch.manual_seed(4)
    net = nn.Sequential(*list(torchvision.models.resnet18().children())[:-2])
    net.add_module("final_conv", nn.Conv2d(512, num_classes, 1))
    up = nn.ConvTranspose2d(num_classes, num_classes, kernel_size=64, padding=16, stride=32)
    net.add_module("transpose_conv", up)
    net(torch.randn(2, 3, 64, 64))
    return net.eval()


def chapters_file(folder: Path, num_classes: int = 5) -> Path:
    torch.save(chapters_network(num_classes).state_dict(), folder / "d2l.pt")
    return folder / "d2l.pt"


def saved(architecture: str, folder: Path, num_classes: int = 5) -> Path:
    save_network(lively(architecture, num_classes), architecture, folder / "other.pt")
    return folder / "other.pt"


def start(architecture: str, path: Path, num_classes: int = 5) -> tuple[dict[str, Tensor], str]:
    """Return the state after loading, and the summary."""
    net, loaded = initial_model(
        ModelOptions(architecture=architecture, init_from=path), num_classes
    )
    assert loaded is not None
    assert set(loaded.loaded) | set(loaded.left) == set(net.state_dict())
    return net.state_dict(), loaded.summary()


def test_the_chapters_state_dict_computes_what_the_chapters_network_does(tmp_path: Path) -> None:
    path = chapters_file(tmp_path)
    net, loaded = initial_model(ModelOptions(init_from=path), 5)
    assert loaded is not None
    assert loaded.summary() == f"124 of 124 tensors from {path} (fcn32s-resnet18)"
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(x), chapters_network(5)(x), rtol=1e-4, atol=1e-5)


def test_a_head_for_other_classes_is_left_and_named(tmp_path: Path) -> None:
    path = chapters_file(tmp_path)
    torch.manual_seed(0)
    fresh = create_model(FCN, 3).state_dict()
    torch.manual_seed(0)
    state, summary = start(FCN, path, num_classes=3)
    assert summary == (
        f"120 of 124 tensors from {path} (fcn32s-resnet18); "
        "left at their initialization: final_conv, transpose_conv"
    )
    theirs = chapters_network(5).state_dict()
    assert torch.equal(state["backbone.layer4.1.bn2.running_var"], theirs["7.1.bn2.running_var"])
    assert torch.equal(state["final_conv.weight"], fresh["final_conv.weight"])
    assert torch.equal(state["transpose_conv.weight"], fresh["transpose_conv.weight"])


def test_a_checkpoint_of_the_same_network_is_taken_whole(tmp_path: Path) -> None:
    path = saved("unet", tmp_path)
    state, summary = start("unet", path)
    assert summary == f"{len(state)} of {len(state)} tensors from {path} (unet)"
    expected = lively("unet", 5).state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("source", "target", "left"),
    [
        # The paper's way from coarse to fine.
        (FCN, "fcn16s-resnet18", "skip_convs, skip_upsamplings, transpose_conv"),
        ("fcn16s-resnet18", "fcn8s-resnet18", "skip_convs.1, skip_upsamplings.1, transpose_conv"),
        (FCN, "unet-resnet18", "decoder, transpose_conv"),
        ("deeplabv3-resnet18", "deeplabv3os8-resnet18", "transpose_conv"),
    ],
)
def test_another_network_on_the_same_backbone_gives_what_they_share(
    source: str, target: str, left: str, tmp_path: Path
) -> None:
    path = saved(source, tmp_path)
    state, summary = start(target, path)
    assert summary.endswith(f" ({source}); left at their initialization: {left}")
    expected = lively(source, 5).state_dict()
    assert all(torch.equal(state[k], v) for k, v in expected.items() if k.startswith("backbone."))


def test_a_network_on_another_backbone_is_refused(tmp_path: Path) -> None:
    path = saved("fcn8s-resnet18", tmp_path)
    for target in ("fcn8s-resnet34", "unet"):
        with refusal(
            ArtifactError,
            f"{path}: weights for {target} must come from a network with the same backbone, "
            "got fcn8s-resnet18; use a network on resnet18",
        ):
            start(target, path)
    path = saved("unet", tmp_path)
    with refusal(
        ArtifactError,
        f"{path}: weights for unet-resnet18 must come from a network with the same backbone, "
        "got unet; use --model unet",
    ):
        start("unet-resnet18", path)


def test_a_refused_file_leaves_the_network_alone(tmp_path: Path) -> None:
    net = create_model("fcn8s-resnet34", 5)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ArtifactError):
        load_weights(net, "fcn8s-resnet34", saved(FCN, tmp_path))
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


RULE = (
    "must be a checkpoint, or the state dict of the d2l.ai chapter's network or of a torchvision "
    "ResNet"
)
REMEDY = "give a best.pt, or a file of torch.save(net.state_dict())"


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda s: s.pop("5.0.conv1.weight"), "no 5.0.conv1.weight"),
        (lambda s: s.update({"8.weight": torch.zeros(2)}), "8.weight of shape (2,)"),
        (
            lambda s: s.update({"0.weight": torch.zeros(64, 1, 7, 7)}),
            "0.weight of shape (64, 1, 7, 7)",
        ),
        (lambda s: s.pop("final_conv.bias"), "no final_conv.bias"),
        (
            lambda s: s.update({"transpose_conv.weight": torch.zeros(4, 4, 64, 64)}),
            "transpose_conv.weight of shape (4, 4, 64, 64)",
        ),
        (lambda s: s.update({"note": "hello"}), "note of type str"),
    ],
)
def test_other_state_dicts_are_refused(change: object, got: str, tmp_path: Path) -> None:
    state = chapters_network(5).state_dict()
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ArtifactError) as caught:
        start(FCN, tmp_path / "x.pt")
    text = str(caught.value)
    if got.startswith("no final_conv.bias"):
        # Without the bias the number of classes is unknown, and the weight is the first to differ.
        got = "final_conv.weight of shape (5, 512, 1, 1)"
    assert text == f"{tmp_path}/x.pt: {RULE}, got {got}; {REMEDY}"


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with refusal(
        ArtifactError,
        f"{path}: must be a checkpoint file, got no file; give a best.pt or last.pt of a run",
    ):
        start(FCN, path)
    torch.save([1, 2], path)
    with refusal(ArtifactError, f"{path}: {RULE}, got list; {REMEDY}"):
        start(FCN, path)
    torch.save(chapters_network(2), path)
    with pytest.raises(ArtifactError) as caught:
        start(FCN, path)
    assert str(caught.value).startswith(
        f"{path}: must be a checkpoint that torch can read without running code, got "
    )
    assert "\n" not in str(caught.value)


def test_two_origins_exclude_each_other(tmp_path: Path) -> None:
    options = ModelOptions(pretrained=True, init_from=tmp_path / "x.pt")
    with refusal(
        ValueError,
        "--init-from: weights come from a file or from ImageNet, not from both, "
        "got --pretrained as well; leave one of the two out",
    ):
        initial_model(options, 3)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for torch.hub's downloads."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def imagenet_like(path: Path, name: str = "resnet18") -> dict[str, Tensor]:
    torch.manual_seed(9)
    state: dict[str, Tensor] = torchvision.models.get_model(name, weights=None).state_dict()
    torch.save(state, path)
    return state


@pytest.mark.parametrize(
    "architecture",
    [
        FCN,
        "unet-resnet18",
        "fpn-resnet18",
        "deeplabv3-resnet18",
        "lraspp-mobilenet_v3_large",
    ],
)
def test_pretrained_takes_torchvisions_weights_from_the_cache(architecture: str, hub: Path) -> None:
    name = architecture.partition("-")[2]
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    expected = imagenet_like(hub / url.rpartition("/")[2], name)
    state = create_model(architecture, 3, pretrained=True).state_dict()
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k[:9] == "backbone."}
    head = ("fc.", "classifier.")
    assert set(backbone) == {key for key in expected if not key.startswith(head)}
    assert all(torch.equal(value, expected[key]) for key, value in backbone.items())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server on this machine: its address and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", folder
        listening.shutdown()
        thread.join()


def serve_weights_from(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url=url))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: weights)


def test_pretrained_downloads_once(
    hub: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    expected = imagenet_like(folder / "x.pth")
    digest = hashlib.sha256((folder / "x.pth").read_bytes()).hexdigest()
    name = f"resnet18-{digest[:8]}.pth"
    (folder / "x.pth").rename(folder / name)
    serve_weights_from(f"{address}/{name}", monkeypatch)
    for _ in range(2):
        state = create_model(FCN, 3, pretrained=True).state_dict()
        assert torch.equal(state["backbone.conv1.weight"], expected["conv1.weight"])
        (folder / name).unlink(missing_ok=True)


def test_a_failed_download_is_one_line_and_leaves_no_file(
    hub: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    imagenet_like(folder / "resnet18-00000000.pth")
    remedy = f"check the connection, or put a whole file into {hub}"
    for name, got in (
        ("resnet18-00000000.pth", 'invalid hash value (expected "00000000", got "'),
        ("resnet18-11111111.pth", "HTTP Error 404: File not found; "),
    ):
        url = f"{address}/{name}"
        serve_weights_from(url, monkeypatch)
        with pytest.raises(FcnkitError) as caught:
            create_model(FCN, 3, pretrained=True)
        text = str(caught.value)
        assert text.startswith(f"{url}: must be fetched whole, got {got}")
        assert text.endswith(f"; {remedy}")
        assert list(hub.iterdir()) == []
    (hub / "resnet18-11111111.pth").write_bytes(b"half a file")
    with pytest.raises(FcnkitError, match="must be fetched whole"):
        create_model(FCN, 3, pretrained=True)
