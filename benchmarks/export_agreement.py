"""How well a trained checkpoint's exports agree with PyTorch on real pictures, by precision.

    python -m benchmarks.export_agreement CHECKPOINT DATA [--head labels] [--json FILE]

DATA is in VOC layout; int8 is calibrated on ``train``, and all are measured on ``val``. The limits
are the tolerances of the precisions. The exit code is 1 where one of them is missed.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.options import parser_of, save
from fcnkit.export.subject import open_subject
from fcnkit.export.to_onnx import export_onnx
from fcnkit.export.verification import verify
from fcnkit.export.verify_data import open_comparison_data
from fcnkit.runtime.artifacts.precisions import PRECISIONS


def measure(checkpoint: Path, data: Path, head: str, precision: str) -> dict[str, Any]:
    """Export, and compare on the split."""
    quantized = PRECISIONS[precision].quantized  # type: ignore[index]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        exported = export_onnx(
            checkpoint,
            out,
            head=head,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            calibration=data if quantized else None,
            # Measured here, and judged here.
            max_miou_drop=1.0 if quantized else None,
            max_pixels=96 * 96,
        )
        on_data = exported.verify.data
        if on_data is None:
            with open_subject(checkpoint) as a, open_subject(out) as b:
                on_data = verify(a, b, data=open_comparison_data(data), max_pixels=96 * 96).data
    assert on_data is not None
    return {
        "precision": precision,
        "agreement": on_data.difference.label_agreement,
        "miou_drop": on_data.miou_drop,
        "speedup": exported.speedup,
        **asdict(on_data),
    }


def main() -> None:
    """Print a row per precision."""
    parser = parser_of(__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--head", default="labels")
    options = parser.parse_args()
    rows, missed = [], False
    for precision, facts in PRECISIONS.items():
        row = measure(options.checkpoint, options.data, options.head, precision)
        rows.append(row)
        limits = facts.tolerance
        good = row["agreement"] >= limits.min_agreement
        good &= row["miou_drop"] <= limits.max_miou_drop
        missed |= not good
        speed = f", {row['speedup']:.2f}x as fast as fp32" if row["speedup"] else ""
        print(
            f"{precision}: {100 * row['agreement']:.4f} % of all labels as in PyTorch, mean IoU "
            f"{row['mean_iou_a']:.4f} and {row['mean_iou_b']:.4f}, {row['pictures']} pictures"
            f"{speed}{'' if good else '  MISSED'}",
            flush=True,
        )
    save(rows, options.json)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
