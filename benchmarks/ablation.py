"""What each ingredient of a recipe is worth: the same training with it and without it.

    python -m benchmarks.ablation DATA RUNS [--model NAME] [--rows NAME ...] [--seeds 1 2]
        [--steps N] [--teacher run/best.pt] [--out docs/results.md]
    python -m benchmarks.ablation DATA RUNS --table [--out docs/results.md]

A row of ROWS is a change of one baseline. Each row is trained once per seed by ``fcnkit train``,
into a run folder under RUNS, for the same number of steps; a row whose steps cost more takes fewer.
The network after the last step is scored on the full images of ``val`` as ``fcnkit eval`` scores
it. That is the only look at ``val``. Its result goes to RUNS/ROW-SEED.json.

A finished run is skipped, and one that was cut off goes on, so the command can be repeated.

--out writes all runs to ablation.csv beside the page, and a table between two markers of the page.
Without it, both are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Final

from benchmarks.markdown import Place, table, write_rows
from fcnkit.train.data.voc import open_voc

PLACE = Place(
    "ablation.csv", "<!-- table: python -m benchmarks.ablation -->", "<!-- end of table -->"
)
BASELINE = "baseline"
BATCH = 4


@dataclass(frozen=True)
class Row:
    """A change of the baseline."""

    options: tuple[str, ...]
    """Of ``fcnkit train``, after the baseline's."""
    cost: float = 1.0
    """Time of its step, in steps of the baseline; it gets that many fewer."""


