"""The segmenter against a slow numpy reference, for many sizes, heads, covers and shape ranges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fcnkit.errors import ArtifactError
from fcnkit.runtime import (
    Cover,
    CoverRequest,
    Segmenter,
    choose_covering,
    load,
    open_backend,
)
from fcnkit.runtime.artifacts.spec import Head, ModelSpec, Shape
from fcnkit.runtime.backends.base import CheckedBackend
from fcnkit.runtime.pixels import tiling
from tests.reference.segment import Net, assert_same_labels, average, largest_multiple, pad
from tests.refusal import refusal
from tests.runtime.models import MEAN, STD, make_info, make_spec, weights, write_model

SHARED = Path(__file__).parents[4] / "shared" / "data"
SIDES = (1, 2, 3, 16, 31, 32, 33, 63, 64, 65, 96, 97)
SIZES = [(1, 1), (1, 131), (97, 131), (131, 97), (33, 1), (31, 33), (32, 32), (64, 96), (95, 97)]
SIZES += [(a, b) for i, a in enumerate(SIDES) for b in SIDES[i % 3 :: 3]]


def net() -> Net:
    return (*weights(), MEAN, STD)


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth enough that classes form regions, rough enough that borders matter."""
    random = np.random.default_rng(height * 1000 + width)
    rough = random.integers(0, 256, (height, width, 3))
    waves = 127 + 127 * np.sin(np.arange(height)[:, None, None] / 9 + np.arange(width)[:, None] / 5)
    return ((rough + waves) / 2).astype(np.uint8)


def reference(image: NDArray[np.uint8], head: Head, cover: Cover) -> NDArray[np.float64]:
    if head == "scene":
        return pad(image, 1, 32, net())
    if cover == "pad":
        return pad(image, 32, 32, net())
    tile = (largest_multiple(image.shape[0]), largest_multiple(image.shape[1]))
    return average(image, tile, net())


