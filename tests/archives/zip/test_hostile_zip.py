"""Hostile and damaged ZIP files: each is rejected with a specific code."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.archives.archive_files import Member, deflated, with_zip64_end, zip_of, zipped
from tests.archives.conftest import Extract, contents

from aerotask.sdk.limits import Limits

Refused = Callable[..., tuple[str, str]]
MIB = 1024 * 1024


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "a/../../evil.txt",
        "/etc/passwd",
        "//server/share.txt",
        "a\\..\\b.txt",
        "C:\\evil.txt",
        "C:/evil.txt",
        "a/%2e%2e/b.txt",
        "a/\uff0e\uff0e/b.txt",
        "line\nbreak.txt",
        "escape\x1b[31m.txt",
        "zip://a.txt",
        "n" * 300,
    ],
)
def test_an_unsafe_name_is_rejected(refused: Refused, name: str) -> None:
    code, message = refused(zip_of([Member("fine.txt", b"x"), Member(name, b"x")]))
    assert code == "archive-unsafe-name"
    assert not {"\n", "\x1b"} & set(message)


def test_a_nul_in_a_name_is_rejected(refused: Refused) -> None:
    assert refused(zip_of([Member("a.txt\0.jpg", b"x")]))[0] == "archive-unsafe-name"


@pytest.mark.parametrize(
    "names",
    [
        ("a.txt", "a.txt"),
        ("a.txt", "A.TXT"),
        ("stra\u00dfe", "STRASSE"),
        ("\u00e9", "e\u0301"),
        ("a", "a/b.txt"),
        ("a/b.txt", "a"),
        ("Folder/one", "folder/two"),
        ("./a.txt", "a.txt"),
    ],
)
def test_names_that_collide_on_some_systems_are_rejected(refused: Refused, names: tuple[str, str]) -> None:
    assert refused(zip_of(Member(name, b"x") for name in names))[0] == "archive-duplicate-name"


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        (stat.S_IFLNK, "symbolic link"),
        (stat.S_IFBLK, "device"),
        (stat.S_IFCHR, "device"),
        (stat.S_IFIFO, "pipe"),
        (stat.S_IFSOCK, "socket"),
    ],
)
def test_links_and_devices_are_rejected(refused: Refused, kind: int, called: str) -> None:
    code, message = refused(zip_of([Member("link", b"/etc/passwd", attributes=(kind | 0o777) << 16)]))
    assert code == "archive-special-file"
    assert called in message


@pytest.mark.parametrize("flag", [0x0001, 0x0040, 0x2000])
def test_an_encrypted_member_is_rejected(refused: Refused, flag: int) -> None:
    assert refused(zip_of([Member("a.txt", b"x", flags=0x0800 | flag)]))[0] == "archive-encrypted"


def test_a_bomb_whose_members_share_one_kernel_is_rejected(refused: Refused) -> None:
    kernel = deflated(bytes(20 * MIB))
    first = Member("0", kernel, method=8, crc32=zlib.crc32(bytes(20 * MIB)), size_bytes=20 * MIB)
    again = [
        Member(str(n), kernel, 8, first.crc32, 20 * MIB, local_name="0", header_at=0) for n in range(1, 100)
    ]
    assert refused(zip_of([first, *again]), limits=Limits(extraction_ratio=10**9))[0] == "archive-damaged"


def test_a_member_that_quotes_the_headers_of_others_is_rejected(refused: Refused) -> None:
    inner = zip_of([Member("b.txt", b"y" * 100)])
    inner_header = inner[: inner.index(b"PK\1\2")]
    outer = Member("a.txt", inner_header)
    quoted = Member("b.txt", b"y" * 100, header_at=30 + len("a.txt"))
    code, message = refused(zip_of([outer, quoted]))
    assert (code, "overlap" in message) == ("archive-damaged", True)


def test_a_bomb_of_zeros_is_rejected_before_extraction(refused: Refused) -> None:
    code, message = refused(zipped({"zeros": bytes(50 * MIB)}))
    assert (code, "times its own" in message) == ("archive-over-limit", True)


def test_a_nested_bomb_is_not_extracted(extracted: Extract) -> None:
    bomb = zipped({"zeros": bytes(50 * MIB)})
    outer = zipped({f"{n}.zip": bomb for n in range(3)}, zipfile.ZIP_STORED)
    assert contents(extracted(outer)) == {f"{n}.zip": bomb for n in range(3)}


@pytest.mark.parametrize("declared", [1, 9, 11, 10**6])
def test_a_wrong_declared_length_is_rejected(refused: Refused, declared: int) -> None:
    content = b"0123456789"
    lying = Member("a", deflated(content), 8, zlib.crc32(content), declared)
    code, message = refused(zip_of([lying]))
    assert (code, "declare" in message) == ("archive-damaged", True)


def test_a_small_declared_length_does_not_hide_a_bomb(refused: Refused) -> None:
    zeros = bytes(50 * MIB)
    lying = Member("a", deflated(zeros), 8, zlib.crc32(zeros), 10)
    assert refused(zip_of([lying]))[0] == "archive-damaged"


def test_a_local_header_that_contradicts_the_directory_is_rejected(refused: Refused) -> None:
    for lying in (
        Member("a.txt", b"abc", local_name="b.txt"),
        Member("a.txt", b"abc", local_size_bytes=2),
    ):
        code, message = refused(zip_of([lying]))
        assert (code, "contradict" in message) == ("archive-damaged", True)


def test_a_wrong_checksum_is_rejected(refused: Refused) -> None:
    code, message = refused(zip_of([Member("a.txt", b"abc", crc32=1)]))
    assert (code, "checksum" in message) == ("archive-damaged", True)


def test_bytes_after_a_deflated_member_are_rejected(refused: Refused) -> None:
    stream = deflated(b"abc") + b"more"
    assert refused(zip_of([Member("a", stream, 8, zlib.crc32(b"abc"), 3)]))[0] == "archive-damaged"


def test_a_truncated_archive_is_rejected_wherever_it_is_cut(refused: Refused) -> None:
    whole = zipped({"a.txt": b"a" * 1000, "b.txt": bytes(range(256)) * 40})
    for cut in range(4, len(whole), 97):
        assert refused(whole[:-cut])[0] in {"archive-damaged", "unsupported-format"}


def test_an_archive_of_200_000_entries_is_rejected_by_its_end_record(refused: Refused) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        member = zipfile.ZipInfo("x")
        archive.writestr(member, b"")
    # The counts in the ZIP64 end record suffice: 200,000 real headers would be 20 MB.
    whole = made.getvalue()
    at, directory = whole.rindex(b"PK\1\2"), whole[whole.rindex(b"PK\1\2") : whole.rindex(b"PK\5\6")]
    many = directory * 200_000
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 200_000, 200_000, len(many), at)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + len(many), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    code, message = refused(whole[:at] + many + wide + locator + end)
    assert (code, "100000 members" in message) == ("archive-over-limit", True)


def test_contradicting_end_records_are_rejected(refused: Refused) -> None:
    two = zip_of([Member("a", b"x"), Member("b", b"y")])
    for overrides in ({"count": 1}, {"size": 47}, {"at": 0}):
        code, message = refused(with_zip64_end(two, **overrides))
        assert (code, "contradict" in message) == ("archive-damaged", True)


def test_a_locator_that_points_nowhere_is_rejected(refused: Refused) -> None:
    two = zip_of([Member("a", b"x"), Member("b", b"y")])
    for at in (0, 50, len(two), 2**63):
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        assert refused(two[:-22] + locator + two[-22:])[0] == "archive-damaged"


def test_a_wrong_member_count_is_rejected(refused: Refused) -> None:
    two = [Member("a", b"x"), Member("b", b"y")]
    assert refused(zip_of(two, count=1))[0] == "archive-damaged"
    assert refused(zip_of(two, count=3))[0] == "archive-damaged"


def test_bytes_before_the_archive_are_rejected(refused: Refused) -> None:
    inner = zip_of([Member("a", b"x")])
    assert refused(b"PK\3\4 something before" + inner)[0] == "archive-damaged"


def test_limits_apply_to_bytes_entries_and_depth(refused: Refused, extracted: Extract) -> None:
    three = zipped({"a/b/c.txt": b"x" * 10, "d.txt": b"y" * 10, "e.txt": b"z" * 10})
    assert refused(three, limits=Limits(extracted_bytes=29))[0] == "archive-over-limit"
    assert refused(three, limits=Limits(extracted_entries=2))[0] == "archive-over-limit"
    assert refused(three, limits=Limits(archive_depth=1))[0] == "archive-over-limit"
    assert refused(three, limits=Limits(archive_bytes=len(three) - 1))[0] == "archive-over-limit"
    exactly = Limits(archive_bytes=len(three), extracted_bytes=30, extracted_entries=3, archive_depth=2)
    assert len(extracted(three, limits=exactly).files) == 3


def test_33_folders_are_one_too_many(refused: Refused, extracted: Extract) -> None:
    deep = "/".join("d" * 33) + "/x"
    assert refused(zipped({deep: b""}))[0] == "archive-over-limit"
    assert extracted(zipped({deep.removeprefix("d/"): b""})).files[0].path == deep.removeprefix("d/")


def test_an_unknown_compression_method_is_unsupported(refused: Refused) -> None:
    code, message = refused(zip_of([Member("a", b"x", method=6)]))
    assert (code, "method 6" in message) == ("unsupported-format", True)


def test_nothing_is_written_before_the_whole_directory_is_checked(refused: Refused, tmp_path: Path) -> None:
    members = [Member(f"{n}.txt", b"x") for n in range(5)]
    refused(zip_of([*members, Member("../last", b"x")]))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"x"] == []
