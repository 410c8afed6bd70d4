"""Which class becomes which: the grammar of ``--map`` and ``--keep``.

A map is a list of rules, separated by commas or line breaks::

    RULE := OLD = NEW
    OLD  := an id, a class name, "void" (what the source ignores) or * (every other class)
    NEW  := a class name, or "void" (ignored in training and in scores)

Blanks around a name do not count. A name with a comma, an equals sign or blanks at its ends is
written in double quotes, and a quote inside it is doubled. A quoted number is a name and no id.
A value ``@FILE`` is read from that file, where ``#`` begins a comment line.

A class that no rule names keeps its name. ``--keep a,b`` keeps these and makes the others void,
unless a rule says what else they become.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from fcnkit.errors import BadValueError, message
from fcnkit.runtime.artifacts.plain import is_text
from fcnkit.runtime.artifacts.spec import VOID

__all__ = ["VOID_NAME", "ClassMap", "Mapped", "OldClass", "parse_class_map"]

VOID_NAME: Final = "void"
_REST: Final = "*"
_BACKGROUND: Final = "background"
_MAX_BYTES: Final = 1 << 20
_SHOWN: Final = 20
"""At most this many classes are named in an error."""


class OldClass(NamedTuple):
    """A class before mapping."""

    name: str | None
    """None where the source has numbers alone."""
    id: int | None = None
    """The source's number for it; None where it has none."""
    void: bool = False
    """Whether the source ignores it. It stays void unless a rule names it."""


class Mapped(NamedTuple):
    """Classes after mapping."""

    classes: tuple[str, ...]
    """The new classes; a class's label is its place. ``background`` comes first, the others in the
    order of the old classes."""
    labels: tuple[int, ...]
    """The new label of every old class, 255 for void."""
    unused: tuple[str, ...]
    """Ids in rules that no old class has."""


@dataclass(frozen=True)
class _Name:
    text: str
    quoted: bool = False

    @property
    def id(self) -> int | None:
        digits = self.text.isascii() and self.text.isdigit() and len(self.text) < 10
        return int(self.text) if digits and not self.quoted else None


@dataclass(frozen=True)
class _Rule:
    old: _Name
    new: str | None
    """None keeps the old name."""
    option: str
    """Where it was written, for errors."""


@dataclass(frozen=True)
class ClassMap:
    """Rules in their order. Make one with ``parse_class_map``."""

    rules: tuple[_Rule, ...] = ()
    keeps: bool = False
    """Whether classes without a rule become void."""

    def names_id(self, id: int) -> bool:
        """Whether a rule is about this id."""
        return any(rule.old.id == id for rule in self.rules)

    def resolve(self, classes: Sequence[OldClass], *, open_ids: bool = False) -> Mapped:
        """Apply the rules to the classes of a data set or a model.

        Args:
            classes: The old classes. Several may have one name: they become one class.
            open_ids: Whether a rule may name an id that none of the classes has.

        Returns:
            The new classes, and which of them every old one becomes.

        Raises:
            ValueError: A rule names no class, two rules name the same class, a class without a
                name has no rule, or not 1 to 255 classes are left.
        """
        targets: dict[int, str] = {}
        unused: list[str] = []
        for rule in self.rules:
            if rule.old in (_Name(_REST), _Name(VOID_NAME)):
                continue
            found = _matching(rule, classes)
            if not found and open_ids and rule.old.id is not None:
                unused.append(rule.old.text)
            elif not found:
                raise _unknown(rule, classes)
            for place in found:
                if place in targets:
                    rule_text = "a class is named by one rule"
                    got = f"{_written(classes[place])} twice"
                    raise BadValueError(message(rule.option, rule_text, got, "drop one of them"))
                targets[place] = _target(rule, classes[place])
        for place, old in enumerate(classes):
            if place not in targets:
                targets[place] = self._default(old)
        names = _in_order([targets[place] for place in range(len(classes))])
        if not 1 <= len(names) <= VOID:
            remedy = (
                "map fewer classes to void" if not names else "join classes or map some to void"
            )
            rule_text = f"1 to {VOID} classes must be left"
            raise BadValueError(message("--map", rule_text, len(names), remedy))
        labels = {name: label for label, name in enumerate(names)}
        found_labels = tuple(labels.get(targets[place], VOID) for place in range(len(classes)))
        return Mapped(names, found_labels, tuple(unused))

    def _default(self, old: OldClass) -> str:
        """Return what a class becomes that no rule names by itself."""
        general = _Name(VOID_NAME if old.void else _REST)
        for rule in self.rules:
            if rule.old == general:
                return _target(rule, old)
        if old.void or self.keeps:
            return VOID_NAME
        if old.name is not None:
            return old.name
        if not self.rules:
            return f"class_{old.id}"
        rule_text, remedy = "every id needs a class", f"add {old.id}=NAME or *=void"
        raise BadValueError(message("--map", rule_text, f"none for id {old.id}", remedy))


