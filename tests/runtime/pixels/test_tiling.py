from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.runtime.pixels import tiling as ft
from tests.reference import tiling as ref

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
WIDTHS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, -1.0], np.float32)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([11, *seed])


def some_image(height: int, width: int) -> NDArray[np.uint8]:
    return rng(height, width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@st.composite
def plans(draw: st.DrawFn) -> ft.TilePlan:
    multiple = draw(st.sampled_from([1, 2, 4, 32]))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 150))
    if draw(st.booleans()):
        return ft.plan_padded(height, width, multiple=multiple)
    sides = st.integers(1, 40).map(lambda n: n * multiple)
    tile = draw(st.none() | st.tuples(sides, sides))
    limit = ft.plan_tiles(height, width, tile=tile, multiple=multiple).tile
    overlap = draw(st.integers(0, min(limit) - 1))
    plan = ft.plan_tiles(height, width, tile=tile, overlap=overlap, multiple=multiple)
    # More tiles than that add nothing but time.
    return plan if len(plan) <= 60 else ft.plan_tiles(height, width, multiple=multiple)


@SLOW
@given(plan=plans())
def test_plans_cover_every_pixel(plan: ft.TilePlan) -> None:
    h, w = plan.tile
    covered = np.zeros((plan.height, plan.width), int)
    for top, left in plan:
        assert 0 <= top < plan.height
        assert 0 <= left < plan.width
        covered[top : top + h, left : left + w] += 1
    assert covered.min() >= 1
    assert len(plan) == len(list(plan)) == len(plan.tops) * len(plan.lefts)
    assert list(plan) == sorted(plan)
    leaves = any(t + h > plan.height or x + w > plan.width for t, x in plan)
    assert plan.padded == leaves


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    multiple=st.sampled_from([1, 8, 32]),
)
def test_largest_tiles_make_at_most_four(height: int, width: int, multiple: int) -> None:
    plan = ft.plan_tiles(height, width, multiple=multiple)
    assert len(plan) <= 4
    for side, extent, starts in zip(
        plan.tile, (height, width), (plan.tops, plan.lefts), strict=True
    ):
        assert side % multiple == 0
        assert side == max(extent // multiple, 1) * multiple
        assert starts == ((0,) if side >= extent else (0, extent - side))


@pytest.mark.parametrize(
    ("size", "options", "tile", "tops", "lefts"),
    [
        ((375, 500), {}, (352, 480), (0, 23), (0, 20)),
        ((320, 480), {}, (320, 480), (0,), (0,)),
        ((1080, 1920), {"tile": (320, 480)}, (320, 480), (0, 253, 506, 760), (0, 480, 960, 1440)),
        ((100, 100), {"tile": (64, 64), "overlap": 32}, (64, 64), (0, 18, 36), (0, 18, 36)),
        ((100, 100), {"tile": (128, 64)}, (96, 64), (0, 4), (0, 36)),
        ((96, 200), {"tile": 96}, (96, 96), (0,), (0, 52, 104)),
        ((20, 100), {"tile": 64}, (32, 64), (0,), (0, 36)),
        ((1, 1), {}, (32, 32), (0,), (0,)),
    ],
)
def test_plans(
    size: tuple[int, int],
    options: dict[str, Any],
    tile: tuple[int, int],
    tops: tuple[int, ...],
    lefts: tuple[int, ...],
) -> None:
    plan = ft.plan_tiles(*size, **options)
    assert (plan.tile, plan.tops, plan.lefts) == (tile, tops, lefts)
    assert plan.padded == (size[0] < 32 or size[1] < 32)


def test_plan_padded() -> None:
    assert ft.plan_padded(375, 500) == ft.TilePlan(375, 500, 384, 512, (0,), (0,))
    assert ft.plan_padded(375, 500).padded
    assert not ft.plan_padded(320, 480).padded


@pytest.mark.parametrize(
    ("size", "options", "error", "text"),
    [
        ((0, 5), {}, ValueError, "plan_tiles: height: must be 1..16777216, got 0"),
        ((5.0, 5), {}, TypeError, "plan_tiles: height: must be an integer, got float"),
        ((500, 500), {"tile": (100, 96)}, ValueError,
         "plan_tiles: tile: sides must be multiples of 32, got 100; use 128"),
        ((500, 500), {"tile": (96,)}, ValueError, "plan_tiles: tile: must be (height, width)"),
        ((500, 500), {"tile": 96, "overlap": 96}, ValueError,
         "plan_tiles: overlap: must be less than the tile's side, 96, got 96"),
        ((500, 500), {"overlap": -1}, ValueError, "plan_tiles: overlap: must be 0.."),
        ((500, 500), {"multiple": 0}, ValueError, "plan_tiles: multiple: must be 1.."),
    ],
)  # fmt: skip
def test_plans_refused(
    size: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        ft.plan_tiles(*size, **options)


@pytest.mark.parametrize(
    "tops", [(), (1,), (0, 40), (0, 30, 30, 60), (0, 200), (0, 32), (0, 32, 64, 100)]
)
def test_grids_with_gaps_are_refused(tops: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="TilePlan: tops: tiles of 32 must cover 100 pixels"):
        ft.TilePlan(100, 32, 32, 32, tops, (0,))


@SLOW
@given(plan=plans())
def test_cut_and_gather(isa: str, plan: ft.TilePlan) -> None:
    image = some_image(plan.height, plan.width)
    np.testing.assert_array_equal(ft.cut(image, plan), ref.cut(image, plan))
    exact = ref.gather(image, plan, MEAN, STD)
    singles = ft.gather(image, plan, mean=MEAN, std=STD)
    assert singles.dtype.name == "float32"
    np.testing.assert_allclose(singles, exact, rtol=0, atol=2.4e-7 * 1.5 / 0.224)
    halves = ft.gather(image, plan, mean=MEAN, std=STD, dtype=np.float16)
    assert halves.dtype.name == "float16"
    np.testing.assert_allclose(halves, exact, rtol=2**-10, atol=2e-6)


@pytest.mark.parametrize("width", WIDTHS)
def test_gather_at_every_width(isa: str, width: int) -> None:
    image = some_image(5, width)
    plan = ft.TilePlan(5, width, 5, width, (0,), (0,))
    exact = ref.gather(image, plan, MEAN, STD)
    bounds = ((np.float32, 2.4e-7 * 1.5 / 0.224), (np.float16, 2e-3))
    for dtype, bound in bounds:
        memory: NDArray[Any] = np.full(15 * width + 33, 77, dtype)
        out = memory[1 : 1 + 15 * width].reshape(1, 3, 5, width)
        assert ft.gather(image, plan, mean=MEAN, std=STD, dtype=dtype, out=out) is out
        np.testing.assert_allclose(out, exact, rtol=0, atol=bound)
        assert memory[0] == 77
        assert (memory[1 + 15 * width :] == 77).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 40), (33, 31)])
