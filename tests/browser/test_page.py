"""The page of ``fcnkit export web`` in a real browser gives fcnkit's labels."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import shutil
import threading
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fcnkit
from fcnkit.export.web import ORT_VERSION, write_web_page
from fcnkit.runtime.pixels.palette import encode
from tests.node import npm_folder, run

PACKAGES = (f"onnxruntime-web@{ORT_VERSION}", "playwright-core@1.65.1", "axe-core@4.14.1")
SIZES = ((97, 131), (63, 250), (33, 45))
"""Height and width of the pictures: odd sides and no multiples of 32."""
SAME = 0.9999
"""Share of pixels with fcnkit's label: another library adds up in another order."""


class Quiet(SimpleHTTPRequestHandler):
    """A static web server, as ``python -m http.server`` is one."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def packages() -> Path:
    return npm_folder("browser", PACKAGES)


@pytest.fixture(scope="module")
def pictures(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    sources = sorted((shapes_folder / "JPEGImages").iterdir())
    paths = []
    for (height, width), source in zip(SIZES, sources, strict=False):
        paths.append(folder / f"{height}x{width}.png")
        with Image.open(source) as image:
            image.convert("RGB").resize((width, height)).save(paths[-1])
    return paths


def drive(site: Path, settings: dict[str, Any], packages: Path) -> dict[str, Any]:
    """Serve a page, use it in headless Chromium, and return what was seen."""
    browsers = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, browsers)), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        given = {**settings, "url": url, "chromium": found}
        script = Path(__file__).parent / "drive.js"
        modules = str(packages / "node_modules")
        done = run("node", script, json.dumps(given), NODE_PATH=modules, timeout=600)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return {**seen, "url": url}


@dataclass(frozen=True)
class Visitor:
    """Looks at pages of the models."""

    exported: dict[str, Path]
    pictures: list[Path]
    packages: Path

    def visit(self, head: str, site: Path, **more: str) -> dict[str, Any]:
        """Visit the page of a model, and add the labels that fcnkit gives."""
        files = {"pictures": [str(path) for path in self.pictures], "flags": [], **more}
        seen = drive(site, files, self.packages)
        with fcnkit.load(self.exported[head]) as segmenter:
            images = [np.asarray(Image.open(path)) for path in self.pictures]
            seen["expected"] = [segmenter(image) for image in images]
            seen["spec"] = segmenter.spec
        return seen


@pytest.fixture(scope="module")
def visitor(exported: dict[str, Path], pictures: list[Path], packages: Path) -> Visitor:
    return Visitor(exported, pictures, packages)


@pytest.fixture(scope="module")
def tour(visitor: Visitor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a visitor sees of a page with head ``scene`` who tries everything."""
    folder = tmp_path_factory.mktemp("visit")
    broken, large = folder / "broken.png", folder / "large.jpg"
    broken.write_bytes(visitor.pictures[0].read_bytes()[:200])
    Image.effect_noise((5000, 4000), 90).convert("RGB").save(large)
    more = {"broken": str(broken), "large": str(large), "shots": str(folder)}
    write_web_page(visitor.exported["scene"], folder / "site", ort=visitor.packages)
    return visitor.visit("scene", folder / "site", **more)


