"""Public functions called with arguments of wrong types, shapes, dtypes, orders and sizes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import resource
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

import fcnkit
from fcnkit.errors import FcnkitError
from fcnkit.runtime.predict.covering import CoverRequest
from fcnkit.runtime.predict.folder import predict_files
from fcnkit.runtime.predict.inputs import Job
from tests.faults import stages
from tests.faults.guarded import Answer, guarded
from tests.faults.table import Setting, Trial, promise
from tests.runtime.engines import make_sidecar, rtx_plan, write_engine
from tests.runtime.models import PALETTE, make_spec, write_model

MODULES = (
    "fcnkit.runtime",
    "fcnkit.runtime.pixels.metrics",
    "fcnkit.runtime.pixels.palette",
    "fcnkit.runtime.pixels.tiling",
)
"""Whose public functions are called, and classes made."""

METHODS = (
    "Segmenter.__call__",
    "Segmenter.map",
    "Segmenter.plan",
    "Backend.infer",
    "predict_files.segmenter",
)
"""Called on a model that is open."""

PATHS = ("path", "spec", "spec_from", "root")
"""Always a path here: Python itself words the error for anything else."""

FIXED = {"find_jobs": ("out",), "segmenter": ("out", "jobs", "stop"), **stages.FIXED}
"""Further ones of a function: a folder, what ``find_jobs`` found, an event, a callback."""

MOST_MEMORY = 12 << 30
"""Bytes of addresses, most of them PyTorch's own libraries."""

