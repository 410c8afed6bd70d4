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

PEERS: dict[str, dict[str, tuple[str, ...]]] = {
    "decode": {"cv2.LUT": ("375x500", "2160x3840"), "palette[labels]": ()},
    "encode": {
        "chapter's int64 table": ("375x500", "2160x3840"),
        "numpy uint8 table": ("375x500", "2160x3840"),
    },
    "overlay": {"numpy float": (), "numpy integer": ()},
    "gather": {"cv2 blobFromImage": (), "torch normalize": ()},
    "argmax": {"np.argmax": (), "torch argmax": ()},
    "stitch": {"numpy accumulate": ("375x500", "1080x1920"), "MONAI": ("375x500", "1080x1920")},
    "confusion": {"np.bincount": ()},
    "confusion noise": {"np.bincount": ()},
}
"""Peers of each kernel in the second table, with the sizes to show; none stands for all."""

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


def print_peers(avx512: Rows, avx2: Rows, scalar: Rows) -> None:
    print("| kernel | peer | size | AVX-512 | AVX2 | scalar |")
    print("|---|---|---|---|---|---|")
    for wanted, peers in PEERS.items():
        for peer, sizes in peers.items():
            for size in sizes or [size for kernel, size in avx512 if kernel == wanted]:
                rows = [measured[wanted, size] for measured in (avx512, avx2, scalar)]
                ratios = [f"{row['peers'][peer]['ratio']:.1f}" for row in rows]
                print(f"| {wanted} | {peer} | {size} | {' | '.join(ratios)} |")


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
    print_peers(avx512, avx2, scalar)
    print()
    print_gains(avx512, avx2, scalar)


if __name__ == "__main__":
    main()