@pytest.fixture(scope="module")
def glance(visitor: Visitor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same of a visitor who only labels pictures, with head ``labels`` and the public address.

    The browser gets the files of that address from the npm package.
    """
    site = tmp_path_factory.mktemp("visit") / "site"
    address = write_web_page(visitor.exported["labels"], site).runtime
    facts = json.loads((site / "model.json").read_text("utf-8"))
    (site / "model.json").write_text(json.dumps({**facts, "notes": ["Two.", "Notes."]}), "utf-8")
    answers = str(visitor.packages / "node_modules" / "onnxruntime-web" / "dist")
    where = {"address": address, "answers": answers}
    return {**visitor.visit("labels", site, **where), **where}


@pytest.fixture(params=["tour", "glance"])
def visit(request: pytest.FixtureRequest) -> dict[str, Any]:
    seen: dict[str, Any] = request.getfixturevalue(request.param)
    return seen


def labels_of(answer: dict[str, Any], palette: object) -> NDArray[np.uint8]:
    """Read the labels from the colors that lie over the picture."""
    shape = answer["height"], answer["width"], 4
    rgba = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(shape)
    # Only black, the color of the background, is left out at first.
    assert (rgba[rgba[..., 3] == 0] == 0).all()
    colors = np.ascontiguousarray(rgba[..., :3])
    found = encode(colors, palette)  # type: ignore[arg-type]
    assert found.unknown == 0
    return found.labels


def test_it_gives_the_labels_of_load(visit: dict[str, Any]) -> None:
    for answer, expected in zip(visit["pictures"], visit["expected"], strict=True):
        labels = labels_of(answer, visit["spec"].palette)
        assert labels.shape == expected.shape
        assert (labels == expected).mean() >= SAME
    assert len(np.unique(np.concatenate([e.ravel() for e in visit["expected"]]))) > 1


def test_it_names_classes_and_their_shares(visit: dict[str, Any]) -> None:
    for answer in visit["pictures"]:
        labels = labels_of(answer, visit["spec"].palette)
        counts = np.bincount(labels.ravel())
        order = sorted(np.flatnonzero(counts), key=lambda label: -counts[label])
        rows = [
            [visit["spec"].classes[label], f"{100 * counts[label] / labels.size:.1f} %"]
            for label in order
        ]
        assert answer["rows"] == rows
        height, width = labels.shape
        name = f"{height}x{width}.png"
        assert answer["caption"] == f"{name}: {width} x {height} pixels"
        assert answer["status"].startswith(f"{name} labeled in ")


def test_a_broken_file_and_a_large_picture_get_an_answer(tour: dict[str, Any]) -> None:
    assert tour["broken"] == (
        "broken.png: this browser cannot read it as a picture. Save it as PNG or JPEG."
    )
    large = tour["large"]
    assert (large["width"], large["height"]) == (1088, 864)
    assert large["caption"] == "large.jpg: 5000 x 4000 pixels, scaled down to 1088 x 864"
    assert large["status"].startswith("large.jpg labeled in ")


def test_the_keyboard_and_the_camera(tour: dict[str, Any]) -> None:
    assert tour["opacity"] == "0"
    (first, shown), *_ = [row for row in tour["pictures"][-1]["rows"] if row[0] != "background"]
    assert tour["hidden"][0] == first
    assert abs(tour["hidden"][1] - float(shown.split()[0]) / 100) < 1e-3
    caption, button = tour["camera"]
    assert caption.startswith("Camera: 640 x 480 pixels, labeled at ")
    assert button == "Stop the camera"
    assert tour["off"] == ["The camera is off.", "Use the camera"]


def test_nothing_leaves_the_page_and_nothing_is_wrong_with_it(tour: dict[str, Any]) -> None:
    assert tour["errors"] == []
    assert tour["findings"] == []
    assert tour["overflow"] <= 0
    sent = [(method, url) for method, url in tour["requests"] if not url.startswith("data:")]
    assert all(method == "GET" for method, _ in sent)
    assert all(url.removeprefix("blob:").startswith(tour["url"]) for _, url in sent)
    assert len(sent) > 6


def test_the_public_address_and_what_the_page_says_of_itself(glance: dict[str, Any]) -> None:
    assert glance["errors"] == []
    elsewhere = {
        url
        for _, url in glance["requests"]
        if url.startswith("http") and not url.startswith(glance["url"])
    }
    names = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    assert elsewhere == {glance["address"] + name for name in names}
    assert glance["runtime"] == (
        "Model: labels, 6 classes. It runs on WebAssembly with one thread. Two. Notes."
    )


@pytest.mark.parametrize("graph", ["web", "plain"])
def test_webgpu_is_used_where_it_gives_the_same_labels(
    graph: str, exported: dict[str, Path], pictures: list[Path], packages: Path, tmp_path: Path
) -> None:
    """Chromium's own software GPU; the graph as it was exported gives other labels there."""
    flags = [
        "--enable-unsafe-webgpu",
        "--enable-features=Vulkan",
        "--use-webgpu-adapter=swiftshader",
    ]
    site, model = tmp_path / "site", exported["scene"]
    write_web_page(model, site, ort=packages)
    if graph == "plain":
        facts = json.loads((site / "model.json").read_text("utf-8"))
        content = (site / "model.onnx").write_bytes(model.read_bytes())
        digest = base64.b64encode(hashlib.sha256(model.read_bytes()).digest()).decode()
        facts["model"] |= {"bytes": content, "integrity": f"sha256-{digest}"}
        (site / "model.json").write_text(json.dumps(facts), "utf-8")
    seen = drive(site, {"pictures": [str(pictures[0])], "flags": flags}, packages)
    assert seen["errors"] == []
    with fcnkit.load(model) as segmenter, Image.open(pictures[0]) as image:
        expected = segmenter(np.asarray(image))
        labels = labels_of(seen["pictures"][0], segmenter.spec.palette)
    assert (labels == expected).mean() >= SAME
    if "WebGPU" not in seen["runtime"]:
        pytest.skip("this Chromium has no software GPU")
    if graph == "web":
        assert seen["runtime"] == "Model: scene, 6 classes. It runs on WebGPU."
    else:
        assert "because WebGPU gave the same label on only" in seen["runtime"]