_FOUR_PARTS = re.compile(r"[^\n]+: [^\n]+, got [^\n]*; [^\n]+")
_EDGES = [-1, 0, 1, 2, 31, 32, 33, 255, 256, 2**24, 2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**63]
_DTYPES = [
    "u1",
    "i1",
    "u2",
    "<i4",
    ">i4",
    "i8",
    "f2",
    "f4",
    ">f4",
    "f8",
    "c8",
    "?",
    "U3",
    "O",
    "M8[s]",
]
_SHAPES = [(), (0,), (3,), (7, 5), (0, 5), (7, 5, 3), (3, 7, 5), (0, 5, 3), (1, 1, 3), (7, 5, 4),
           (2, 3, 32, 32), (2, 32, 32, 3), (1, 4, 32, 32), (1, 0, 32, 32), (1, 2, 3, 4, 5),
           (64, 64), (64, 64, 3), (4, 4), (21, 3)]  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays of any dtype, shape, order and stride, small, or huge without memory behind them."""
    dtype = np.dtype(draw(st.sampled_from(_DTYPES)))
    shape = draw(st.sampled_from(_SHAPES))
    array = np.zeros(shape, dtype)
    if dtype.kind in "uif" and draw(st.booleans()):
        fill = draw(st.integers(0, 2**32 - 1))
        array = np.random.default_rng(fill).integers(0, 100, shape).astype(dtype)
    kind = draw(st.integers(0, 6))
    if kind == 1:
        array = np.asfortranarray(array)
    elif kind == 2 and array.ndim:
        array = array[::-1]
    elif kind == 3:
        array.flags.writeable = False
    elif kind == 4 and array.ndim > 1:
        array = array.T
    elif kind == 5:
        side = draw(st.sampled_from([2**31 - 1, 2**31, 2**32 + 1]))
        array = np.broadcast_to(np.zeros(3, dtype), (side, 2, 3))
    elif kind == 6:
        array = array.view(type("Other", (np.ndarray,), {}))
    return array


def values() -> st.SearchStrategy[Any]:
    """Anything at all that a caller may pass by mistake."""
    plain = st.one_of(
        st.none(), st.booleans(), st.sampled_from(_EDGES), st.integers(), st.floats(),
        st.text(max_size=9), st.binary(max_size=9), st.builds(object), st.just({}),
        st.sampled_from([np.int64(3), np.float32(2), np.bool_(True), 1j, int, len, slice(3)]),
    )  # fmt: skip
    nested = st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
    )
    return st.one_of(arrays(), nested)


def fitting(target: str, name: str, place: Path) -> st.SearchStrategy[Any]:
    """Values that a parameter might rightly have: what is wrong is elsewhere then."""
    from fcnkit.runtime.pixels.tiling import plan_tiles

    labels = np.random.default_rng(1).integers(0, 4, (64, 96), np.uint8)
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    known: dict[str, list[Any]] = {
        "labels_hw": [labels], "truth": [labels], "prediction": [labels], "image_hwc": [image],
        "rgb_hwc": [image], "palette": [PALETTE, np.array(PALETTE, np.uint8)], "threads": [None, 1],
        "plan": [plan_tiles(64, 96), plan_tiles(70, 96)], "alpha": [0.5], "out": [None],
        "tiles_tchw": [np.zeros((1, 4, 64, 96), np.float32)], "num_classes": [4],
        "logits_tchw": [np.zeros((1, 4, 64, 96), np.float32)], "height": [70], "width": [96],
        "mean": [(0.5, 0.5, 0.5)], "std": [(0.2, 0.2, 0.2)], "multiple": [32],
        "plan_tiles.overlap": [0, 32],
        "path": [place / "m.onnx", str(place / "none"), place], "classes": [list("abcd")],
        "confusion": [np.eye(4, dtype="i8")], "logits_nchw": [np.zeros((2, 4, 32, 33), "f2")],
        "target_hw": [labels], "predicted_hw": [labels], "tile": [None, 32, (32, 64)],
        "backend": ["auto", "onnxruntime", "openvino"], "compute": ["auto", "fp32"],
        "options": [None, {}], "spec": [None], "cover": [None, "pad"], "overlap": [None, 0],
        "sources": [[image, image], [place / "none.png", image], []], "batch": [None, 2],
        "max_pixels": [10**6], "images": [image[None, :64]], "tile_height": [64],
        "tile_width": [64], "tops": [(0, 6)], "lefts": [(0, 32)],
        "encode.rgb_hwc": [np.array(PALETTE, np.uint8)[labels]],
        "void_color": [(224, 224, 192)], "unknown": [255, "error"], "dtype": ["float32"],
        "bfloat16": [False], "Stitcher.classes": [4], "infer.batch": [image[None, :64]],
        "read_picture.path": [place / "good.png", str(place / "good.png"), place / "none.png"],
        "find_jobs.inputs": [[place / "good.png"], [str(place)], [place / "none"]],
        "find_jobs.out": [place / "out", str(place / "out")], "suffix": [".png", ".npy"],
        "root": [None, place],
        "jobs": [[Job(place / "good.png", Path("good.png"))], []], "model_sha256": ["0" * 64],
        "segmenter.out": [place / "out", str(place / "out")], "workers": [None, 1], "stop": [None],
        "format": ["labels", "npy"], "resume": [True, False], "fail_fast": [True, False],
        "open_rows.path": [place / "good.png", str(place / "good.png"), place / "m.onnx"],
        "open_picture.path": [place / "good.png", place], "formats": [None, ("PNG",)],
        "range": [None, (0, 4095)], "spec_from": [None, place / "m.onnx"],
        "read_engine_file.path": [place / "m.engine", place / "m.engine", place / "none"],
        "bands": [None, (3, 2, 1)], "color": ["RGB", "BGR"], "confidence": [False],
        "wanted": [None], "overlay": [None], "part": [None, "1/2"], "frames": [False],
        "listed": [None], "hash_inputs": [False, True], "on_frame": [None], "image": [image],
        "tta": [None],
        "choose_covering.spec": [make_spec("logits"), make_spec("labels")],
        "request": [None, CoverRequest(), CoverRequest(tile=(32, 64)), CoverRequest(cover="pad")],
    }  # fmt: skip
    found = known.get(f"{target.rpartition('.')[2]}.{name}", known.get(name))
    return values() if found is None else st.sampled_from(found)


def targets() -> dict[str, Callable[..., Any]]:
    """Return every public function and class of the modules by its full name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if public in ("predict_files", "predict_camera"):
                continue  # METHODS calls the first with a segmenter; the other needs a camera
            made = public in ("CoverRequest", "TilePlan", "Stitcher")
            names = list(inspect.signature(value).parameters) if inspect.isfunction(value) else []
            # What begins with the caller's name for an argument is a check for other modules.
            if made or (names and names[0] != "what"):
                found[f"{value.__module__}.{public}"] = value
    return found | stages.targets()


@contextmanager
def callee(name: str, place: Path) -> Iterator[Callable[..., Any]]:
    """Find a function by its name in ``targets`` or METHODS; the latter of an open model."""
    model = write_model(place / "m.onnx", make_spec("labels"))
    write_engine(place / "m.engine", rtx_plan(), make_sidecar(rtx_plan()))
    if name not in METHODS:
        yield targets()[name]
        return
    with fcnkit.load(model, threads=1) as segmenter:
        kind, method = name.split(".")
        if kind == "predict_files":
            yield partial(predict_files, segmenter)
            return
        yield getattr(segmenter if kind == "Segmenter" else segmenter.backend, method)


