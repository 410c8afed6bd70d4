"""Fixtures that several test folders share: one tiny data set, one tiny run, its exports.

FCNKIT_TEST_KERNELS names another build of the extension, one with sanitizers or counters, to be
tested in place of the installed one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import settings

from tests import signal_stacks
from tests.tiers import tier_of

if TYPE_CHECKING:
    from fcnkit.export.heads import Core
    from fcnkit.train.models import SegmentationNet

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def _use_kernels(path: Path) -> None:
    """Put another build of the extension in place, before anything imports the installed one."""
    name = "fcnkit.runtime.pixels._kernels"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    from fcnkit.runtime.pixels import _kernels

    assert _kernels.__file__ == str(path)


if "FCNKIT_TEST_KERNELS" in os.environ:
    _use_kernels(Path(os.environ["FCNKIT_TEST_KERNELS"]).resolve())


settings.register_profile("fcnkit", deadline=None)  # no test depends on the machine's speed
settings.load_profile("fcnkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Choose a tier of tests/tiers.py; without the option every test is chosen."""
    parser.addoption("--tier", choices=("check", "test", "all"), default="all")
    parser.addoption("--only-tier", action="store_true", help="leave out the tiers below")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the chosen tier."""
    order = ("check", "test", "all")
    last = order.index(config.getoption("--tier"))
    tiers = order[last : last + 1] if config.getoption("--only-tier") else order[: last + 1]
    kept = [item for item in items if tier_of(item.nodeid) in tiers]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a worker of pytest-xdist ended too early, which its own message leaves out."""
    if error:
        process = node.gateway._io.popen  # it has no public name
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        # A negative code is the signal; None: it lives and has only closed its connection.
        print(f"worker {node.gateway.id} ended with code {process.poll()}", file=sys.stderr)


@pytest.fixture(autouse=True)
def signal_stack() -> Iterator[None]:
    """Fail the test that leaves a freed signal stack: the next signal would end the process."""
    yield
    if not signal_stacks.is_there():
        signal_stacks.give_up()
        pytest.fail("a library freed the signal stack of this thread; see tests/openvino_core.py")


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC-layout folder of 16 training and 4 validation pictures of shapes."""
    from fcnkit.train.data.shapes import write_shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, train=16, val=4, seed=7)
    return folder


@pytest.fixture(scope="session")
def run_folder(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two short epochs on the shapes."""
    pytest.importorskip("torch")
    from dataclasses import replace

    from fcnkit.train.loop import open_data, train
    from fcnkit.train.recipe import RECIPES

    recipe = replace(RECIPES["modern"], epochs=2, batch=8, crop=(96, 96), precision="fp32")
    run = tmp_path_factory.mktemp("run") / "run"
    train(open_data(shapes_folder, recipe), run, recipe, workers=0)
    return run


@pytest.fixture(scope="session")
def traced_once() -> Iterator[None]:
    """Trace the same network once per process: dozens of tests export one checkpoint."""
    from fcnkit.export import to_onnx

    trace, traced = to_onnx.trace_core, {}

    def once(net: SegmentationNet, classes: int, **options: Any) -> Core:
        weights = sha256()
        for name, tensor in net.state_dict().items():
            weights.update(name.encode() + tensor.numpy().tobytes())
        key = (repr(net), classes, *options.items(), weights.digest())
        if key not in traced:
            traced[key] = trace(net, classes, **options)
        return deepcopy(traced[key])

    with mock.patch.object(to_onnx, "trace_core", once):
        yield


@pytest.fixture(scope="session")
def exported(
    run_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    traced_once: None,
) -> dict[str, Path]:
    """The run's best checkpoint as ONNX, by head."""
    from fcnkit.export.to_onnx import export_onnx
    from fcnkit.runtime.artifacts.spec import Head

    out = tmp_path_factory.mktemp("exported")
    heads: tuple[Head, ...] = ("logits", "scores", "labels", "scene")
    for head in heads:
        export_onnx(run_folder / "best.pt", out / f"{head}.onnx", head=head, max_pixels=96 * 96)
    return {head: out / f"{head}.onnx" for head in heads}


def _real(folder: str, name: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"{name} is not beside the checkout")
    return path


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The real CamVid folder beside the checkout, where there is one."""
    return _real("camvid", "CamVid")


@pytest.fixture(scope="session")
def voc_subset() -> Path:
    """The real VOC 2012 subset beside the checkout, where there is one."""
    return _real("voc2012-subset", "the VOC 2012 subset")
