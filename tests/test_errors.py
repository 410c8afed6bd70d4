"""How errors are worded when what comes from a file is hostile."""

from __future__ import annotations

from fcnkit.errors import message, printable


def test_control_characters_are_escaped() -> None:
    assert printable("Ärger 犬") == "Ärger 犬"
    assert printable("\x1b[2J\u202e\udcff") == "\\x1b[2J\\u202e\\udcff"
    assert message("a\x07", "rule", "\x1b", "mend\nit") == "a\\x07: rule, got \\x1b; mend it"


def test_blanks_are_quoted() -> None:
    assert (
        message(" ", "must be a report", "", "write one")
        == "' ': must be a report, got ''; write one"
    )


def test_long_values_are_cut() -> None:
    assert message("a", "rule", "9" * 5000, "mend it") == f"a: rule, got {'9' * 1000}...; mend it"