def hammer(name: str, examples: int) -> tuple[int, int]:
    """Call a function with this many sets of arguments; return how many it took and refused.

    Raises:
        AssertionError: It raised something else than a worded TypeError or ValueError.
    """
    # What takes more is a MemoryError, which is such another thing.
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    taken = refused = 0
    with tempfile.TemporaryDirectory() as folder, callee(name, Path(folder)) as call:
        place = Path(folder)
        rightly = stages.fitting(name, place)
        parameters = list(inspect.signature(call).parameters.values())
        Image.new("RGB", (9, 7)).save(place / "good.png")

        @settings(
            max_examples=examples, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        )  # fmt: skip
        @given(st.data())
        def calls(data: st.DataObject) -> None:
            nonlocal taken, refused
            given_keywords: dict[str, Any] = {}
            positional = []
            fixed = (*PATHS, *FIXED.get(name.rpartition(".")[2], ()))
            names = [p.name for p in parameters if p.name not in fixed]
            wrong = _wrong(data, names)
            for p in parameters:
                if p.default is not p.empty and p.name not in wrong and data.draw(st.booleans()):
                    continue
                fits = rightly[p.name] if p.name in rightly else fitting(name, p.name, place)
                value = data.draw(values() if p.name in wrong else fits)
                if p.kind is p.KEYWORD_ONLY:
                    given_keywords[p.name] = value
                else:
                    positional.append(value)
            try:
                result = call(*positional, **given_keywords)
                if inspect.isgenerator(result):
                    deque(result, maxlen=0)
                if hasattr(result, "__exit__"):
                    with result:
                        pass
                _like_plain(call, positional, given_keywords, result)
                taken += 1
            except (TypeError, ValueError, FcnkitError) as error:
                refused += 1
                if not _FOUR_PARTS.fullmatch(str(error)):
                    text = f"{type(error).__name__}: {error}"
                    raise AssertionError(f"{_shown(positional, given_keywords)}: {text}") from error
            except (FileNotFoundError, IsADirectoryError):
                refused += 1
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                raise AssertionError(f"{_shown(positional, given_keywords)}: {text}") from error

        calls()
    return taken, refused


def _wrong(data: st.DataObject, names: list[str]) -> set[str]:
    """Draw which parameters get anything at all: none of them in half of the calls."""
    size = min(data.draw(st.sampled_from([0, 0, 1, 2])), len(names))
    if not size:
        return set()
    return data.draw(st.sets(st.sampled_from(names), min_size=size, max_size=size))


def _like_plain(
    call: Callable[..., Any], positional: list[Any], keywords: dict[str, Any], result: Any
) -> None:
    """Check that the order in memory and the kind of array have not changed an answer.

    Raises:
        AssertionError: The same numbers, as plain arrays, give another one.
    """
    if isinstance(result, np.ndarray):
        again = call(*map(_plain, positional), **{k: _plain(v) for k, v in keywords.items()})
        if not np.array_equal(result, again, equal_nan=result.dtype.kind == "f"):
            raise AssertionError(
                f"{_shown(positional, keywords)}: plain arrays give another result"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.array(value, dtype=value.dtype.newbyteorder("="), order="C", subok=False)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _shown(positional: list[Any], keywords: dict[str, Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, np.ndarray):
            return f"array({value.dtype.str}, {value.shape}, strides {value.strides})"
        return repr(value)[:60]

    return ", ".join([*map(one, positional), *(f"{k}={one(v)}" for k, v in keywords.items())])


@promise("Wrong arrays and numbers are a TypeError or ValueError that says what is wrong.")
def wrong_arguments(setting: Setting) -> Iterator[Trial]:
    examples = 400 if setting.full else 20

    def hammered(name: str) -> Answer:
        most = stages.EXAMPLES.get(name, examples)
        fewer = min(examples, most if setting.full else max(8, most // 4))
        return guarded(hammer, name, fewer, seconds=600)

    names = [*targets(), *METHODS]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(hammered, names))
    for name, answer in zip(names, answers, strict=True):
        if answer.kind != "value":
            yield Trial(name, "hung" if answer.kind == "hung" else "wrong", answer.text)
            continue
        taken, refused = ast.literal_eval(answer.text)
        # Where all is taken or all refused, the arguments try nothing.
        both = bool(taken and refused)
        text = f"{name}: {taken} calls taken, {refused} refused"
        yield Trial(text, "kept" if both else "wrong", text)