def test_tiny_images_reflect_again_and_again(isa: str, size: tuple[int, int]) -> None:
    for plan in (ft.plan_padded(*size), ft.plan_tiles(*size)):
        image = some_image(*size)
        np.testing.assert_array_equal(ft.cut(image, plan), ref.cut(image, plan))


def as_type(values: NDArray[np.float32], kind: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The values in another type, and what that type makes of them in float32."""
    if kind == "bfloat16":
        typed: NDArray[Any] = values.astype(ml_dtypes.bfloat16)
    else:
        with np.errstate(over="ignore"):
            typed = values.astype(kind)
    return typed, typed.astype(np.float32)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("width", WIDTHS)
def test_argmax_at_every_width(isa: str, width: int, kind: str) -> None:
    for classes in (1, 2, 3, 21, 64, 255, 256):
        values = rng(width, classes).normal(0, 3, (2, classes, 1, width)).astype(np.float32)
        typed, exact = as_type(values, kind)
        memory = np.full(2 * width + 65, 0xA5, np.uint8)
        out = memory[1 : 1 + 2 * width].reshape(2, 1, width)
        assert ft.argmax(typed, out=out) is out
        np.testing.assert_array_equal(out, np.argmax(exact, axis=1))
        assert memory[0] == 0xA5
        assert (memory[1 + 2 * width :] == 0xA5).all()


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("classes", [1, 2, 3, 21, 256])
def test_argmax_of_ties_nan_and_infinity(isa: str, classes: int, kind: str) -> None:
    for seed, values in enumerate((SPECIAL, SPECIAL[1:], SPECIAL[3:])):
        logits = rng(seed).choice(values, (1, classes, 7, 131)).astype(np.float32)
        typed, exact = as_type(logits, kind)
        np.testing.assert_array_equal(ft.argmax(typed), np.argmax(exact, axis=1))


@SLOW
@given(plane=st.lists(st.integers(0, 65535), min_size=1, max_size=600), brain=st.booleans())
def test_argmax_of_any_bits(isa: str, plane: list[int], brain: bool) -> None:
    bits = np.array(plane, np.uint16)[None, :, None, None][:, :256]
    exact = ref.from_bfloat16_bits(bits) if brain else bits.view(np.float16).astype(np.float32)
    got = ft.argmax(bits, bfloat16=True) if brain else ft.argmax(bits.view(np.float16))
    assert got.item() == np.argmax(exact, axis=1).item()


def test_every_half_is_read_right(isa: str) -> None:
    """Each 16-bit value against its neighbors in the order of floats."""
    bits = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256)
    pair = np.concatenate([bits, rng(1).permutation(bits.ravel()).reshape(bits.shape)], axis=1)
    halves, brains = pair.view(np.float16), ref.from_bfloat16_bits(pair)
    np.testing.assert_array_equal(ft.argmax(halves), np.argmax(halves.astype(np.float32), axis=1))
    np.testing.assert_array_equal(ft.argmax(pair, bfloat16=True), np.argmax(brains, axis=1))


def whole_logits(plan: ft.TilePlan, classes: int, seed: int) -> NDArray[np.float32]:
    """Small whole numbers: every sum is exact and there are many ties."""
    shape = (len(plan), classes, *plan.tile)
    return rng(seed).integers(-40, 40, shape).astype(np.float32)


@SLOW
@given(plan=plans(), classes=st.sampled_from([1, 2, 5, 21]), seed=st.integers(0, 99))
def test_stitch_is_exact(isa: str, plan: ft.TilePlan, classes: int, seed: int) -> None:
    logits = whole_logits(plan, classes, seed)
    # The labels of exact sums: a common divisor does not matter, its rounding would.
    sums = ref.mean_logits(logits * 5040.0, plan)
    expected = np.argmax(np.round(sums * 1024), axis=0)
    for typed in (logits, logits.astype(np.float16), logits.astype(ml_dtypes.bfloat16)):
        np.testing.assert_array_equal(ft.stitch(typed, plan), expected)


@SLOW
@given(plan=plans(), seed=st.integers(0, 99))
def test_stitch_of_any_logits(isa: str, plan: ft.TilePlan, seed: int) -> None:
    logits = rng(seed).normal(0, 5, (len(plan), 7, *plan.tile)).astype(np.float32)
    mean = ref.mean_logits(logits.astype(np.float64), plan)
    labels = ft.stitch(logits, plan)
    chosen = np.take_along_axis(mean, labels[None].astype(np.int64), axis=0)[0]
    assert (mean.max(axis=0) - chosen).max() <= 1e-5


@SLOW
@given(plan=plans(), kind=st.sampled_from(["float32", "float16", "bfloat16"]))
def test_stitcher_hands_out_the_same_rows_early(isa: str, plan: ft.TilePlan, kind: str) -> None:
    values = rng(len(plan)).normal(0, 5, (len(plan), 6, *plan.tile)).astype(np.float32)
    logits, _ = as_type(values, kind)
    stitcher = ft.Stitcher(plan.height, plan.width, 6, plan)
    rows: list[NDArray[np.uint8]] = []
    at = 0
    for index, tile in enumerate(logits):
        assert not stitcher.done
        finished = stitcher.add(tile)
        assert (finished is None) == ((index + 1) % len(plan.lefts) != 0)
        if finished is not None:
            first, labels = finished
            assert first == at
            at += len(labels)
            later = plan.tops[(index + 1) // len(plan.lefts) :]
            assert at == (later[0] if later else plan.height)
            rows.append(labels)
    assert stitcher.done
    np.testing.assert_array_equal(np.vstack(rows), ft.stitch(logits, plan))
    with pytest.raises(ValueError, match=r"Stitcher\.add: the plan has \d+ tiles, got one more"):
        stitcher.add(logits[0])


def test_stitch_with_nan_and_infinity(isa: str) -> None:
    plan = ft.plan_tiles(40, 70, tile=32, overlap=16)
    logits = rng(5).choice(SPECIAL, (len(plan), 3, *plan.tile)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        mean = ref.mean_logits(logits.astype(np.float64), plan)
    np.testing.assert_array_equal(ft.stitch(logits, plan), np.argmax(mean, axis=0))


def test_stitch_has_monai_as_outside_oracle() -> None:
    torch = pytest.importorskip("torch")
    inferers = pytest.importorskip("monai.inferers")
    # At most two tiles per side: a third MONAI puts elsewhere.
    plan = ft.plan_tiles(120, 180, tile=(64, 96))
    logits = rng(6).normal(0, 2, (len(plan), 5, *plan.tile)).astype(np.float32)
    seen: list[int] = []

    def predictor(batch: Any) -> Any:
        first = len(seen)
        seen.extend(range(first, first + len(batch)))
        return torch.from_numpy(logits[first : first + len(batch)])

    image = torch.zeros(1, 3, 120, 180)
    mean = inferers.sliding_window_inference(image, plan.tile, 4, predictor, overlap=0.0)
    assert len(seen) == len(plan)
    difference = np.abs(mean[0].numpy() - ref.mean_logits(logits.astype(np.float64), plan))
    assert difference.max() < 1e-5
    labels = ft.stitch(logits, plan)
    assert (labels == mean[0].numpy().argmax(axis=0)).mean() > 0.9999


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_nothing(isa: str, threads: int) -> None:
    plan = ft.plan_tiles(700, 901, tile=320, overlap=17)
    image = some_image(700, 901)
    np.testing.assert_array_equal(ft.cut(image, plan, threads=threads), ref.cut(image, plan))
    options: dict[str, Any] = {"mean": MEAN, "std": STD}
    one = ft.gather(image, plan, **options, threads=1)
    np.testing.assert_array_equal(ft.gather(image, plan, **options, threads=threads), one)
    padded = ft.plan_padded(700, 901)
    np.testing.assert_array_equal(ft.cut(image, padded, threads=threads), ref.cut(image, padded))
    logits = whole_logits(plan, 5, 1)
    np.testing.assert_array_equal(ft.argmax(logits, threads=threads), np.argmax(logits, axis=1))
    expected = np.argmax(np.round(ref.mean_logits(logits * 5040.0, plan) * 1024), axis=0)
    np.testing.assert_array_equal(ft.stitch(logits, plan, threads=threads), expected)
    stitcher = ft.Stitcher(700, 901, 5, plan)
    finished = [stitcher.add(tile, threads=threads) for tile in logits]
    rows = [rows[1] for rows in finished if rows is not None]
    np.testing.assert_array_equal(np.vstack(rows), expected)


PLAN = ft.plan_tiles(40, 70)
IMAGE = np.zeros((40, 70, 3), np.uint8)
LOGITS = np.zeros((len(PLAN), 4, *PLAN.tile), np.float32)


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (IMAGE.astype(np.float32), {}, TypeError, "image_hwc: dtype must be uint8, got float32"),
        (IMAGE[:39], {}, ValueError, "gather: image_hwc: the plan is for 40x70, got 39x70"),
        (np.zeros((3, 40, 70), np.uint8), {}, ValueError,
         "got (3, 40, 70); this looks channels-first"),
        (IMAGE[..., ::-1], {}, ValueError, "gather: image_hwc: must be C-contiguous"),
        (IMAGE, {"dtype": np.float64}, TypeError, "gather: dtype: must be float32 or float16"),
        (IMAGE, {"std": [1, 0, 1]}, ValueError, "gather: std: must be 3 finite numbers above 0"),
        (IMAGE, {"mean": [1, 0]}, ValueError, "gather: mean: must be 3 finite numbers, got"),
        (IMAGE, {"out": np.zeros((1, 3, 32, 64), np.float32)}, ValueError,
         "gather: out: must have shape (4, 3, 32, 64)"),
    ],
)  # fmt: skip
def test_gather_refuses(
    image: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        ft.gather(image, PLAN, **({"mean": MEAN, "std": STD} | options))


@pytest.mark.parametrize(
    ("logits", "options", "error", "text"),
    [
        (LOGITS.astype(np.float64), {}, TypeError,
         "dtype must be float32 or float16 or bfloat16, got float64"),
        (LOGITS.astype(np.uint16), {}, TypeError, "or pass bfloat16=True with the bits as uint16"),
        (LOGITS, {"bfloat16": True}, TypeError, "dtype must be uint16, got float32"),
        (LOGITS.astype(">f4"), {}, TypeError, "dtype must be float32 or float16"),
        (LOGITS[0], {}, ValueError, "with 1 <= K <= 256, got (4, 32, 64)"),
        (np.zeros((1, 257, 2, 2), np.float32), {}, ValueError, "got (1, 257, 2, 2)"),
        (np.zeros((1, 0, 2, 2), np.float32), {}, ValueError, "got (1, 0, 2, 2)"),
        (LOGITS[:, ::2], {}, ValueError, "must be C-contiguous"),
    ],
)  # fmt: skip
def test_logits_refused(
    logits: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        ft.argmax(logits, **options)
    with pytest.raises(error, match=re.escape(text)):
        ft.stitch(logits, PLAN, **options)


def test_stitch_and_stitcher_refuse_other_plans() -> None:
    with pytest.raises(ValueError, match=re.escape("must be 4 tiles of 32x64, as planned")):
        ft.stitch(LOGITS[:3], PLAN)
    with pytest.raises(TypeError, match="stitch: plan: must be a TilePlan, got list"):
        ft.stitch(LOGITS, [(0, 0)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Stitcher: the plan is for 40x70, got 41x70"):
        ft.Stitcher(41, 70, 4, PLAN)
    with pytest.raises(ValueError, match=re.escape("must have shape (4, 32, 64), got (5, 32, 64)")):
        ft.Stitcher(40, 70, 4, PLAN).add(np.zeros((5, 32, 64), np.float32))
    with pytest.raises(ValueError, match=r"Stitcher: classes: must be 1\.\.256, got 257"):
        ft.Stitcher(40, 70, 257, PLAN)


def test_empty_batches(isa: str) -> None:
    assert ft.argmax(np.zeros((0, 3, 4, 5), np.float32)).shape == (0, 4, 5)
    assert ft.argmax(np.zeros((2, 3, 0, 5), np.float32)).shape == (2, 0, 5)
