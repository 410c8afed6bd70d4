"""Write the tables of docs/kernels.md from what the benchmark measured on each instruction set.

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

from benchmarks.markdown import put_between, table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "kernels.md"

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
    "upsample_argmax": {"torch transposed convolution, argmax": ()},
    "upsample_argmax random": {"torch transposed convolution, argmax": ()},
    "upsample_argmax wild": {"torch transposed convolution, argmax": ()},
    "confusion": {"np.bincount": ()},
    "confusion noise": {"np.bincount": ()},
}
"""Peers of each kernel in the second table, with the sizes to show; none stands for all."""

Rows = dict[tuple[str, str], dict[str, Any]]


def read(path: str) -> Rows:
    kernels = json.loads(Path(path).read_text())["kernels"]
    return {(row["kernel"], row["size"]): row for row in kernels}


def kernels_table(rows: Rows) -> str:
    """All kernels of one instruction set."""
    lines = []
    for (kernel, size), row in rows.items():
        limit = f"{row['limit_fraction']:.2f} {row['limit']}" if row["limit"] else "-"
        beats = ", ".join(f"{name} {peer['ratio']:.1f}" for name, peer in row["peers"].items())
        speed = row["pixels_per_second"] / 1e6
        ms = f"{row['seconds'] * 1e3:.4g}"
        lines.append((kernel, size, ms, f"{speed:.0f}", limit, beats or "-"))
    return table(("kernel", "size", "ms", "Mpx/s", "of the limit", "times as fast as"), lines)


def peers_table(avx512: Rows, avx2: Rows, scalar: Rows) -> str:
    """The peers of the list on all instruction sets."""
    lines = []
    for wanted, peers in PEERS.items():
        for peer, sizes in peers.items():
            for size in sizes or [size for kernel, size in avx512 if kernel == wanted]:
                rows = [measured[wanted, size] for measured in (avx512, avx2, scalar)]
                ratios = [f"{row['peers'][peer]['ratio']:.1f}" for row in rows]
                lines.append((wanted, peer, size, *ratios))
    return table(("kernel", "peer", "size", "AVX-512", "AVX2", "scalar"), lines)


def gains_table(avx512: Rows, avx2: Rows, scalar: Rows) -> str:
    """How much faster than the portable kernels the others are."""
    lines = []
    for kernel, size in scalar:
        speeds = [rows[kernel, size]["pixels_per_second"] / 1e6 for rows in (scalar, avx2, avx512)]
        gains = [f"{speed:.0f} ({speed / speeds[0]:.1f}x)" for speed in speeds[1:]]
        lines.append((kernel, size, f"{speeds[0]:.0f}", *gains))
    return table(("kernel", "size", "scalar", "AVX2", "AVX-512"), lines)


def main() -> None:
    if len(sys.argv) != 4:
        sys.exit("give three files: AVX-512, AVX2, scalar")
    measured = [read(path) for path in sys.argv[1:]]
    parts = {
        "kernels": kernels_table(measured[0]),
        "peers": peers_table(*measured),
        "gains": gains_table(*measured),
    }
    for name, text in parts.items():
        put_between(PAGE, f"<!-- {name} -->", "<!-- end -->", text)


if __name__ == "__main__":
    main()