def parse_class_map(map: str | None = None, keep: str | None = None) -> ClassMap:
    """Read the texts of ``--map`` and ``--keep``.

    Args:
        map: Rules ``OLD=NEW,...``, or ``@FILE`` with the rules.
        keep: Classes ``a,b``, or ``@FILE`` with a class per line.

    Returns:
        The rules.

    Raises:
        ValueError: A rule is malformed, or two rules have the same OLD.
        OSError: A file cannot be read.
    """
    rules: list[_Rule] = []
    if keep is not None:
        parts = _parts(_text(keep, "--keep"), "--keep")
        rules += [_Rule(_name(part, part, "--keep"), None, "--keep") for part in parts]
    if map is not None:
        rules += [_rule(part) for part in _parts(_text(map, "--map"), "--map")]
    seen: set[_Name] = set()
    for rule in rules:
        if rule.old in seen:
            rule_text, got = "a class is named by one rule", f"{rule.old.text} twice"
            raise BadValueError(message(rule.option, rule_text, got, "drop one of them"))
        seen.add(rule.old)
    return ClassMap(tuple(rules), keeps=keep is not None)


def _text(text: str, option: str) -> str:
    """Return the rules of an option, from its file where it names one."""
    if not text.startswith("@"):
        return text
    path = Path(text[1:])
    what = f"{option} {path}"
    if path.exists() and not path.is_file():
        # Opening a pipe would wait for a writer that may never come.
        raise BadValueError(message(what, "must be a text file", "no regular file", "replace it"))
    if path.stat().st_size > _MAX_BYTES:
        rule, got = f"must have at most {_MAX_BYTES} bytes", path.stat().st_size
        raise BadValueError(message(what, rule, got, "write one rule per line"))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        remedy = "save it as UTF-8"
        raise BadValueError(message(what, "must be UTF-8 text", "other bytes", remedy)) from None
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _parts(text: str, option: str) -> list[str]:
    """Split rules at commas and line breaks."""
    parts = [part.strip() for part in _split(text, ",\n", option)]
    found = [part for part in parts if part]
    if not found:
        example = "write old=new" if option == "--map" else "write cat,dog"
        raise BadValueError(message(option, "must name a class", repr(text), example))
    return found


def _split(text: str, separators: str, option: str) -> list[str]:
    """Split a string where a separator stands outside of quotes."""
    parts, start, quoted = [], 0, False
    for place, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char in separators and not quoted:
            parts.append(text[start:place])
            start = place + 1
    if quoted:
        raise BadValueError(message(option, "a quote must be closed", repr(text), 'add a "'))
    return [*parts, text[start:]]


def _rule(part: str) -> _Rule:
    sides = _split(part, "=", "--map")
    if len(sides) != 2:
        remedy = "write tree=nature, with double quotes around a name that has = or a comma"
        raise BadValueError(message("--map", "a rule is written OLD=NEW", repr(part), remedy))
    return _Rule(_name(sides[0], part, "--map"), _new_name(sides[1], part), "--map")


def _new_name(side: str, part: str) -> str:
    name = _name(side, part, "--map")
    if name == _Name(_REST):
        remedy = "write the class's name or void"
        raise BadValueError(message("--map", "NEW must be a class or void", repr(part), remedy))
    return name.text


def _name(side: str, part: str, option: str) -> _Name:
    """Read one side of a rule."""
    text = side.strip()
    quoted = len(text) >= 2 and text[0] == text[-1] == '"'
    inner = text[1:-1] if quoted else text
    bare = inner.replace('""', "") if quoted else inner
    plain = inner.replace('""', '"') if quoted else inner
    if not plain.strip() or '"' in bare or not is_text(plain):
        rule = "a name is plain text, with double quotes around all of it or none"
        raise BadValueError(message(option, rule, repr(part), 'write "a name"=other'))
    return _Name(plain, quoted)


def _matching(rule: _Rule, classes: Sequence[OldClass]) -> list[int]:
    """Return the places of the classes that a rule is about: by id, else by name."""
    id = rule.old.id
    by_id = [place for place, old in enumerate(classes) if id is not None and old.id == id]
    return by_id or [place for place, old in enumerate(classes) if old.name == rule.old.text]


def _target(rule: _Rule, old: OldClass) -> str:
    if rule.new is not None:
        return rule.new
    return old.name if old.name is not None else f"class_{old.id}"


def _in_order(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the new classes, each once, the background first."""
    names = [name for name in dict.fromkeys(targets) if name != VOID_NAME]
    return tuple(sorted(names, key=lambda name: name.casefold() != _BACKGROUND))


def _written(old: OldClass) -> str:
    if old.name is None:
        return f"id {old.id}"
    return old.name if old.id is None else f"{old.name} (id {old.id})"


def _unknown(rule: _Rule, classes: Sequence[OldClass]) -> ValueError:
    shown = ", ".join(_written(old) for old in classes[:_SHOWN])
    more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    rule_text, remedy = "must name a class that there is", f"the classes are {shown}{more}"
    return BadValueError(message(rule.option, rule_text, repr(rule.old.text), remedy))
