import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput, InvalidPath

ATTACKS = [
    "",
    "/",
    "..",
    "../secret",
    "a/../../b",
    "a/./b",
    "a//b",
    "/etc/passwd",
    "a\\..\\b",
    "%2e%2e%2fsecret",
    "%252e%252e%252fsecret",
    "a/%2e%2e/b",
    "a%00b",
    "a\0b",
    "a\nb",
    "a\x1b[31mb",
    "\uff0e\uff0e/secret",
    "\u2025/secret",
    "a\uff3c..\uff3cb",
    ".ddb",
    ".ddb/dbase.sqlite",
    ".DDB/x",
    "%2eddb/x",
    "zip://a.zip",
    "/vsicurl/http://x/y.tif",
    "NETCDF:a.nc",
    'HDF5:"a.h5"://b',
    "file:a",
    "C:\\a",
    "C:a",
    "x" * 256,
    "a/" * 600 + "b",
    "\ud800.tif",
    "photo_\u202egpj.exe",
    "a/\u2066b",
    "photo_%E2%80%AEgpj.exe",
]

HARMLESS = [
    "orthophoto.tif",
    "a/b/c.tif",
    "Feld 7 (Süd).tif",
    "年/空撮:1.jpg",
    "12:30.jpg",
    "📷.jpg",
    "50%.tif",
    "a..b/...c",
    "ddb/x",
    ".hidden",
    "صورة\u200f.tif",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused(attack: str) -> None:
    with pytest.raises(InvalidPath):
        paths.entry_path(attack)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_path_stays_as_it_is(name: str) -> None:
    assert paths.entry_path(name) == name


def test_a_trailing_slash_is_removed() -> None:
    assert paths.entry_path("a/b/") == "a/b"


def test_a_path_is_normalised_to_nfc() -> None:
    assert paths.entry_path("e\u0301.tif") == "\u00e9.tif"


@pytest.mark.parametrize("raw", [None, "", "/", "."])
def test_the_root_has_several_spellings(raw: str | None) -> None:
    assert paths.folder_path(raw) == ""


@pytest.mark.parametrize("name", ["a/b", "a/", "a%2fb", "..", "a\tb", "a\\b"])
def test_a_file_name_with_a_separator_or_control_character_is_refused(name: str) -> None:
    with pytest.raises(InvalidPath):
        paths.file_name(name)


@pytest.mark.parametrize("slug", ["a", "acme", "a-b_c9", "9", "x" * 128])
def test_a_valid_slug_passes(slug: str) -> None:
    assert paths.slug(slug) == slug


@pytest.mark.parametrize("slug", ["", "A", "a--b", "-a", "_a", "a b", "x" * 129, "ä", "a/b"])
def test_an_invalid_slug_is_refused(slug: str) -> None:
    with pytest.raises(InvalidInput):
        paths.slug(slug)


def test_parents_are_the_folders_above_outermost_first() -> None:
    assert paths.parents("a/b/c.tif") == ("a", "a/b")
    assert paths.parents("c.tif") == ()


def test_two_paths_overlap_if_one_is_below_the_other() -> None:
    assert paths.overlap("a", "a/b")
    assert paths.overlap("a/b", "a")
    assert paths.overlap("", "a")
    assert not paths.overlap("a", "ab")


def test_a_message_shows_control_characters_escaped() -> None:
    assert paths.shown("a\x1bb") == "'a\\u001bb'"


@given(st.text(max_size=200))
def test_every_accepted_path_stays_below_its_folder(raw: str) -> None:
    try:
        path = paths.entry_path(raw)
    except InvalidPath:
        return
    assert not path.startswith("/")
    assert not any(segment in {"", ".", ".."} for segment in path.split("/"))
    assert paths.entry_path(path) == path
