"""Names, times and surroundings of ZIP members as Windows, Japan and macOS write them."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archives.archive_files import Member, zip_of, zipped
from tests.archives.conftest import Extract, contents

from aerotask.archives.name_encoding import NameEncoding

Refused = Callable[..., tuple[str, str]]
DOS, UNIX, NTFS = 0, 3, 10
ON_15_JULY_2020 = (13 << 11 | 37 << 5 | 21, 40 << 9 | 7 << 5 | 15)
"""13:37:42, as DOS has it."""


def old(*names: str, encoding: str, system: int = DOS) -> bytes:
    """ZIP with names in a legacy encoding, without a mark for UTF-8."""
    return zip_of(
        Member(name, b"x", flags=0, raw_name=name.encode(encoding), system=system) for name in names
    )


@pytest.mark.parametrize("system", [DOS, NTFS])
def test_backslashes_of_windows_tools_separate_folders(extracted: Extract, system: int) -> None:
    members = [
        Member("DICOM\\PA20\\a.txt", b"x", system=system),
        Member("DICOM\\empty\\", b"", system=system),
    ]
    found = extracted(zip_of(members))
    assert (contents(found), list(found.folders)) == ({"DICOM/PA20/a.txt": b"x"}, ["DICOM/empty"])


@pytest.mark.parametrize(
    "name", ["a\\..\\..\\evil", "\\\\server\\share", "C:\\evil", "\\etc\\passwd", "..\\evil"]
)
def test_backslashes_lead_nowhere_else(refused: Refused, name: str) -> None:
    assert refused(zip_of([Member(name, b"x", system=DOS)]))[0] == "archive-unsafe-name"


def test_backslashes_of_other_systems_are_part_of_the_name(refused: Refused) -> None:
    assert refused(zip_of([Member("a\\b", b"x", system=UNIX)]))[0] == "archive-unsafe-name"


def test_dots_and_double_slashes_are_left_out_of_names(extracted: Extract) -> None:
    members = [
        Member("./a.txt", b"1"),
        Member("./b/./c.txt", b"2"),
        Member("d//e.txt", b"3"),
        Member("./", b""),
    ]
    assert contents(extracted(zip_of(members))) == {"a.txt": b"1", "b/c.txt": b"2", "d/e.txt": b"3"}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("新しいフォルダ/写真ソ.txt", "cp932"),  # its last character has a backslash as second byte
        ("測量データ/平面図.dxf", "cp932"),
        ("无人机/照片.jpg", "cp936"),
        ("DJI照片/测试 (1).jpg", "cp936"),
        ("無人機/照片.jpg", "cp950"),
        ("Фото/снимок.txt", "cp866"),
        ("Фото/снимок.txt", "cp1251"),
        ("Größe.txt", "cp1252"),
        ("Größe.txt", "cp850"),
        ("Données/été.jpg", "cp1252"),
        ("Données/été.jpg", "cp437"),
        ("Vuelo_señal.tif", "cp850"),
        ("Příliš žluťoučký.txt", "cp1250"),
        ("Łódź.tif", "cp852"),
    ],
)
def test_a_name_in_the_only_encoding_that_gives_words_is_read_in_it(
    extracted: Extract, name: str, encoding: str
) -> None:
    found = extracted(old(name, encoding=encoding))
    assert (list(contents(found)), found.warnings) == ([name], [])


def test_all_names_of_an_archive_are_in_one_encoding(extracted: Extract) -> None:
    # By itself the second could be Latin or Cyrillic.
    names = ["Фото/снимок.txt", "В.txt"]
    found = extracted(old(*names, encoding="cp866"))
    assert (list(contents(found)), found.warnings) == (names, [])


def test_names_that_may_be_in_several_encodings_are_warned_of(extracted: Extract) -> None:
    found = extracted(old("사진.jpg", "드론.jpg", "plain.jpg", encoding="cp949"))
    assert len(found.files) == 3
    assert [warning[:22] for warning in found.warnings] == ["2 names aren't in UTF-"]
    assert "nameEncoding" in found.warnings[0]


def test_a_refusal_of_a_name_in_a_doubtful_encoding_says_so(refused: Refused) -> None:
    code, message = refused(old("../사진.jpg", encoding="cp949"))
    assert (code, "set nameEncoding" in message) == ("archive-unsafe-name", True)
    assert "nameEncoding" not in refused(zip_of([Member("../a", b"x")]))[1]


@pytest.mark.parametrize("encoding", ["cp949", "cp932", "cp1251", "utf-8"])
def test_the_encoding_can_be_named(extracted: Extract, encoding: NameEncoding) -> None:
    name = {"cp949": "사진/드론", "cp932": "ﾄﾞﾛｰﾝ", "cp1251": "дом", "utf-8": "дом"}[encoding]
    found = extracted(old(name, encoding=encoding), name_encoding=encoding)
    assert (list(contents(found)), found.warnings) == ([name], [])


def test_a_wrong_encoding_is_refused_with_the_bytes_of_the_name(refused: Refused) -> None:
    code, message = refused(old("Größe", encoding="cp1252"), name_encoding="utf-8")
    assert (code, "'Gr\\xf6\\xdfe'" in message) == ("archive-name-encoding", True)


def test_a_mark_for_utf_8_on_other_bytes_counts_for_nothing(extracted: Extract) -> None:
    lying = Member("", b"x", flags=0x0800, raw_name="Größe.txt".encode("cp1252"))
    assert list(contents(extracted(zip_of([lying])))) == ["Größe.txt"]


def test_a_self_extracting_archive_is_read(extracted: Extract) -> None:
    program = b"MZ" + bytes(500)
    members = [Member("a.txt", b"1"), Member("b.txt", b"2")]
    shifted, adjusted = program + zip_of(members), zip_of(members, prefix=program)
    for archive in (shifted, adjusted):
        found = extracted(archive, path="setup.exe")
        assert (contents(found), found.format) == ({"a.txt": b"1", "b.txt": b"2"}, "ZIP")


def test_bytes_behind_the_end_are_skipped(extracted: Extract) -> None:
    whole = zip_of([Member("a.txt", b"1")])
    for tail in (b"\n", b"\n\0\0", bytes(5000)):
        assert contents(extracted(whole + tail)) == {"a.txt": b"1"}


def test_a_truncated_zip_that_holds_a_whole_one_is_not_taken_for_that(refused: Refused) -> None:
    inner = zip_of([Member("inner.txt", b"1")])
    outer = zip_of([Member("a.txt", b"2" * 1000), Member("inner.zip", inner), Member("b.txt", b"3")])
    cut = outer.index(inner) + len(inner)
    assert refused(outer[:cut])[0] == "archive-damaged"
    assert refused(outer[: cut + 20])[0] == "archive-damaged"


@pytest.mark.parametrize(
    ("extra", "mtime"),
    [
        (b"", 1_594_820_262),  # a time without a zone counts as UTC
        (struct.pack("<2HBl", 0x5455, 5, 1, 1_600_000_001), 1_600_000_001),
        (struct.pack("<2HBl", 0x5455, 5, 2, 1_600_000_001), 1_594_820_262),  # no modification time
        (struct.pack("<2H4x2HQQQ", 10, 32, 1, 24, 132_444_736_010_000_000, 1, 1), 1_600_000_001),
        (struct.pack("<2H2l", 0x5855, 8, 1, 1_600_000_001), 1_600_000_001),
    ],
)
def test_times_come_from_the_most_exact_field(extracted: Extract, extra: bytes, mtime: int) -> None:
    found = extracted(zip_of([Member("a", b"x", dos_time=ON_15_JULY_2020, extra=extra)]))
    assert [file.mtime for file in found.files] == [mtime]


def test_an_impossible_time_is_unknown(extracted: Extract) -> None:
    found = extracted(zip_of([Member("a", b"x", dos_time=(0, 0))]))
    assert [file.mtime for file in found.files] == [None]


LITTER = {
    "shp/a.geojson": b"{}",
    "__MACOSX/": b"",
    "__MACOSX/shp/._a.geojson": b"\0\5\26\7",
    "shp/.DS_Store": b"Bud1",
    "Thumbs.db": b"x",
    "shp/Desktop.ini": b"x",
    "my Thumbs.db.txt": b"kept",
}


def test_litter_of_operating_systems_is_left_out_and_counted(extracted: Extract) -> None:
    found = extracted(zipped(LITTER))
    assert contents(found) == {"shp/a.geojson": b"{}", "my Thumbs.db.txt": b"kept"}
    assert (found.ignored, list(found.folders)) == (4, [])


def test_litter_is_kept_on_demand(extracted: Extract) -> None:
    found = extracted(zipped(LITTER), keep_litter=True)
    assert (len(found.files), found.ignored, list(found.folders)) == (6, 0, ["__MACOSX"])


def test_litter_with_an_unsafe_name_is_refused(refused: Refused) -> None:
    assert refused(zip_of([Member("__MACOSX/../../x", b"")]))[0] == "archive-unsafe-name"


@pytest.mark.parametrize("tail", [b"", b"\n\0\0"])
@pytest.mark.parametrize("prefix", [b"", b"MZ" + bytes(500)])
def test_info_zip_reads_the_same(tmp_path: Path, extracted: Extract, prefix: bytes, tail: bytes) -> None:
    members = [
        Member("./a.txt", b"1"),
        Member("b//c.txt", b"2"),
        Member("d\\e.txt", b"3", system=DOS, flags=0),
    ]
    archive = prefix + zip_of(members) + tail
    (tmp_path / "made.zip").write_bytes(archive)
    try:
        command = ["unzip", "-qq", "made.zip", "-d", "out"]
        subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("unzip is not installed")
    out = tmp_path / "out"
    theirs = {
        file.relative_to(out).as_posix(): file.read_bytes() for file in out.rglob("*") if file.is_file()
    }
    assert contents(extracted(archive)) == theirs == {"a.txt": b"1", "b/c.txt": b"2", "d/e.txt": b"3"}
