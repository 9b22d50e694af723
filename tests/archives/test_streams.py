"""TAR in all its packings, 7z, and single files: honest ones are read, all others are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import py7zr
import pytest
import zstandard
from tests.archives.conftest import Extract, contents
from tests.archives.making import rar_of, tarred, tarred_special

from aerotask.archives.rar_reader import rar_extractor
from aerotask.sdk.limits import Limits

Refused = Callable[..., tuple[str, str]]
MIB = 1024 * 1024
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.compress,
}
MEMBERS = {
    "./a.txt": b"hello" * 100,
    "./empty": b"",
    "./d/\u00e9\U0001f600.bin": os.urandom(300_000),
    "./" + "long/" * 20 + "n" * 150: b"x" * 512,
}


def sevenzipped(members: dict[str, bytes], **options: Any) -> bytes:
    made = io.BytesIO()
    with py7zr.SevenZipFile(made, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(content, name)
    return made.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(extracted: Extract, form: int) -> None:
    members = dict(list(MEMBERS.items())[:2]) if form == tarfile.USTAR_FORMAT else MEMBERS
    found = extracted(tarred({"./": b"", **members, "./folder/": b""}, form=form), path="a.tar")
    assert contents(found) == {name.removeprefix("./"): content for name, content in members.items()}
    assert found.folders == ["folder"]


@pytest.mark.parametrize("suffix", PACKINGS)
def test_every_packing_of_tar_is_read_whatever_its_name(extracted: Extract, suffix: str) -> None:
    found = extracted(PACKINGS[suffix](tarred(MEMBERS)), path="upload.bin")
    assert contents(found) == {name.removeprefix("./"): content for name, content in MEMBERS.items()}


@pytest.mark.parametrize("suffix", PACKINGS)
def test_a_truncated_tar_is_refused_wherever_it_is_cut(refused: Refused, suffix: str) -> None:
    # Noise, so that every cut is one into something.
    whole = PACKINGS[suffix](tarred({"a": os.urandom(3000), "b": os.urandom(3000)}))
    last = len(whole) if suffix != "tar" else 2 * (512 + 3072)  # the rest is zeros that say nothing
    for end in range(600, last - 4, 509):
        assert refused(whole[:end], path="a.tar")[0] == "archive-damaged"


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse file"),
    ],
)
def test_links_devices_and_holes_are_refused(refused: Refused, kind: bytes, called: str) -> None:
    code, message = refused(tarred_special("evil", kind, "/etc/passwd"), path="a.tar")
    assert (code, called in message) == ("archive-special-file", True)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b", "new\nline"])
def test_names_that_lead_elsewhere_are_refused(refused: Refused, name: str) -> None:
    assert refused(tarred({name: b"x"}), path="a.tar")[0] == "archive-unsafe-name"


def test_a_name_twice_is_refused(refused: Refused) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("same"))
    assert refused(made.getvalue(), path="a.tar")[0] == "archive-duplicate-name"


@pytest.mark.parametrize("suffix", [suffix for suffix in PACKINGS if suffix != "tar"])
def test_a_bomb_ends_soon_after_it_is_one(refused: Refused, suffix: str) -> None:
    code, message = refused(PACKINGS[suffix](tarred({"zeros": bytes(60 * MIB)})), path="a.tar")
    assert (code, "times its own" in message) == ("archive-over-limit", True)


def test_a_bomb_that_needs_a_dictionary_of_gigabytes_is_refused(refused: Refused) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 * MIB, "preset": 0}]
    packed = lzma.compress(tarred({"a": b"x"}), filters=filters)
    assert refused(packed, path="a.tar.xz")[0] == "archive-over-limit"


def test_an_extended_header_of_megabytes_is_refused(refused: Refused) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("a")
        header.pax_headers = {"comment": "x" * (2 * MIB)}
        archive.addfile(header)
    assert refused(made.getvalue(), path="a.tar")[0] == "archive-damaged"


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end(refused: Refused) -> None:
    whole = bytearray(tarred({"a": b"x" * 100, "b": b"y" * 100}))
    whole[1024 + 10] ^= 1
    assert refused(bytes(whole), path="a.tar")[0] == "archive-damaged"


def test_limits_on_entries_bytes_and_depth_hold(refused: Refused) -> None:
    whole = tarred({"a/b/c": b"x" * 1000, "d": b"y" * 1000})
    for limits in (Limits(extracted_entries=1), Limits(extracted_bytes=2000), Limits(archive_depth=1)):
        assert refused(whole, path="a.tar", limits=limits)[0] == "archive-over-limit"


@pytest.mark.parametrize(
    ("path", "packed", "name"),
    [
        ("in/cloud.laz.gz", gzip.compress(b"points", mtime=0), "cloud.laz"),
        ("in/cloud.laz.bz2", bz2.compress(b"points"), "cloud.laz"),
        ("in/Cloud.LAZ.XZ", lzma.compress(b"points"), "Cloud.LAZ"),
        ("in/cloud", gzip.compress(b"points", mtime=0), "cloud.out"),
        (
            "two.txt.gz",
            gzip.compress(b"poi", mtime=0) + gzip.compress(b"nts", mtime=0) + bytes(100),
            "two.txt",
        ),
    ],
    ids=["gz", "bz2", "xz", "no suffix", "two members"],
)
def test_a_single_packed_file_is_unpacked(extracted: Extract, path: str, packed: bytes, name: str) -> None:
    assert contents(extracted(packed, path=path)) == {name: b"points"}


def test_a_packed_file_of_zeros_is_not_taken_for_a_tar(extracted: Extract) -> None:
    assert contents(extracted(gzip.compress(bytes(5000)), path="mask.bin.gz")) == {"mask.bin": bytes(5000)}
    assert contents(extracted(gzip.compress(tarred({})), path="none.tar.gz")) == {}


def test_something_else_after_a_packed_file_is_refused(refused: Refused) -> None:
    assert refused(gzip.compress(b"x", mtime=0) + b"something", path="a.gz")[0] == "archive-damaged"


def test_a_7z_is_read(extracted: Extract) -> None:
    members = {"a.txt": b"hello" * 100, "d/\u00e9.bin": os.urandom(100_000), "empty": b""}
    found = extracted(sevenzipped(members), path="a.7z")
    assert (contents(found), found.format) == (members, "7z")


def test_folders_of_a_7z_are_kept_and_unwanted_members_are_not_unpacked(
    extracted: Extract, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "a.txt").write_bytes(b"a")
    (tree / "b.txt").write_bytes(b"b")
    made = tmp_path / "made.7z"
    with py7zr.SevenZipFile(made, "w") as archive:
        archive.writeall(tree, "tree")
    found = extracted(made.read_bytes(), path="a.7z", wanted=lambda path: path.endswith("b.txt"))
    assert (contents(found), sorted(found.folders)) == ({"tree/b.txt": b"b"}, ["tree", "tree/empty"])


def test_hostile_7z_files_are_refused(refused: Refused, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    linked = io.BytesIO()
    with py7zr.SevenZipFile(linked, "w") as archive:
        archive.write(link, "link")
    assert refused(linked.getvalue(), path="a.7z")[0] == "archive-special-file"
    assert refused(sevenzipped({"a": b"x"}, password="secret"), path="a.7z")[0] == "archive-encrypted"
    assert refused(sevenzipped({"zeros": bytes(60 * MIB)}), path="a.7z")[0] == "archive-over-limit"
    assert refused(sevenzipped({"a": b"1", "A": b"2"}), path="a.7z")[0] == "archive-duplicate-name"
    whole = sevenzipped({"a": os.urandom(5000)})
    for end in range(32, len(whole) - 1, 487):
        assert refused(whole[:end], path="a.7z")[0] == "archive-damaged"


def test_an_encrypted_directory_of_a_7z_is_refused(refused: Refused) -> None:
    packed = sevenzipped({"a": b"x"}, password="secret", header_encryption=True)
    assert refused(packed, path="a.7z")[0] == "archive-encrypted"


def test_what_is_no_archive_is_said_to_be_none(refused: Refused) -> None:
    for content in (b"", b"text", os.urandom(2000), bytes(2000), b"%PDF-1.7 ..."):
        assert refused(content, path="a.zip")[0] == "unsupported-format"


needs_extractor = pytest.mark.skipif(
    rar_extractor() is None, reason="bsdtar (libarchive-tools) isn't installed"
)


def test_rar_without_an_extractor_is_unsupported(refused: Refused) -> None:
    if rar_extractor() is not None:
        pytest.skip("bsdtar is installed here")
    code, message = refused(rar_of({"a": b"x"}), path="a.rar")
    assert (code, "bsdtar" in message) == ("unsupported-format", True)


@needs_extractor
def test_a_rar_is_read(extracted: Extract) -> None:
    members = {"a.txt": b"hello" * 100, "d/\u00e9.bin": os.urandom(2_500_000)}
    found = extracted(rar_of(members), path="a.rar")
    assert (contents(found), found.format) == (members, "RAR")


@needs_extractor
def test_hostile_rars_are_refused(refused: Refused) -> None:
    assert refused(rar_of({"../evil": b"x"}), path="a.rar")[0] == "archive-unsafe-name"
    assert refused(rar_of({"a": b"x", "A": b"x"}), path="a.rar")[0] == "archive-duplicate-name"
    whole = rar_of({"a": os.urandom(5000)})
    assert refused(whole[:3000], path="a.rar")[0] == "archive-damaged"
    limits = Limits(extracted_bytes=1000)
    assert refused(whole, path="a.rar", limits=limits)[0] == "archive-over-limit"
