"""Which kernels are used, from the environment, and from several threads at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fcnkit.runtime import build_info
from fcnkit.runtime.checks import check_threads
from fcnkit.runtime.pixels import _kernels, metrics, palette, tiling

HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "openvino")


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "FCNKIT" not in name}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_build_info_names_what_is_used() -> None:
    info = build_info()
    assert set(info) == {"compiler", "asserts", "variants", "active"}
    assert info["variants"][-1] == "scalar"
    assert info["active"] in info["variants"]


@pytest.mark.parametrize("name", _kernels.build_info()["variants"])
def test_the_environment_forces_a_variant(name: str) -> None:
    code = "from fcnkit.runtime import build_info; print(build_info()['active'])"
    assert run(code, FCNKIT_FORCE_ISA=name).stdout.strip() == name
    assert run(code, FCNKIT_FORCE_ISA="").stdout.strip() == build_info()["variants"][0]


def test_an_unknown_variant_is_an_error() -> None:
    done = run("from fcnkit.runtime import build_info; build_info()", FCNKIT_FORCE_ISA="avx9")
    assert done.returncode == 1
    rule = "FCNKIT_FORCE_ISA: must name an instruction set this machine runs, got 'avx9'; use one"
    assert f"ValueError: {rule} of" in done.stderr
    with pytest.raises(ValueError, match=re.escape("got 'sse'; use one of")):
        _kernels.select("sse")


def test_the_runtime_needs_no_framework() -> None:
    blocked = "; ".join(f"sys.modules['{name}'] = None" for name in HEAVY)
    modules = "metrics, palette, tiling"
    done = run(
        f"import sys; {blocked}; import fcnkit.runtime; from fcnkit.runtime import {modules}"
    )
    assert done.returncode == 0, done.stderr


def test_threads_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCNKIT_THREADS", "3")
    assert check_threads("x", None) == 3
    assert check_threads("x", 1) == 1
    monkeypatch.delenv("FCNKIT_THREADS")
    assert check_threads("x", None) >= 1
    for text in ("0", "two", "-1", "1000000", "1.5"):
        monkeypatch.setenv("FCNKIT_THREADS", text)
        with pytest.raises(ValueError, match=f"FCNKIT_THREADS: must be an integer .*{text}"):
            check_threads("x", None)


def test_calls_from_several_python_threads(isa: str) -> None:
    """More callers than processors, every one with its own inputs and threads."""
    voc = palette.voc_palette(21)
    plan = tiling.plan_tiles(200, 300, tile=128)

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 21, (700, 900), dtype=np.uint8)
        logits = rng.normal(size=(len(plan), 4, *plan.tile)).astype(np.float32)
        for _ in range(3):
            encoded = palette.encode(palette.decode(labels, voc, threads=2), voc, threads=2)
            same = (encoded.labels == labels).all() and encoded.unknown == 0
            matrix = metrics.confusion(labels, encoded.labels, 21, threads=2)
            one = tiling.stitch(logits, plan, threads=1)
            two = tiling.stitch(logits, plan, threads=2)
            if not (same and np.trace(matrix) == labels.size and (one == two).all()):
                return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(12)))


def test_the_gil_is_released() -> None:
    """While one thread stitches, this one goes on counting."""
    plan = tiling.plan_tiles(1500, 1500, tile=512)
    logits = np.zeros((len(plan), 8, *plan.tile), np.float32)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(lambda: [tiling.stitch(logits, plan, threads=1) for _ in range(10)])
        turns = 0
        while not busy.done():
            turns += 1
    assert turns > 100


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("decode(L, P, [0, 0, 0], L, 1)", "sizes must agree"),
        ("decode(L, P, [0, 0], R, 1)", "void_color must have 3 values"),
        ("decode(L, P[:0], [0, 0, 0], R, 1)", "palette must be (1..256, 3)"),
        ("decode(L, P, [0, 0, 0], R, 0)", "sizes must agree"),
        ("overlay(R, L, P, 257, R, 1)", "weight must be 0..256"),
        ("Plan(40, 40, 32, 32, [0], [0, 8])", "tiles must ascend and cover the image"),
        ("Plan(40, 40, 32, 32, [0, 50], [0, 8])", "tiles must ascend and cover the image"),
        ("Plan(40, 40, 0, 32, [0, 8], [0, 8])", "tiles must ascend and cover the image"),
        ("Plan(40, 40, 32, 32, [], [])", "tiles must ascend and cover the image"),
        ("cut(R, Plan(4, 7, 4, 7, [0], [0]), R, 1)", "image must be as the plan says"),
        ("argmax(F, L, 1)", "sizes must agree"),
        ("argmax(F[:, :0], L, 1)", "logits must be (N, 1..256, H, W)"),
        ("argmax(F[..., ::2], np.zeros((2, 4, 3), np.uint8), 1)", "logits must be C-contiguous"),
        ("argmax(F.astype(float), np.zeros((2, 4, 6), np.uint8), 1)", "logits must be float32"),
        ("stitch(F, Plan(4, 6, 4, 6, [0], [0]), L, None, 1)", "logits must be (tiles, 1..256"),
        (
            "add_tile(F[0], Plan(4, 6, 4, 6, [0], [0]), 1, 0, F[0], F[0], L, None, 1)",
            "no such tile",
        ),
        ("confusion(L, R, 255, C, 1)", "sizes must agree"),
        ("confusion(L, L, 255, C[:2], 1)", "counts must be square"),
        ("Encoder(P, L)", "keys must be (1..257, 3), labels one per key"),
        ("Encoder(np.zeros((2, 3), np.uint8), L.ravel()[:2])", "no perfect hash"),
        ("Normalize([1, 2], [1, 2, 3], F, L)", "incompatible"),
    ],
)
def test_the_extension_protects_memory_by_itself(call: str, text: str) -> None:
    """What Python checks for people is checked again for safety, in fewer words."""
    names = {name: getattr(_kernels, name) for name in dir(_kernels)}
    names |= {
        "np": np,
        "L": np.zeros((4, 6), np.uint8),
        "R": np.zeros((4, 6, 3), np.uint8),
        "P": palette.voc_palette(3),
        "F": np.zeros((2, 3, 4, 6), np.float32),
        "C": np.zeros((3, 3), np.int64),
    }
    with pytest.raises((ValueError, TypeError), match=re.escape(text)):
        eval(call, names)


def test_the_extension_converts_nothing() -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    voc = palette.voc_palette(3)
    for labels in (np.zeros((4, 6), np.int64), np.zeros((4, 12), np.uint8)[:, ::2]):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _kernels.decode(labels, voc, (0, 0, 0), rgb, 1)  # type: ignore[arg-type]
    read_only = np.zeros((4, 6, 3), np.uint8)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        _kernels.decode(np.zeros((4, 6), np.uint8), voc, (0, 0, 0), read_only, 1)
