from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcnkit.runtime.artifacts.classmap import Mapped, OldClass, parse_class_map
from tests.refusal import refusal

STREET = [
    OldClass("sky", 0),
    OldClass("road", 7),
    OldClass("car", 26),
    OldClass("background", 30),
    OldClass("ego vehicle", 1, void=True),
    OldClass("void", 255, void=True),
]
IDS = [OldClass(None, 0), OldClass(None, 7), OldClass("void", 255, void=True)]


def mapped(map: str | None = None, keep: str | None = None) -> Mapped:
    return parse_class_map(map, keep).resolve(STREET)


def test_without_rules_every_class_keeps_its_name_and_the_background_comes_first() -> None:
    assert mapped() == (("background", "sky", "road", "car"), (1, 2, 3, 0, 255, 255), ())


@pytest.mark.parametrize(
    ("map", "keep", "expected"),
    [
        ("car=vehicle", None, {"sky": "sky", "road": "road", "car": "vehicle"}),
        ("26=vehicle,7=ground", None, {"sky": "sky", "road": "ground", "car": "vehicle"}),
        ("road=ground, car=ground", None, {"sky": "sky", "road": "ground", "car": "ground"}),
        ("car=car,*=void", None, {"car": "car"}),
        ("car=car,*=rest", None, {"sky": "rest", "road": "rest", "background": "rest"}),
        ("sky=void", None, {"road": "road", "sky": None}),
        ("sky=void\nroad=ground", None, {"road": "ground", "sky": None}),
        ('"ego vehicle"=hood', None, {"ego vehicle": "hood", "void": None}),
        ("1=hood", None, {"ego vehicle": "hood", "void": None}),
        ("void=background", None, {"ego vehicle": "background", "void": "background"}),
        ('"void"=sky', None, {"ego vehicle": None, "void": "sky"}),
        ("1=hood,void=sky", None, {"ego vehicle": "hood", "void": "sky"}),
        (None, "car,7", {"car": "car", "road": "road", "sky": None, "background": None}),
        ("*=background", "car", {"car": "car", "road": "background", "sky": "background"}),
        ("road=ground", "car", {"car": "car", "road": "ground", "sky": None}),
        ('car="a, b = ""c"""', None, {"car": 'a, b = "c"'}),
    ],
)
def test_rules(map: str | None, keep: str | None, expected: dict[str, str | None]) -> None:
    classes, labels, _ = mapped(map, keep)
    found = {
        old.name: None if label == 255 else classes[label]
        for old, label in zip(STREET, labels, strict=True)
    }
    assert {name: found[name] for name in expected} == expected


def test_a_quoted_number_is_a_name() -> None:
    classes = [OldClass("7", 0), OldClass("x", 7)]
    assert parse_class_map("7=a").resolve(classes).classes == ("7", "a")
    assert parse_class_map('"7"=a').resolve(classes).classes == ("a", "x")


def test_a_bare_number_is_a_name_where_no_class_has_that_id() -> None:
    assert parse_class_map("7=a").resolve([OldClass("7"), OldClass("x")]).classes == ("a", "x")


def test_classes_of_one_name_become_one_class() -> None:
    twice = [OldClass("background"), OldClass("cat", 3), OldClass("cat", 9), OldClass("dog", 5)]
    assert parse_class_map().resolve(twice) == (("background", "cat", "dog"), (0, 1, 1, 2), ())
    assert parse_class_map("cat=pet,dog=pet").resolve(twice).classes == ("background", "pet")


def test_ids_without_names() -> None:
    assert parse_class_map().resolve(IDS) == (("class_0", "class_7"), (0, 1, 255), ())
    rules = parse_class_map("7=road,9=car,*=rest")
    assert rules.resolve(IDS, open_ids=True) == (("rest", "road"), (0, 1, 255), ("9",))
    with refusal(
        ValueError, "--map: every id needs a class, got none for id 0; add 0=NAME or *=void"
    ):
        parse_class_map("7=road").resolve(IDS, open_ids=True)


def test_the_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.txt"
    path.write_text("\ufeff# streets\nroad=ground\n\n  # more\ncar=ground, sky=void\n")
    assert mapped(f"@{path}").classes == ("background", "ground")
    path.write_text("car\nroad\n")
    assert mapped(keep=f"@{path}").classes == ("road", "car")


