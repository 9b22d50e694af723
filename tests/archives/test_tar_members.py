"""TAR members that GNU tar and bsdtar write: labels, appended members, hard links, sparse files, times."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest
from tests.archives.archive_files import Member as ZipMember
from tests.archives.archive_files import (
    old_sparse,
    pax,
    pax_record,
    pax_sparse_1,
    rar_of,
    sevenzipped,
    tar_block,
    tarred,
    zip_of,
    zipped,
)
from tests.archives.conftest import Extract, contents

from aerotask.archives.formats import is_rar_volume
from aerotask.sdk.limits import Limits

Refused = Callable[..., tuple[str, str]]
END = bytes(1024)
MIB = 1024 * 1024


def test_a_volume_label_is_skipped(extracted: Extract) -> None:
    archive = tar_block(b"Vol 1", b"V") + tar_block(b"a.txt", b"0", b"x") + END
    assert contents(extracted(archive, path="a.tar")) == {"a.txt": b"x"}


def test_an_appended_member_replaces_the_earlier_one(extracted: Extract) -> None:
    archive = b"".join(tar_block(b"a.txt", b"0", content) for content in (b"old", b"newer", b"newest")) + END
    found = extracted(archive, path="a.tar")
    assert contents(found) == {"a.txt": b"newest"}
    assert len(list(found.files[0].file.parent.iterdir())) == 1


def test_a_member_that_replaces_one_of_another_kind_or_case_is_rejected(refused: Refused) -> None:
    file, folder, other = tar_block(b"a", b"0", b"x"), tar_block(b"a/", b"5"), tar_block(b"A", b"0", b"x")
    for archive in (file + folder, folder + file, file + other):
        assert refused(archive + END, path="a.tar")[0] == "archive-duplicate-name"


def test_a_hard_link_becomes_a_copy_of_the_member_that_it_names(extracted: Extract) -> None:
    archive = (
        tar_block(b"./a.txt", b"0", b"hello", mtime=b"14000000000\0")
        + tar_block(b"b.txt", b"1", link=b"a.txt", mtime=b"14000000001\0")
        + tar_block(b"a.txt", b"1", link=b"./a.txt")
        + END
    )
    found = extracted(archive, path="a.tar", dest="in")
    assert contents(found) == {"in/a.txt": b"hello", "in/b.txt": b"hello"}
    assert [file.mtime for file in found.files] == [0o14000000000, 0o14000000001]
    assert found.files[0].file != found.files[1].file


def test_the_name_of_a_hard_links_member_may_be_in_an_extended_header(extracted: Extract) -> None:
    name = b"long/" * 30 + b"a.txt"
    file = tar_block(b"long", b"L", name + b"\0") + tar_block(b"x", b"0", b"hello")
    by_gnu = tar_block(b"long", b"K", name + b"\0") + tar_block(b"b", b"1", link=b"cut")
    by_pax = pax(pax_record(b"linkpath", name)) + tar_block(b"c", b"1", link=b"cut")
    found = contents(extracted(file + by_gnu + by_pax + END, path="a.tar"))
    assert found == {name.decode(): b"hello", "b": b"hello", "c": b"hello"}


@pytest.mark.parametrize("link", [b"later", b"", b"folder"])
def test_a_hard_link_to_no_earlier_file_is_rejected(refused: Refused, link: bytes) -> None:
    archive = (
        tar_block(b"folder/", b"5") + tar_block(b"a", b"1", link=link) + tar_block(b"later", b"0", b"x") + END
    )
    assert refused(archive, path="a.tar")[0] == "archive-special-file"


@pytest.mark.parametrize("link", [b"../evil", b"/etc/passwd", b"a/../../b"])
def test_a_hard_link_that_leads_out_of_the_folder_is_rejected(refused: Refused, link: bytes) -> None:
    archive = tar_block(b"a", b"1", link=link) + END
    assert refused(archive, path="a.tar")[0] == "archive-unsafe-name"


def test_a_hard_link_to_a_file_that_is_kept_is_rejected_with_advice(refused: Refused) -> None:
    archive = tar_block(b"a", b"0", b"x") + tar_block(b"b", b"1", link=b"a") + END
    code, message = refused(archive, path="a.tar", wanted=lambda path: path != "a")
    assert (code, "set overwrite" in message) == ("archive-special-file", True)


def test_copies_for_hard_links_count_towards_the_limits(refused: Refused) -> None:
    links = b"".join(tar_block(b"%d" % number, b"1", link=b"a") for number in range(100))
    archive = tar_block(b"a", b"0", bytes(100_000)) + links + END
    code, message = refused(archive, path="a.tar", limits=Limits(extracted_bytes=MIB))
    assert (code, "1048576 bytes" in message) == ("archive-over-limit", True)


def expanded(regions: list[tuple[int, bytes]], size_bytes: int) -> bytes:
    whole = bytearray(size_bytes)
    for offset, content in regions:
        whole[offset : offset + len(content)] = content
    return bytes(whole)


REGIONS = [(512, b"a" * 512), (4096, b"b" * 700), (200_000, b"end\n")]
MANY = [(1024 * number, b"%03d!" % number) for number in range(60)]
FLAT = [number for offset, content in REGIONS for number in (offset, len(content))]
CONTENT = b"".join(content for _, content in REGIONS)
BY_RECORDS = {
    "0.0": pax_record(b"GNU.sparse.size", b"200004")
    + pax_record(b"GNU.sparse.numblocks", b"3")
    + b"".join(
        pax_record(b"GNU.sparse.offset", b"%d" % offset)
        + pax_record(b"GNU.sparse.numbytes", b"%d" % len(content))
        for offset, content in REGIONS
    ),
    "0.1": pax_record(b"GNU.sparse.size", b"200004")
    + pax_record(b"GNU.sparse.numblocks", b"3")
    + pax_record(b"GNU.sparse.map", b",".join(b"%d" % number for number in FLAT))
    + pax_record(b"GNU.sparse.name", b"sparse.bin"),
}


@pytest.mark.parametrize("regions", [REGIONS, MANY, []], ids=["few", "many", "none"])
def test_sparse_files_of_the_old_format_are_expanded(
    extracted: Extract, regions: list[tuple[int, bytes]]
) -> None:
    archive = old_sparse(regions, 200_004) + tar_block(b"next", b"0", b"x") + END
    assert contents(extracted(archive, path="a.tar")) == {
        "sparse.bin": expanded(regions, 200_004),
        "next": b"x",
    }


@pytest.mark.parametrize("form", BY_RECORDS)
def test_sparse_files_with_a_map_in_records_are_expanded(extracted: Extract, form: str) -> None:
    archive = (
        pax(BY_RECORDS[form]) + tar_block(b"sparse.bin", b"0", CONTENT) + tar_block(b"next", b"0", b"x") + END
    )
    assert contents(extracted(archive, path="a.tar")) == {
        "sparse.bin": expanded(REGIONS, 200_004),
        "next": b"x",
    }


@pytest.mark.parametrize("extra", [b"", b"size"], ids=["in the header", "in a record"])
@pytest.mark.parametrize("regions", [REGIONS, MANY, []], ids=["few", "many", "none"])
def test_sparse_files_with_a_map_in_the_content_are_expanded(
    extracted: Extract, regions: list[tuple[int, bytes]], extra: bytes
) -> None:
    # With the length of the stored content in a record, Python's tarfile looks for the next member in the wrong place
    # (cpython issue 83869).
    archive = pax_sparse_1(regions, 200_004, extra=extra) + tar_block(b"next", b"0", b"x") + END
    assert contents(extracted(archive, path="a.tar")) == {
        "sparse.bin": expanded(regions, 200_004),
        "next": b"x",
    }


def test_a_sparse_file_that_is_not_wanted_is_skipped(extracted: Extract) -> None:
    for sparse in (old_sparse(MANY, 100_000), pax_sparse_1(MANY, 100_000)):
        archive = sparse + tar_block(b"next", b"0", b"x") + END
        found = extracted(archive, path="a.tar", wanted=lambda path: path == "next")
        assert contents(found) == {"next": b"x"}


def test_holes_count_towards_the_limits(refused: Refused) -> None:
    for size_bytes in (10 * MIB, 2**59, 8**11 - 1):
        for sparse in (
            old_sparse([(0, b"x")], min(size_bytes, 8**11 - 1)),
            pax_sparse_1([(0, b"x")], size_bytes),
        ):
            assert refused(sparse + END, path="a.tar")[0] == "archive-over-limit"


@pytest.mark.parametrize(
    "regions",
    [[(100, b"a" * 50), (120, b"b")], [(500, b"a"), (100, b"b")], [(99_999, b"ab")]],
    ids=["overlapping", "not in order", "behind the end"],
)
def test_an_impossible_map_is_rejected(refused: Refused, regions: list[tuple[int, bytes]]) -> None:
    for sparse in (old_sparse(regions, 100_000), pax_sparse_1(regions, 100_000)):
        assert refused(sparse + END, path="a.tar")[0] == "archive-damaged"


@pytest.mark.parametrize(
    "records",
    [
        pax_record(b"GNU.sparse.map", b"a,b") + pax_record(b"GNU.sparse.size", b"9"),
        pax_record(b"GNU.sparse.map", b"0,5,6") + pax_record(b"GNU.sparse.size", b"9"),
        pax_record(b"GNU.sparse.map", b"0,5"),
        pax_record(b"GNU.sparse.map", b"0,4") + pax_record(b"GNU.sparse.size", b"9"),
        pax_record(b"GNU.sparse.size", b"x"),
        pax_record(b"GNU.sparse.major", b"1") + pax_record(b"GNU.sparse.minor", b"0"),
        pax_record(b"GNU.sparse.major", b"2") + pax_record(b"GNU.sparse.minor", b"0"),
    ],
)
def test_invalid_records_of_sparse_files_are_rejected(refused: Refused, records: bytes) -> None:
    archive = pax(records) + tar_block(b"a.txt", b"0", b"hello") + END
    assert refused(archive, path="a.tar")[0] == "archive-damaged"


@pytest.mark.parametrize(
    ("field", "record", "mtime"),
    [
        (b"14000000000\0", None, 0o14000000000),
        (b"\x80" + bytes(7) + struct.pack(">L", 1_700_000_000), None, 1_700_000_000),
        (b"14000000000\0", b"1700000001.75", 1_700_000_001),
        (b"14000000000\0", b"-1.5", -2),
        (b"nonsense\0", None, None),
    ],
)
def test_times_come_from_the_header_or_its_extension(
    extracted: Extract, field: bytes, record: bytes | None, mtime: int | None
) -> None:
    extended = b"" if record is None else pax(pax_record(b"mtime", record))
    archive = extended + tar_block(b"a", b"0", b"x", mtime=field) + END
    assert [file.mtime for file in extracted(archive, path="a.tar").files] == [mtime]


def test_names_in_a_legacy_encoding_are_guessed_one_by_one(extracted: Extract) -> None:
    archive = tar_block("Фото/снимок.txt".encode("cp1251"), b"0", b"x") + END
    found = extracted(archive, path="a.tar")
    assert (list(contents(found)), found.warnings) == (["Фото/снимок.txt"], [])


def test_litter_in_a_tar_is_left_out(extracted: Extract) -> None:
    found = extracted(tarred({"a.txt": b"x", ".DS_Store": b"x", "b/Thumbs.db": b"x"}), path="a.tar")
    assert (contents(found), found.ignored) == ({"a.txt": b"x"}, 2)


needs_gnu_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")


@needs_gnu_tar
@pytest.mark.parametrize("form", ["gnu", "posix", "posix 0.0", "posix 0.1"])
def test_what_gnu_tar_writes_is_read_as_gnu_tar_reads_it(
    tmp_path: Path, extracted: Extract, form: str
) -> None:
    source, out = tmp_path / "source", tmp_path / "theirs"
    source.mkdir()
    out.mkdir()
    with (source / "sparse.bin").open("wb") as file:
        for offset in range(0, 400_000, 10_240):
            file.seek(offset)
            file.write(b"x" * 100)
        file.truncate(500_000)
    (source / "a.txt").write_text("old")
    (source / "b.txt").hardlink_to(source / "a.txt")
    kind, _, version = form.partition(" ")
    options = [f"--format={kind}", *([f"--sparse-version={version}"] if version else [])]
    command = ["tar", *options, "-cSf", "../made.tar", "--label=Vol", "."]
    made = subprocess.run(command, cwd=source, check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this tar is not GNU's")
    (source / "a.txt").write_text("newer")
    subprocess.run(["tar", "-rf", "../made.tar", "./a.txt"], cwd=source, check=True)
    subprocess.run(["tar", "-xf", "../made.tar"], cwd=out, check=True)
    found = extracted((tmp_path / "made.tar").read_bytes(), path="a.tar")
    theirs = {file.name: file.read_bytes() for file in out.iterdir()}
    assert contents(found) == theirs
    assert {file.path: file.mtime for file in found.files} == {
        file.name: int(file.stat().st_mtime) for file in out.iterdir()
    }


PARTS = {
    "photos.zip.002": b"any bytes",
    "photos.zip.001": zipped({"a": b"x" * 5000})[:60],
    "photos.z01": b"PK\7\x08PK\3\4",
    "photos.zip": zip_of([ZipMember("a", b"x")])[:-18] + struct.pack("<4H2LH", 1, 1, 1, 1, 47, 32, 0),
    "photos.7z.001": sevenzipped({"a": b"x" * 5000})[:60],
    "photos.7z.002": b"any bytes",
    "photos.r00": b"any bytes",
    "photos.part1.rar": b"Rar!\x1a\x07\x00" + b"\0\0\x73\x01\0\x0d\0" + bytes(6),
    "photos.rar": b"Rar!\x1a\x07\x01\x00" + bytes(4) + b"\x05\x01\x00\x01\x00",
    "photos.tar": tar_block(b"a", b"M", b"rest") + END,
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_multi_volume_archive_is_named_as_such(refused: Refused, name: str) -> None:
    code, message = refused(PARTS[name], path=name)
    assert (code, "one part of a multi-volume" in message) == ("unsupported-format", True)


def test_the_only_part_of_an_archive_is_read(extracted: Extract) -> None:
    assert contents(extracted(sevenzipped({"a": b"x"}), path="a.7z.001")) == {"a": b"x"}
    assert contents(extracted(zipped({"a": b"x"}), path="a.zip.001")) == {"a": b"x"}


def test_a_rar_that_is_no_volume_is_not_mistaken_for_one() -> None:
    assert not is_rar_volume(rar_of({"a": b"x"}))


def test_files_of_a_7z_keep_their_times(extracted: Extract, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.utime(tmp_path / "a", (1_600_000_000.25, 1_600_000_000.25))
    made = io.BytesIO()
    with py7zr.SevenZipFile(made, "w") as archive:
        archive.write(tmp_path / "a", "a")
    assert [file.mtime for file in extracted(made.getvalue(), path="a.7z").files] == [1_600_000_000]


def test_a_gzip_tar_written_by_tarfile_keeps_its_times(extracted: Extract) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/a", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.mtime, member.type = 1_600_000_000, kind
            archive.addfile(member)
    found = extracted(made.getvalue(), path="a.tgz")
    assert (dict(found.folders), found.files[0].mtime) == ({"d": 1_600_000_000}, 1_600_000_000)
