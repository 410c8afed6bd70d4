"""The tables of a GPU run, written into the pages between their markers.

    python -m benchmarks.gpu_page gpu.json [MORE.json]... [--stdout]

Several reports of one machine count as one; where two hold the same stage, the later file counts.
A dry run's numbers are a CPU's, so they are not written into any page; ``--stdout`` shows them.
A page's text between ``<!-- gpu:begin -->`` and ``<!-- gpu:end -->`` is replaced.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.markdown import table as table_of
from fcnkit.errors import message
from fcnkit.runtime.files import atomic_write

ROOT: Final = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- gpu:begin -->", "<!-- gpu:end -->"
MISSING: Final = "missing"

Findings = Mapping[str, Any]


class Run:
    """One machine's findings, out of one or more reports."""

    def __init__(self, reports: Mapping[str, Mapping[str, Any]]) -> None:
        """Join reports.

        Args:
            reports: File name to content, in order.

        Raises:
            ValueError: A report is none, or two are of different machines.
        """
        self.stages: dict[str, Any] = {}
        self.dry = False
        self.machines: dict[str, str] = {}
        for name, report in reports.items():
            if not is_report(report):
                rule, got = "must be a report of benchmarks.gpu, format 1", "another file"
                raise ValueError(message(name, rule, got, "name the file that -o made"))
            self.stages |= report["stages"]
            self.dry = self.dry or bool(report.get("dry_run", True))
            self.machines[name] = machine(report)
        self.days = sorted({str(report.get("started", ""))[:10] for report in reports.values()})
        if len(set(self.machines.values())) > 1:
            got = " and ".join(f"{text} ({name})" for name, text in self.machines.items())
            rule, remedy = "reports must be of one machine", "write them one after the other"
            raise ValueError(message("gpu_page", rule, got, remedy))

    @property
    def machine(self) -> str:
        """The machine in words."""
        return next(iter(self.machines.values()))

    def findings(self, stage: str) -> Findings:
        """What a stage found; empty where it did not run."""
        found: Findings = self.stages.get(stage, {}).get("findings", {})
        return found

    def rows(self, stage: str, field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The findings of a stage that hold a field, by name."""
        for key, value in self.findings(stage).items():
            if isinstance(value, dict) and field in value:
                yield key, value


def is_report(content: object) -> bool:
    """Whether a file's content has the form that benchmarks.gpu writes."""
    if not isinstance(content, dict) or content.get("format") != 1:
        return False
    stages = content.get("stages")
    return isinstance(stages, dict) and all(isinstance(stage, dict) for stage in stages.values())


def machine(report: Mapping[str, Any]) -> str:
    """Name a report's machine: GPU, driver and cores."""
    gpus = report.get("gpus") or []
    names = [
        " ".join(str(gpu[key]) for key in ("name", "driver_version") if key in gpu) for gpu in gpus
    ]
    return f"{', '.join(names) or 'no GPU'}, {report.get('cores', '?')} cores"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> str:
    """Return a table under its title, or nothing where there is no row."""
    filled = list(rows)
    if not filled:
        return ""
    return "\n\n".join([*([title] if title else []), table_of(head, filled)])


def cell(value: object, digits: int | None = None) -> str:
    """Format a table's cell; what a report lacks is called missing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return MISSING if value is None else one_line(str(value))
    return f"{value:,.{digits}f}" if digits is not None else f"{value:,}"


def one_line(text: str, most: int = 300) -> str:
    """Make a string safe for a table or a list: a library may have printed anything."""
    line = " ".join(text.split())
    line = line if len(line) <= most else f"{line[:most]}..."
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def times(run: Run, stage: str) -> Iterator[tuple[str, ...]]:
    """A stage's rows: network, NxHxW, call, network alone, stream, agreement with the CPU."""
    shares = {
        key.removesuffix(", agreement"): value["same_labels"]
        for key, value in run.rows(stage, "same_labels")
    }
    for key, value in run.rows(stage, "call_ms"):
        name = key.rpartition(" ")[0]  # without its shape
        yield (
            one_line(name),
            cell(value.get("shape")),
            cell(value["call_ms"], 3),
            cell(value.get("network_images_per_second"), 0),
            cell(value.get("stream_images_per_second"), 0),
            f"{100 * shares[name]:.3f} %" if name in shares else MISSING,
        )


TIMES_HEAD: Final = (
    "network",
    "NxHxW",
    "call ms",
    "network alone, images/s",
    "stream, images/s",
    "labels as on the CPU",
)


def sessions(run: Run) -> str:
    """The network alone, by library, precision and batch."""
    libraries = {"onnxruntime": "ONNX Runtime", "pytorch": "PyTorch, CUDA graph"}
    rows = [(name, *row) for stage, name in libraries.items() for row in times(run, stage)]
    return table(("library", *TIMES_HEAD), rows, title="The network alone:")


def operators(run: Run) -> str:
    """The operators that ONNX Runtime leaves to the CPU."""
    lines = []
    for key, value in run.findings("onnxruntime").items():
        if key.endswith(", operators") and isinstance(value, dict) and "error" not in value:
            left = value.get("CPUExecutionProvider", {})
            text = ", ".join(f"{name} {count}" for name, count in sorted(left.items()))
            lines.append(f"- {one_line(key.removesuffix(', operators'))}: {text or 'none'}")
    return "\n".join(["Operators that stay on the CPU:\n", *lines]) if lines else ""


def folders(run: Run, stage: str) -> str:
    """Files to files."""
    title = "Files to files, JPEG images of 480x360 to palette PNGs:"
    return table(
        ("network", "processes", "workers each", "batch", "images/s", "CPU ms per image"),
        [
            (
                one_line(key.partition(",")[0]),
                *(cell(value.get(name)) for name in ("processes", "workers", "batch")),
                cell(value["images_per_second"], 0),
                cell(value.get("cpu_ms_per_image"), 2),
            )
            for key, value in run.rows(stage, "images_per_second")
        ],
        title=title,
    )


def decoding(run: Run) -> str:
    """JPEG decoders."""
    rows = [
        (one_line(key), cell(value["images_per_second"], 0))
        for key, value in run.rows("jpeg", "images_per_second")
    ]
    gap = run.findings("jpeg").get("nvJPEG against Pillow", {})
    words = ""
    if "largest" in gap:
        words = f"\n\nnvJPEG's values differ from Pillow's by up to {cell(gap['largest'])} of 255, "
        words += f"{cell(gap.get('mean'), 3)} on average."
    return table(("decoder", "images/s"), rows, title="Decoding alone:") + words


def waiting(run: Run) -> str:
    """Copies, waiting, and what waiting does to other threads."""
    units = {"gb_per_second": "GB/s", "median_us": "µs", "share": "of its speed alone"}
    rows = [
        (one_line(key), f"{cell(value[field], 2)} {unit}")
        for field, unit in units.items()
        for key, value in run.rows("copies", field)
    ]
    return table(("copy or wait", "measured"), rows, title="Copies and waiting:")


def steps(run: Run) -> str:
    """Training steps."""
    rows = []
    for _, value in run.rows("training", "median_seconds"):
        for name, seconds in value["median_seconds"].items():
            ratio = 1.0 if name == "ours" else value.get("ours_faster_than", {}).get(name)
            rows.append(
                (cell(value.get("shape")), one_line(name), cell(1000 * seconds, 1), cell(ratio, 2))
            )
    title = "A training step of FCN-32s on ResNet-18:"
    return table(("NxHxW", "step", "ms", "times ours"), rows, title=title)


def engines(run: Run) -> str:
    """TensorRT-RTX: builds, the library's verdict, openings, and times."""
    found = run.findings("tensorrt_rtx")
    if not found:
        return ""
    lines = [f"TensorRT-RTX {cell(found.get('library'))}."]
    for key, value in run.rows("tensorrt_rtx", "open_seconds"):
        if "first_call_seconds" in value:
            lines.append(
                f"{one_line(key)}: {cell(value['open_seconds'], 2)} s, first call "
                f"{cell(value['first_call_seconds'], 2)} s."
            )
    for key, value in found.items():
        if key.endswith(", validity") and isinstance(value, str):
            lines.append(f"{one_line(key)}: {one_line(value)}.")
    parts = [
        " ".join(lines),
        table(TIMES_HEAD, times(run, "tensorrt_rtx")),
        folders(run, "tensorrt_rtx"),
    ]
    return "\n\n".join(part for part in parts if part)


def troubles(run: Run, *stages: str) -> str:
    """What failed, and how."""
    lines = []
    for name in stages:
        stage = run.stages.get(name)
        if stage is None:
            lines.append(f"- {name}: not run")
            continue
        if stage.get("state") != "done":
            reason = one_line(str(stage.get("reason", "no reason was given")))
            lines.append(f"- {name}: {stage.get('state')}, {reason}")
        lines += [
            f"- {name}, {one_line(key)}: {one_line(str(value['error']))}"
            for key, value in stage.get("findings", {}).items()
            if isinstance(value, dict) and "error" in value
        ]
    lines += failed_tests(run) if "tests" in stages else []
    return "\n".join(["What failed:\n", *lines]) if lines else "Nothing failed."


def failed_tests(run: Run) -> list[str]:
    """The tests that failed, by name."""
    counts = run.findings("tests").get("pytest -m gpu", {})
    return [f"- test {one_line(name)} failed" for name in counts.get("failed", ())]


def tested(run: Run) -> str:
    """The counts of ``pytest -m gpu``."""
    counts = run.findings("tests").get("pytest -m gpu", {})
    if "passed" not in counts:
        return ""
    failed, skipped = len(counts["failed"]), len(counts["skipped"])
    return f"`pytest -m gpu`: {counts['passed']} passed, {failed} failed, {skipped} skipped."


def measured(run: Run) -> str:
    """When and where."""
    lines = [f"Measured {' and '.join(run.days)} on {one_line(run.machine)}"]
    packages = run.findings("environment").get("packages", {})
    lines += [f"{name} {one_line(str(version))}" for name, version in packages.items() if version]
    return f"{', '.join(lines)}. FCN-32s on ResNet-18, 21 classes, untrained."


def benchmarks_page(run: Run) -> list[str]:
    """docs/benchmarks.md."""
    stages = ("environment", "copies", "tests", "models", "onnxruntime", "pytorch", "files", "jpeg")
    return [
        measured(run),
        tested(run),
        sessions(run),
        operators(run),
        folders(run, "files"),
        decoding(run),
        waiting(run),
        steps(run),
        troubles(run, *stages, "training"),
    ]


def engines_page(run: Run) -> list[str]:
    """docs/engines.md."""
    return [measured(run), engines(run), troubles(run, "tensorrt_rtx")]


def readme(run: Run) -> list[str]:
    """README.md: the best of each kind."""
    kinds = (
        ("onnxruntime", "network_images_per_second", "ONNX Runtime, network alone"),
        ("tensorrt_rtx", "network_images_per_second", "TensorRT-RTX, network alone"),
        ("files", "images_per_second", "ONNX Runtime, files to files"),
    )
    rows = []
    for stage, field, title in kinds:
        for precision in ("fp32", "fp16"):
            found = run.rows(stage, field)
            rates = [value[field] for key, value in found if f"labels {precision}" in key]
            rows.append((f"{title}, {precision}", cell(max(rates, default=None), 0)))
    link = "All: [benchmarks](docs/benchmarks.md), [engines](docs/engines.md)."
    return [measured(run), table(("at 384x480, best batch", "images/s"), rows), link]


PAGES: Final[dict[str, Callable[[Run], list[str]]]] = {
    "docs/benchmarks.md": benchmarks_page,
    "docs/engines.md": engines_page,
    "README.md": readme,
}


def placed(page: Path, text: str) -> str:
    """Return a page with its marked part replaced.

    Raises:
        ValueError: The page does not hold the two markers once each, in order.
    """
    content = page.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before or END in after:
        rule = f"must hold {BEGIN} and {END} once each, in this order"
        raise ValueError(message(str(page), rule, "other markers", "put them where tables belong"))
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def read(paths: list[Path]) -> Run:
    """Read reports.

    Raises:
        ValueError: A file is not a report.
        OSError: It cannot be read.
    """
    reports = {}
    for path in paths:
        try:
            reports[str(path)] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            remedy = "name the file that -o made"
            raise ValueError(message(str(path), "must be JSON", str(error), remedy)) from None
    return Run(reports)


def texts(run: Run) -> dict[str, str]:
    """Return the new text of each page's marked part."""
    return {name: "\n\n".join(part for part in make(run) if part) for name, make in PAGES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="+", help="what benchmarks.gpu -o made")
    parser.add_argument("--stdout", action="store_true", help="print the tables, write nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout with the pages")
    options = parser.parse_args()
    try:
        run = read(options.reports)
        if options.stdout:
            for name, text in texts(run).items():
                print(f"## {name}\n\n{text}\n")
            return
        if run.dry:
            rule, got = "pages take numbers of a GPU only", "a dry run"
            remedy = "show its tables with --stdout"
            raise ValueError(message("gpu_page", rule, got, remedy))
        pages = {options.root / name: text for name, text in texts(run).items()}
        contents = {page: placed(page, text) for page, text in pages.items()}
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    for page, content in contents.items():  # every page was found fit before the first is written
        atomic_write(page, content.encode())
        print(page, file=sys.stderr)


if __name__ == "__main__":
    main()
