from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcnkit.runtime.pixels import palette as fp
from tests.reference import palette as ref

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTHS = (0, 1, 2, 3, 5, 15, 16, 17, 21, 22, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 193)
SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
VOC = fp.voc_palette(21)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([7, *seed])


def random_palette(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """n different colors, none of them VOC's void."""
    keys = rng(n, seed).choice(1 << 24, n + 1, replace=False)
    keys = keys[keys != (224 << 16 | 224 << 8 | 192)][:n]
    return np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=1).astype(np.uint8)


def colors_of(palette: NDArray[np.uint8]) -> ref.Colors:
    return [(r, g, b) for r, g, b in palette.tolist()]


def some_labels(shape: tuple[int, int], classes: int, seed: int = 0) -> NDArray[np.uint8]:
    """Every legal label, void included."""
    legal = np.append(np.arange(classes), 255) if classes < 256 else np.arange(256)
    return rng(*shape, classes, seed).choice(legal, shape).astype(np.uint8)


def guarded(shape: tuple[int, ...], dtype: Any = np.uint8) -> tuple[Any, Any]:
    """An unaligned array and the memory around it, filled with a pattern that must survive."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    lead = np.dtype(dtype).itemsize
    memory = np.full(size + 2 * 64 + lead, 0xA5, np.uint8)
    inner = memory[64 + lead : 64 + lead + size].view(dtype).reshape(shape)
    return inner, memory


def intact(memory: NDArray[np.uint8], inner: NDArray[Any]) -> bool:
    lead = inner.itemsize
    edge = np.concatenate([memory[: 64 + lead], memory[64 + lead + inner.nbytes :]])
    return bool((edge == 0xA5).all())


def test_voc_palette_is_the_development_kits() -> None:
    assert fp.voc_palette().tolist() == [list(ref.voc_color(label)) for label in range(256)]
    assert fp.voc_palette(21)[[0, 1, 15, 20]].tolist() == [
        [0, 0, 0], [128, 0, 0], [192, 128, 128], [0, 64, 128],
    ]  # fmt: skip
    assert tuple(fp.voc_palette()[255].tolist()) == fp.VOID_COLOR
    assert len(fp.VOC_CLASSES) == 21


@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17, 21, 31, 32, 33, 63, 64, 65, 128, 255, 256])
@pytest.mark.parametrize("width", WIDTHS)
def test_decode_and_encode_at_every_width(isa: str, width: int, classes: int) -> None:
    labels = some_labels((3, width), classes)
    palette = random_palette(classes)
    rgb, memory = guarded((3, width, 3))
    assert fp.decode(labels, palette, out=rgb) is rgb
    assert intact(memory, rgb)
    np.testing.assert_array_equal(rgb, ref.decode(labels, colors_of(palette), fp.VOID_COLOR))
    back, memory = guarded((3, width))
    encoded = fp.encode(rgb, palette, out=back)
    assert encoded.labels is back
    assert encoded.unknown == 0
    assert intact(memory, back)
    np.testing.assert_array_equal(back, labels)


@pytest.mark.parametrize("classes", range(1, 257))
def test_every_palette_size(isa: str, classes: int) -> None:
    palette = random_palette(classes, 1)
    labels = some_labels((5, 77), classes, 1)
    rgb = fp.decode(labels, palette)
    np.testing.assert_array_equal(rgb, ref.decode(labels, colors_of(palette), fp.VOID_COLOR))
    strange = rgb.copy()
    strange[rng(classes).random((5, 77)) < 0.3] ^= 1
    expected, missed = ref.encode(strange, colors_of(palette), fp.VOID_COLOR, 9)
    encoded = fp.encode(strange, palette, unknown=9)
    np.testing.assert_array_equal(encoded.labels, expected)
    assert encoded.unknown == missed


@pytest.mark.parametrize("classes", [1, 21, 40, 90, 255, 256])
def test_unknown_colors_everywhere(isa: str, classes: int) -> None:
    palette = fp.voc_palette(classes)
    rgb = rng(classes).integers(0, 256, (64, 67, 3), dtype=np.uint8)
    rgb[::3, ::2] = palette[rng(classes, 1).integers(0, classes, rgb[::3, ::2].shape[:2])]
    expected, missed = ref.encode(rgb, colors_of(palette), fp.VOID_COLOR, 255)
    encoded = fp.encode(rgb, palette)
    np.testing.assert_array_equal(encoded.labels, expected)
    assert encoded.unknown == missed
    assert sum(fp.unknown_colors(rgb, palette).values()) == missed


def test_one_byte_off_is_unknown(isa: str) -> None:
    palette = random_palette(21)
    for channel in range(3):
        for flip in (1, 2, 64, 128):
            rgb = np.repeat(palette[None], 4, axis=0)
            rgb[..., channel] ^= flip
            expected, missed = ref.encode(rgb, colors_of(palette), fp.VOID_COLOR, 255)
            encoded = fp.encode(rgb, palette)
            np.testing.assert_array_equal(encoded.labels, expected)
            assert encoded.unknown == missed


@SLOW
@given(
    height=st.integers(0, 5),
    width=st.integers(0, 300),
    classes=st.integers(1, 256),
    seed=st.integers(0, 2**32),
)
def test_encode_undoes_decode(isa: str, height: int, width: int, classes: int, seed: int) -> None:
    palette = random_palette(classes, seed)
    labels = some_labels((height, width), classes, seed)
    encoded = fp.encode(fp.decode(labels, palette), palette, unknown="error")
    np.testing.assert_array_equal(encoded.labels, labels)
    assert encoded.unknown == 0


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("width", WIDTHS)
def test_overlay(isa: str, width: int, alpha: float) -> None:
    image = rng(width).integers(0, 256, (3, width, 3), dtype=np.uint8)
    for classes in (1, 21, 40, 256):
        palette = random_palette(classes)
        labels = some_labels((3, width), classes)
        out, memory = guarded(image.shape)
        assert fp.overlay(image, labels, palette, alpha=alpha, out=out) is out
        assert intact(memory, out)
        exact = ref.overlay(image, labels, colors_of(palette), alpha)
        if alpha * 256 == round(alpha * 256):
            np.testing.assert_array_equal(out, np.floor(exact + 0.5))
        assert np.abs(out - exact).max(initial=0) < 1.0
        inside = image.copy()
        np.testing.assert_array_equal(
            fp.overlay(inside, labels, palette, alpha=alpha, out=inside), out
        )


def test_overlay_leaves_void_alone(isa: str) -> None:
    image = rng(3).integers(0, 256, (9, 130, 3), dtype=np.uint8)
    labels = np.full((9, 130), 255, np.uint8)
    np.testing.assert_array_equal(fp.overlay(image, labels, VOC, alpha=1.0), image)


def test_all_256_labels_leave_no_void(isa: str) -> None:
    palette = random_palette(256)
    labels = np.full((1, 70), 255, np.uint8)
    assert (fp.decode(labels, palette, void_color=(1, 2, 3)) == palette[255]).all()
    image = np.zeros((1, 70, 3), np.uint8)
    assert (fp.overlay(image, labels, palette, alpha=1.0) == palette[255]).all()
    masks = np.zeros((1, 70, 3), np.uint8) + np.array([224, 224, 192], np.uint8)
    assert (fp.encode(masks, palette).labels == 255).all()


@pytest.mark.parametrize("at", [0, 1, 31, 32, 63, 64, 65, 99])
@pytest.mark.parametrize(("classes", "label"), [(1, 1), (21, 21), (21, 254), (64, 64), (255, 254)])
def test_a_label_without_color_is_refused_anywhere(
    isa: str, at: int, classes: int, label: int
) -> None:
    labels = np.zeros((1, 100), np.uint8)
    labels[0, at] = label
    palette = random_palette(classes)
    image = np.zeros((1, 100, 3), np.uint8)
    if label < classes:
        fp.decode(labels, palette)
        return
    text = f"labels must be 0..{classes - 1} or 255, got {label}; "
    with pytest.raises(ValueError, match=re.escape(text)):
        fp.decode(labels, palette)
    with pytest.raises(ValueError, match=re.escape(text)):
        fp.overlay(image, labels, palette)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_nothing(isa: str, threads: int) -> None:
    labels = some_labels((1031, 2053), 21)
    rgb = fp.decode(labels, VOC, threads=threads)
    np.testing.assert_array_equal(rgb, np.vstack([fp.voc_palette()])[labels])
    rgb[5, 5] = 1
    encoded = fp.encode(rgb, VOC, threads=threads)
    labels[5, 5] = 255
    np.testing.assert_array_equal(encoded.labels, labels)
    assert encoded.unknown == 1
    blend = fp.overlay(rgb, labels, VOC, threads=threads)
    np.testing.assert_array_equal(blend, fp.overlay(rgb, labels, VOC, threads=1))


def test_palette_as_tuples() -> None:
    triples = ((0, 0, 0), (128, 0, 0))
    labels = np.array([[1, 0, 255]], np.uint8)
    np.testing.assert_array_equal(
        fp.decode(labels, triples, void_color=(9, 8, 7)), [[[128, 0, 0], [0, 0, 0], [9, 8, 7]]]
    )


def test_unknown_colors_are_listed() -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[0] = (1, 2, 3)
    rgb[1, 0] = (255, 255, 255)
    assert fp.unknown_colors(rgb, VOC) == {(1, 2, 3): 5, (255, 255, 255): 1}
    with pytest.raises(ValueError, match="encode: rgb_hwc") as caught:
        fp.encode(rgb, VOC, unknown="error")
    assert str(caught.value) == (
        "encode: rgb_hwc: every color must be the palette's or void, "
        "got (1, 2, 3) x 5, (255, 255, 255) x 1; or set unknown=255"
    )


GOOD = np.zeros((4, 6), np.uint8)
PICTURE = np.zeros((4, 6, 3), np.uint8)
READ_ONLY = np.zeros((4, 6, 3), np.uint8)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("labels", "options", "error", "text"),
    [
        (GOOD.astype(np.int64), {}, TypeError, "labels_hw: dtype must be uint8, got int64; check"),
        (GOOD.astype(np.int8), {}, TypeError, "labels_hw: dtype must be uint8, got int8; check"),
        (GOOD.astype(bool), {}, TypeError, "labels_hw: dtype must be uint8, got bool; check"),
        (GOOD.astype(np.float32), {}, TypeError, "dtype must be uint8, got float32; check"),
        ([[0]], {}, TypeError, "labels_hw: must be a numpy array of uint8, got list; pass"),
        (GOOD[:, ::2], {}, ValueError, "must be C-contiguous, got strides (6, 2) for shape (4, 3)"),
        (GOOD.T, {}, ValueError, "labels_hw: must be C-contiguous"),
        (GOOD[0], {}, ValueError, "labels_hw: must have shape (H, W), got (6,); pass"),
        (GOOD, {"out": GOOD}, ValueError, "out: must have shape (4, 6, 3), got (4, 6)"),
        (GOOD, {"out": READ_ONLY}, ValueError, "out: must be writeable, got a read-only array"),
        (GOOD, {"out": PICTURE.astype(np.int16)}, TypeError, "out: dtype must be uint8, got int16"),
        (PICTURE[..., 0], {"out": PICTURE}, ValueError, "labels_hw: must be C-contiguous"),
        (GOOD, {"threads": 0}, ValueError, "decode: threads: must be 1..256, got 0; pass"),
        (GOOD, {"threads": 1.5}, TypeError, "decode: threads: must be an integer, got float"),
        (GOOD, {"void_color": (1, 2)}, ValueError, "void_color: must be three integers"),
        (GOOD, {"void_color": (1, 2, 256)}, ValueError, "void_color: must be 0..255, got 256"),
    ],
)
def test_decode_refuses(
    labels: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        fp.decode(labels, VOC, **options)


def test_out_must_not_overlap_an_input() -> None:
    memory = np.zeros(4 * 6 * 4, np.uint8)
    labels = memory[:24].reshape(4, 6)
    with pytest.raises(ValueError, match="must share no memory with an input"):
        fp.decode(labels, VOC, out=memory[20:92].reshape(4, 6, 3))
    fp.decode(labels, VOC, out=memory[24:].reshape(4, 6, 3))
    image = memory[:72].reshape(4, 6, 3)
    with pytest.raises(ValueError, match="must share no memory with an input"):
        fp.encode(image, VOC, out=labels)
    with pytest.raises(ValueError, match="must share no memory with an input"):
        fp.overlay(image, GOOD, VOC, out=memory[3:75].reshape(4, 6, 3))


@pytest.mark.parametrize(
    ("palette", "error", "text"),
    [
        (np.zeros((0, 3), np.uint8), ValueError, "palette: must have shape (1..256, 3)"),
        (np.zeros((257, 3), np.uint8), ValueError, "palette: must have shape (1..256, 3)"),
        (np.zeros((5, 4), np.uint8), ValueError, "palette: must have shape (1..256, 3)"),
        (np.zeros((5, 3)), TypeError, "palette: dtype must be uint8, got float64"),
        (((0, 0, 0), (0, 0, 300)), ValueError, "palette: must be 0..255, got 300"),
        (((0, 0, 0), (0, 0, 0.5)), TypeError, "palette: must be an integer, got float"),
        (((0, 0, 0), (0, 0)), ValueError, "palette: must be three integers 0..255, got (0, 0)"),
        (((0, 0, 0, 0), (0, 0)), ValueError, "palette: must be three integers 0..255"),
        ((), ValueError, "palette: must have shape (1..256, 3)"),
    ],
)
def test_palettes_refused(palette: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        fp.decode(GOOD, palette)
    with pytest.raises(error, match=re.escape(text)):
        fp.encode(PICTURE, palette)


def test_encode_needs_different_colors() -> None:
    with pytest.raises(ValueError, match=re.escape("got (5, 5, 5) twice; give every label")):
        fp.encode(PICTURE, ((5, 5, 5), (1, 1, 1), (5, 5, 5)))
    with pytest.raises(ValueError, match=re.escape("got (224, 224, 192) twice")):
        fp.encode(PICTURE, ((224, 224, 192), (1, 1, 1)))


@pytest.mark.parametrize(
    ("alpha", "error"), [(-0.1, ValueError), (1.1, ValueError), ("1", TypeError), (True, TypeError),
                         (float("nan"), ValueError)]
)  # fmt: skip
def test_alpha_refused(alpha: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="overlay: alpha"):
        fp.overlay(PICTURE, GOOD, VOC, alpha=alpha)