@pytest.mark.parametrize(
    ("map", "keep", "text"),
    [
        ("", None, "--map: must name a class, got ''; write old=new"),
        (",", None, "--map: must name a class, got ','; write old=new"),
        (None, " ", "--keep: must name a class, got ' '; write cat,dog"),
        (
            "a",
            None,
            "--map: a rule is written OLD=NEW, got 'a'; write tree=nature, with double quotes "
            "around a name that has = or a comma",
        ),
        (
            "a=b=c",
            None,
            "--map: a rule is written OLD=NEW, got 'a=b=c'; write tree=nature, with double quotes "
            "around a name that has = or a comma",
        ),
        (
            "car=*",
            None,
            ("--map: NEW must be a class or void, got 'car=*'; write the class's name or void"),
        ),
        ('a"=b', None, "--map: a quote must be closed, got 'a\"=b'; add a \""),
        (
            'a"b"=c',
            None,
            "--map: a name is plain text, with double quotes around all of it or none, "
            'got \'a"b"=c\'; write "a name"=other',
        ),
        (
            "car=",
            None,
            "--map: a name is plain text, with double quotes around all of it or none, "
            "got 'car='; write \"a name\"=other",
        ),
        (
            "car=a\x1bb",
            None,
            "--map: a name is plain text, with double quotes around all of it or none, "
            "got 'car=a\\x1bb'; write \"a name\"=other",
        ),
        (
            "car=a,car=b",
            None,
            "--map: a class is named by one rule, got car twice; drop one of them",
        ),
        ("car=a", "car", "--map: a class is named by one rule, got car twice; drop one of them"),
        (
            "car=a,26=b",
            None,
            ("--map: a class is named by one rule, got car (id 26) twice; drop one of them"),
        ),
        (
            "carr=a",
            None,
            "--map: must name a class that there is, got 'carr'; the classes are sky (id 0), "
            "road (id 7), car (id 26), background (id 30), ego vehicle (id 1), void (id 255)",
        ),
        (
            None,
            "carr",
            "--keep: must name a class that there is, got 'carr'; the classes are sky (id 0), "
            "road (id 7), car (id 26), background (id 30), ego vehicle (id 1), void (id 255)",
        ),
        ("*=void", None, "--map: 1 to 255 classes must be left, got 0; map fewer classes to void"),
    ],
)
def test_malformed_rules(map: str | None, keep: str | None, text: str) -> None:
    with refusal(ValueError, text):
        mapped(map, keep)


def test_more_than_255_classes() -> None:
    many = [OldClass(f"c{n}", n) for n in range(256)]
    text = "--map: 1 to 255 classes must be left, got 256; join classes or map some to void"
    with refusal(ValueError, text):
        parse_class_map().resolve(many)
    assert len(parse_class_map("0=void").resolve(many).classes) == 255


def test_files_that_hold_no_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules"
    with pytest.raises(FileNotFoundError):
        parse_class_map(f"@{path}")
    with refusal(
        ValueError, f"--map {tmp_path}: must be a text file, got no regular file; replace it"
    ):
        parse_class_map(f"@{tmp_path}")
    path.write_bytes(b"a=\xff")
    with refusal(
        ValueError, f"--map {path}: must be UTF-8 text, got other bytes; save it as UTF-8"
    ):
        parse_class_map(f"@{path}")
    path.write_bytes(b"a=b\n" * (1 << 19))
    text = f"--map {path}: must have at most 1048576 bytes, got 2097152; write one rule per line"
    with refusal(ValueError, text):
        parse_class_map(f"@{path}")


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(
    lambda name: name.strip() and name != "void"
)


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.data())
def test_any_quoted_names(names: list[str], data: st.DataObject) -> None:
    new = [data.draw(NAMES) for _ in names]

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    text = ",".join(f"{quoted(a)}={quoted(b)}" for a, b in zip(names, new, strict=True))
    classes, labels, _ = parse_class_map(text).resolve([OldClass(name) for name in names])
    assert [classes[label] for label in labels] == new


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    if text.startswith("@"):
        return
    try:
        parse_class_map(text, None)
    except ValueError as error:
        assert str(error).startswith("--map: ")
