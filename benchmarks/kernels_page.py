"""The tables of docs/kernels.md from what the benchmark measured on each instruction set.

for isa in avx512 avx2 scalar; do
    FCNKIT_FORCE_ISA=$isa python -m benchmarks.kernels --json $isa.json
done
python -m benchmarks.kernels_page avx512.json avx2.json scalar.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ASKED: dict[tuple[str, str], dict[str, float]] = {
    ("decode", "cv2.LUT"): {"375x500": 10, "2160x3840": 8},
    ("decode", "palette[labels]"): {"": 30},
    ("encode", "chapter's int64 table"): {"375x500": 12, "2160x3840": 30},
    ("encode", "numpy uint8 table"): {"375x500": 10, "2160x3840": 25},
    ("overlay", "numpy float"): {"": 20},
    ("overlay", "numpy integer"): {"": 20},
    ("gather", "cv2 blobFromImage"): {"": 3},
    ("gather", "torch normalize"): {"": 12},
    ("argmax", "np.argmax"): {"": 8},
    ("argmax", "torch argmax"): {"": 20},
    ("stitch", "numpy accumulate"): {"375x500": 6, "1080x1920": 8},
    ("stitch", "MONAI"): {"375x500": 15, "1080x1920": 20},
    ("confusion", "np.bincount"): {"": 6},
    ("confusion noise", "np.bincount"): {"": 6},
}
"""Times as fast as a peer, by size; the empty size stands for all. AVX2 is asked half."""

Rows = dict[tuple[str, str], dict[str, Any]]


def read(path: str) -> Rows:
    kernels = json.loads(Path(path).read_text())["kernels"]
    return {(row["kernel"], row["size"]): row for row in kernels}


def print_kernels(rows: Rows) -> None:
    print("| kernel | size | ms | Mpx/s | of the limit | times as fast as |")
    print("|---|---|---|---|---|---|")
    for (kernel, size), row in rows.items():
        limit = f"{row['limit_fraction']:.2f} {row['limit']}" if row["limit"] else "-"
        beats = ", ".join(f"{name} {peer['ratio']:.1f}" for name, peer in row["peers"].items())
        speed = row["pixels_per_second"] / 1e6
        cells = (kernel, size, f"{row['seconds'] * 1e3:.4g}", f"{speed:.0f}", limit, beats or "-")
        print(f"| {' | '.join(cells)} |")


def print_asked(avx512: Rows, avx2: Rows, scalar: Rows) -> None:
    print("| kernel | peer | size | asked | AVX-512 | AVX2 (half is asked) | scalar |")
    print("|---|---|---|---|---|---|---|")
    for (kernel, peer), wanted in ASKED.items():
        for size in [size for name, size in avx512 if name == kernel]:
            asked = wanted.get(size, wanted.get(""))
            if asked is None:
                continue
            ratios = [rows[kernel, size]["peers"][peer]["ratio"] for rows in (avx512, avx2, scalar)]
            floors = (asked, asked / 2, 1.0)
            cells = [
                f"{ratio:.1f}" + ("" if ratio >= floor else " **short**")
                for ratio, floor in zip(ratios, floors, strict=True)
            ]
            print(f"| {kernel} | {peer} | {size} | {asked:g} | {' | '.join(cells)} |")


def print_gains(avx512: Rows, avx2: Rows, scalar: Rows) -> None:
    print("| kernel | size | scalar | AVX2 | AVX-512 |")
    print("|---|---|---|---|---|")
    for kernel, size in scalar:
        speeds = [rows[kernel, size]["pixels_per_second"] / 1e6 for rows in (scalar, avx2, avx512)]
        gains = [f"{speed:.0f} ({speed / speeds[0]:.1f}x)" for speed in speeds[1:]]
        print(f"| {kernel} | {size} | {speeds[0]:.0f} | {' | '.join(gains)} |")


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("give three files: AVX-512, AVX2, scalar")
    avx512, avx2, scalar = map(read, sys.argv[1:])
    print_kernels(avx512)
    print()
    print_asked(avx512, avx2, scalar)
    print()
    print_gains(avx512, avx2, scalar)


if __name__ == "__main__":
    main()