OF_ALL: Final = (
    *("--recipe", "modern", "--batch", str(BATCH)),
    *("--half-size", "0.5", "--dice", "0.5"),
)
ROWS: Final = {
    BASELINE: Row(()),
    "no Dice": Row(("--dice", "0")),
    "no average of the weights": Row(("--ema", "0")),
    # An epoch of half the size takes a third of the time, and half of the baseline's are such.
    "no half-size epochs": Row(("--half-size", "0"), cost=1.5),
    "learning rate x2": Row(("--lr", "2e-3")),
    "learning rate x4": Row(("--lr", "4e-3")),
    "class weights": Row(("--class-weights", "frequency")),
    "OHEM": Row(("--loss", "ohem")),
    "focal loss": Row(("--loss", "focal")),
    "scale 0.5..2": Row(("--scale", "0.5..2")),
    "color 0.5": Row(("--color", "0.5")),
    "balanced crops": Row(("--balanced-crops", "0.5")),
    "class mix": Row(("--class-mix", "0.5")),
    "auxiliary head": Row(("--auxiliary", "0.4"), cost=1.1),
    "teacher": Row((), cost=1.3),
}
"""Every row by its name; the options of ``teacher`` are those of the command line."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every run has in common."""

    data: Path
    runs: Path
    model: str
    steps: int
    teacher: Path | None = None

    def options(self, name: str, seed: int) -> list[str]:
        """Return the options of ``fcnkit train`` of one run."""
        row, epochs = ROWS[name], self.epochs(name)
        lesson = ["--teacher", str(self.teacher)] if name == "teacher" else []
        return [
            *OF_ALL,
            *row.options,
            *lesson,
            *("--model", self.model, "--seed", str(seed)),
            *("--epochs", str(epochs), "--validate-every", str(epochs)),
        ]

    def epochs(self, name: str) -> int:
        """Return the epochs of a row that have about the plan's steps."""
        images = len(open_voc(self.data, split="train").samples)
        steps_per_epoch = max(1, images // BATCH)
        return max(1, round(self.steps / ROWS[name].cost / steps_per_epoch))


def run_of(plan: Plan, name: str, seed: int) -> dict[str, Any]:
    """Train one run to its end, unless that is done; return its result."""
    options, run = plan.options(name, seed), plan.runs / f"{name.replace(' ', '-')}-{seed}"
    result = run.with_name(f"{run.name}.json")
    if result.exists():
        done: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if done["options"] != options:
            got = " ".join(done["options"])
            raise SystemExit(f"{result} must be of {' '.join(options)}, got {got}; use other RUNS")
        return done
    command = [sys.executable, "-m", "fcnkit.train", str(plan.data), "-o", str(run), "--resume"]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    done = {"row": name, "seed": seed, "options": options, **scores_of(history)}
    result.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
    (run / "last.pt").unlink()  # Four times the size of best.pt, which is the same network.
    return done


def scores_of(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what the rows of a run's metrics.jsonl say together."""
    last = history[-1]
    return {
        "epochs": len(history),
        # Pauses of the machine count; validations do not.
        "seconds_per_image": mean(1 / row["images_per_second"] for row in history),
        "looks_at_val": sum("mean_iou" in row for row in history),
        **{key: last[key] for key in ("mean_iou", "pixel_accuracy", "iou")},
    }


def cells(run: dict[str, Any]) -> dict[str, str]:
    """Return one run as the CSV file has it."""
    return {
        "row": run["row"],
        "seed": str(run["seed"]),
        "epochs": str(run["epochs"]),
        "milliseconds_per_image": f"{1000 * run['seconds_per_image']:.0f}",
        "mean_iou": f"{run['mean_iou']:.4f}",
        "pixel_accuracy": f"{run['pixel_accuracy']:.4f}",
        "looks_at_val": str(run["looks_at_val"]),
        "options": " ".join(run["options"]),
    }


def summary(runs: Sequence[dict[str, Any]]) -> str:
    """Return the table: a line per row of ROWS, what it adds to the baseline, and the spread."""
    by_row: dict[str, dict[int, float]] = {}
    for run in runs:
        by_row.setdefault(run["row"], {})[run["seed"]] = run["mean_iou"]
    seeds = sorted({run["seed"] for run in runs})
    head = ["row", *(f"seed {seed}" for seed in seeds), "mean", "spread", "against baseline"]
    lines = [
        [name, *(_text(found.get(seed)) for seed in seeds), *_figures(found, by_row.get(BASELINE))]
        for name, found in by_row.items()
    ]
    looks = sum(run["looks_at_val"] for run in runs)
    note = (
        f"Runs: {len(runs)}. Looks at `val`: {looks}. The spread is the largest mean IoU less the "
        "smallest, over the seeds. The last column is the mean over the seeds that both have."
    )
    return f"{table(head, lines)}\n\n{note}"


def _figures(found: dict[int, float], baseline: dict[int, float] | None) -> list[str]:
    """Return mean, spread and distance to the baseline of a row."""
    spread = max(found.values()) - min(found.values()) if len(found) > 1 else None
    shared = sorted(set(found) & set(baseline or {}))
    gain = mean(found[seed] - (baseline or {})[seed] for seed in shared) if shared else None
    against = "-" if gain is None or found is baseline else f"{gain:+.3f}"
    return [_text(mean(found.values())), _text(spread), against]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs, in the order of ROWS and of the seeds."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    return sorted(runs, key=lambda run: (list(ROWS).index(run["row"]), run["seed"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder in VOC layout")
    parser.add_argument("runs", type=Path, help="folder for the runs and their results")
    parser.add_argument("--model", default="ddrnet23slim", help="as for fcnkit train")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="all, by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=4500, help="of each run, of 4 images each")
    parser.add_argument("--teacher", type=Path, help="checkpoint; without it that row is left out")
    parser.add_argument("--table", action="store_true", help="use the finished runs, train nothing")
    parser.add_argument("--out", type=Path, help="page that gets the table")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        data=options.data,
        runs=options.runs,
        model=options.model,
        steps=options.steps,
        teacher=options.teacher,
    )
    if options.teacher is None and "teacher" in (options.rows or ()):
        parser.error("the row teacher needs --teacher run/best.pt")
    names = options.rows or [name for name in ROWS if name != "teacher" or options.teacher]
    # Seed by seed, so that a table can be made before all is done.
    for seed in () if options.table else options.seeds:
        for name in names:
            run = run_of(plan, name, seed)
            print(f"{name}, seed {seed}: mean IoU {run['mean_iou']:.4f}", flush=True)
    runs = runs_in(options.runs)
    if not runs:
        raise SystemExit(f"{options.runs} must hold finished runs, got none; leave --table out")
    write_rows([cells(run) for run in runs], summary(runs), options.out, PLACE)


if __name__ == "__main__":
    main()
