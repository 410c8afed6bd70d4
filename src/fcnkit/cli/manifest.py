"""``fcnkit manifest``: what the runs into an output folder did."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fcnkit.cli.documented import documented
from fcnkit.cli.options import Json
from fcnkit.cli.say import say
from fcnkit.errors import BadValueError, message, printable

if TYPE_CHECKING:
    from pathlib import Path

    from fcnkit.runtime.predict.summary import Summary
    from fcnkit.runtime.predict.urls import Url

__all__ = ["manifest"]

_SHOWN = 20
"""Names of one kind that are printed; ``--json`` has all of them."""


@documented
def manifest(
    out: Annotated[str, typer.Argument(metavar="DIR", help="The output folder of predict.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT...]", help="What predict labels, to count what is left."),
    ] = None,
    *,
    root: Annotated[str | None, typer.Option(metavar="DIR")] = None,
    lines: Annotated[bool, typer.Option("--lines")] = False,
    as_json: Json = False,
) -> None:
    """Count what is done and failed, over all parts, and find duplicates and missing results.

    Options:
        root: As for predict, with INPUT.
        lines: Print the last line of every result, as JSON.
    """
    from fcnkit.runtime.predict.inputs import Listing
    from fcnkit.runtime.predict.jobs import checked
    from fcnkit.runtime.predict.summary import last_lines, summarize
    from fcnkit.runtime.predict.urls import path_or_url

    place = path_or_url(out)
    if lines and as_json:
        rule, remedy = "takes --lines or --json", "leave one out; --lines prints JSON already"
        raise BadValueError(message("fcnkit manifest", rule, "both", remedy))
    if not inputs and root is not None:
        rule, remedy = "--root goes with INPUT", "name what predict labels, or leave --root out"
        raise BadValueError(message("fcnkit manifest", rule, f"--root {root} alone", remedy))
    if lines and inputs:
        rule, remedy = "--lines goes without INPUT", "leave one out"
        raise BadValueError(message("fcnkit manifest", rule, inputs[0], remedy))
    if lines:
        for line in last_lines(place):
            say(json.dumps(line))
        return
    jobs = checked(Listing(inputs, out, root=root), place) if inputs else None
    found = summarize(place, jobs)
    if as_json:
        say(json.dumps(asdict(found)))
    else:
        _say(found, place)
    if found.failed or found.missing or found.duplicates or found.left:
        raise typer.Exit(1)


def _say(found: Summary, out: Path | Url) -> None:
    counts = {
        "done": found.done,
        "failed": sum(found.failed.values()),
        "missing": len(found.missing),
        "duplicates": len(found.duplicates),
    }
    if found.left is not None:
        counts["left"] = len(found.left)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    say(f"{printable(str(out))}: {told}; manifests: {len(found.manifests)}")
    _say_some([f"failed, {count}: {reason}" for reason, count in found.failed.items()])
    _say_some([f"missing: {name}" for name in found.missing])
    _say_some([f"duplicate: {one}" for one in found.duplicates])
    _say_some([f"left: {path}" for path in found.left or []])
    _say_some([f"torn lines in {name}: {count}" for name, count in found.torn.items()])


def _say_some(texts: list[str]) -> None:
    for one in texts[:_SHOWN]:
        say(printable(one))
    if len(texts) > _SHOWN:
        say(f"and {len(texts) - _SHOWN} more; --json lists all of them")