@pytest.fixture(scope="module", params=["logits-average", "logits-pad", "labels-pad", "scene"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Segmenter]:
    head, _, cover = request.param.partition("-")
    path = write_model(tmp_path_factory.mktemp("models") / f"{head}.onnx", make_spec(head))
    with load(path, cover=cover or None) as segmenter:
        yield segmenter


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_labels_equal_the_reference(opened: Segmenter, size: tuple[int, int]) -> None:
    image = picture(*size)
    kept = image.copy()
    labels = opened(image)
    assert_same_labels(labels, reference(image, opened.spec.head, opened.cover))
    assert np.array_equal(image, kept)


def test_strides_do_not_matter(opened: Segmenter) -> None:
    image = picture(50, 70)
    wide = np.zeros((100, 140, 3), np.uint8)
    wide[::2, ::2] = image
    wide.flags.writeable = False
    assert np.array_equal(opened(wide[::2, ::2]), opened(image))
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert np.array_equal(opened(image[:, ::-1]), opened(mirrored))


def test_the_result_is_the_callers_own(opened: Segmenter) -> None:
    first = opened(picture(40, 40))
    kept = first.copy()
    opened(picture(41, 40))
    assert np.array_equal(first, kept)
    assert first.flags.c_contiguous
    first[:] = 0


def test_averaging_matters(tmp_path: Path) -> None:
    """The covers are different things here, so that the tests above can tell them apart."""
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    image = picture(97, 131)
    with load(path, cover="average") as mean, load(path, cover="pad") as padded:
        assert (mean(image) != padded(image)).any()


REAL = [
    "images/catdog.jpg",
    "images/terrain1.jpg",
    "voc2012-subset/JPEGImages",
    "camvid/JPEGImages",
]


@pytest.mark.parametrize("name", REAL)
def test_real_pictures(opened: Segmenter, name: str) -> None:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no real data: {path} is not there")
    files = [path] if path.is_file() else sorted(path.iterdir())[:3]
    assert files
    for file in files:
        with Image.open(file) as image:
            image_hwc = np.array(image.convert("RGB"))[:683, :1024]  # the reference is slow
        expected = reference(image_hwc, opened.spec.head, opened.cover)
        assert_same_labels(opened(image_hwc), expected)


@pytest.mark.parametrize("size", [(40, 50), (64, 96), (96, 64), (130, 70), (20, 200), (200, 20)])
@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((1, 32, 32), (4, 64, 64)),  # large pictures: a grid, in batches of four
        ((1, 64, 96), (1, 64, 96)),  # one shape only, one tile at a time
        ((1, 96, 64), (3, 128, 160)),
    ],
)
def test_average_within_a_legal_range(
    tmp_path: Path, size: tuple[int, int], low: Shape, high: Shape
) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits", low=low, high=high))
    image = picture(*size)
    tile_height, tile_width = (
        max(a, min(largest_multiple(side), b))
        for side, a, b in zip(size, low[1:], high[1:], strict=True)
    )
    with load(path, overlap=0) as segmenter:
        labels = segmenter(image)
    assert_same_labels(labels, average(image, (tile_height, tile_width), net()))


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (65, 96), (64, 97), (130, 200)])
def test_auto_pads_where_one_pass_covers(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits", high=(2, 64, 96)))
    image = picture(*size)
    one_pass = size[0] <= 64 and size[1] <= 96
    with load(path) as auto, load(path, cover="pad" if one_pass else "average") as other:
        assert (auto.cover, auto.overlap) == ("auto", 32)
        assert auto.plan(*size) == other.plan(*size)
        assert (len(auto.plan(*size)) == 1) == one_pass
        assert np.array_equal(auto(image), other(image))


def test_overlap_costs_nothing_where_the_tile_does_not_fit(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("logits"))
    with load(path, tile=(64, 64), overlap=40) as segmenter:
        plan = segmenter.plan(63, 500)
        assert (plan.tile, plan.tops) == ((32, 64), (0, 31))
        steps = np.diff(plan.lefts)
        assert steps.max() <= 24
        assert steps.min() >= steps.max() - 1


def test_pad_grows_to_the_smallest_legal_shape(tmp_path: Path) -> None:
    spec = make_spec("labels", low=(1, 96, 64), high=(1, 128, 128))
    image = picture(40, 70)
    with load(write_model(tmp_path / "m.onnx", spec)) as segmenter:
        labels = segmenter(image)
    grown = np.pad(image, ((0, 56), (0, 26), (0, 0)), mode="reflect")
    assert_same_labels(labels, pad(grown, 32, 32, net())[:40, :70])


class Counting(CheckedBackend):
    """A backend that is not a library: every logit 0 except the last class; it counts the
    batches."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, name="counting", info=make_info())
        self.batches: list[int] = []
        self.freed = 0

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        self.batches.append(len(batch))
        logits = np.zeros((len(batch), self.spec.num_classes, *batch.shape[2:]), np.float32)
        logits[:, -1] = 1
        return logits

    def _free(self) -> None:
        self.freed += 1


def test_tiles_go_in_batches_of_the_largest_legal_size() -> None:
    backend = Counting(make_spec("logits", high=(4, 32, 32)))
    with Segmenter(backend, overlap=0) as segmenter:
        labels = segmenter(picture(96, 96))
        assert (labels == 3).all()
        assert segmenter.backend is backend
    assert backend.batches == [3, 3, 3]  # never of two rows of tiles together
    segmenter.close()
    assert backend.freed == 1


def test_one_thread_for_the_model_is_one_for_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int | None] = []
    for name in ("cut", "gather", "stitch"):
        kernel = getattr(tiling, name)

        def spy(*args: Any, kernel: Any = kernel, **options: Any) -> Any:
            given.append(options["threads"])
            return kernel(*args, **options)

        monkeypatch.setattr(tiling, name, spy)
    for head in ("logits", "labels"):
        path = write_model(tmp_path / f"{head}.onnx", make_spec(head))
        with load(path, threads=1) as segmenter:
            segmenter(picture(40, 70))
    assert given == [1, 1, 1]


@pytest.mark.parametrize(
    ("head", "cover", "text"),
    [
        (
            "labels",
            "average",
            (
                "Segmenter: a model with head labels takes cover='pad', got 'average'; "
                "a labels graph gives no logits to average; use cover='pad', "
                "or export with --head scores, logits or scene"
            ),
        ),
        (
            "scene",
            "pad",
            (
                "Segmenter: a model with head scene takes cover='average', got 'pad'; "
                "a scene graph covers the picture by itself; leave cover out, "
                "or export with --head labels"
            ),
        ),
        (
            "logits",
            "blend",
            "Segmenter: cover must be 'auto', 'average' or 'pad', got blend; leave it out",
        ),
    ],
)
def test_covers_that_a_head_cannot_do(tmp_path: Path, head: Head, cover: Cover, text: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec(head))
    with refusal(ValueError, text):
        load(path, cover=cover)


def test_default_covers(tmp_path: Path) -> None:
    covers = []
    for head in ("logits", "scores", "labels", "scene"):
        with load(write_model(tmp_path / "m.onnx", make_spec(head))) as segmenter:
            covers.append(segmenter.cover)
    assert covers == ["auto", "auto", "pad", "average"]


@pytest.mark.parametrize(
    ("head", "remedy"),
    [
        ("logits", "use cover='average'"),
        ("labels", "make the picture smaller, or use a model with head scores or logits"),
    ],
)
def test_a_picture_too_large_for_one_pass(tmp_path: Path, head: Head, remedy: str) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec(head, high=(2, 64, 96)))
    text = (
        "Segmenter: one pass of this model covers at most 1x64x96, "
        f"got a picture of 65x96; {remedy}"
    )
    with load(path, cover="pad") as segmenter, refusal(ValueError, text):
        segmenter(picture(65, 96))


RULE = (
    "Segmenter: with color='RGB', image must have shape (H, W, 3) or (H, W, 4), "
    "H and W 1..16777216, got"
)


@pytest.mark.parametrize(
    ("image", "kind", "text"),
    [
        (
            [[0]],
            TypeError,
            (
                "Segmenter: image must be a numpy array of uint8, got list; "
                "pass np.asarray(picture.convert('RGB')) of a Pillow picture"
            ),
        ),
        (
            np.zeros((4, 4, 3), np.float32),
            TypeError,
            (
                "Segmenter: image must be a numpy array of uint8, got array of float32; "
                "pass np.asarray(picture.convert('RGB')) of a Pillow picture"
            ),
        ),
        (
            np.zeros((4, 4), np.uint8),
            ValueError,
            f"{RULE} (4, 4); pass color='GRAY' for a gray image",
        ),
        (
            np.zeros((3, 8, 9), np.uint8),
            ValueError,
            f"{RULE} (3, 8, 9); this looks channels-first, pass image.transpose(1, 2, 0)",
        ),
        (
            np.zeros((1, 4, 4, 3), np.uint8),
            ValueError,
            f"{RULE} (1, 4, 4, 3); pass one image",
        ),
        (
            np.zeros((0, 4, 3), np.uint8),
            ValueError,
            f"{RULE} (0, 4, 3); pass one image, with pixels",
        ),
    ],
)
def test_wrong_pictures(opened: Segmenter, image: Any, kind: type[Exception], text: str) -> None:
    with refusal(kind, text):
        opened(image)


def test_openvino_answers_like_onnxruntime(tmp_path: Path) -> None:
    for head in ("logits", "scores", "labels", "scene"):
        path = write_model(tmp_path / f"{head}.onnx", make_spec(head))
        image = picture(75, 101)
        with load(path, backend="onnxruntime") as one, load(path, backend="openvino") as other:
            assert (one(image) == other(image)).mean() >= 0.999


def test_a_closed_segmenter_refuses(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_spec("labels"))
    with Segmenter(open_backend(path)) as segmenter:
        pass
    text = "onnxruntime.infer: the backend must be open, got a closed one; open it"
    with refusal(ValueError, text):
        segmenter(picture(40, 40))


def test_load_passes_errors_on(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    with refusal(ArtifactError, f"{path}: must be a model file, got no such file; check the path"):
        load(path)


# --- the request ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (
            {"cover": "blend"},
            ValueError,
            "Segmenter: cover must be 'auto', 'average' or 'pad', got blend; leave it out",
        ),
        (
            {"cover": ["pad"]},
            ValueError,
            "Segmenter: cover must be 'auto', 'average' or 'pad', got ['pad']; leave it out",
        ),
        (
            {"tile": 64},
            TypeError,
            "Segmenter: tile must be two integers (height, width), got 64; pass tile=(512, 512)",
        ),
        (
            {"tile": (64, 64.0)},
            TypeError,
            "Segmenter: tile must be two integers (height, width), got (64, 64.0); "
            "pass tile=(512, 512)",
        ),
        (
            {"tile": (64, 64, 3)},
            TypeError,
            "Segmenter: tile must be two integers (height, width), got (64, 64, 3); "
            "pass tile=(512, 512)",
        ),
        (
            {"overlap": True},
            TypeError,
            "Segmenter: overlap must be an int, got True; pass overlap=64",
        ),
    ],
)
def test_a_wrong_cover_is_refused_before_a_model_is_opened(
    tmp_path: Path, given: dict[str, Any], kind: type[Exception], text: str
) -> None:
    for make in (CoverRequest, partial(load, tmp_path / "no such file.onnx")):
        with refusal(kind, text):
            make(**given)


def test_a_request_and_keywords_mean_the_same(tmp_path: Path) -> None:
    backend = open_backend(write_model(tmp_path / "m.onnx", make_spec("logits")))
    given: dict[str, Any] = {"tile": (64, 96), "overlap": 8}
    with Segmenter(backend, **given) as one:
        other = Segmenter.of(backend, CoverRequest(**given))
        assert (other.cover, other.tile, other.overlap) == ("average", (64, 96), 8)
        assert other.plan(300, 400) == one.plan(300, 400)
        assert choose_covering(backend.spec, CoverRequest(**given)).plan(9, 9) == one.plan(9, 9)
        assert choose_covering(backend.spec).cover == "auto"
