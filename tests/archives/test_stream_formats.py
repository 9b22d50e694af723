"""TAR with every compression, 7z, RAR and single compressed files: valid ones are read, others rejected."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest
import zstandard
from tests.archives.archive_files import (
    pax,
    pax_record,
    rar_of,
    sevenzipped,
    tar_block,
    tarred,
    tarred_special,
    zipped,
)
from tests.archives.conftest import Extract, contents

from aerotask.archives.member_filter import AnnouncedTotals
from aerotask.archives.rar import rar_extractor
from aerotask.sdk.limits import Limits

Refused = Callable[..., tuple[str, str]]
MIB = 1024 * 1024
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
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


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read(extracted: Extract, form: int) -> None:
    members = dict(list(MEMBERS.items())[:2]) if form == tarfile.USTAR_FORMAT else MEMBERS
    found = extracted(tarred({"./": b"", **members, "./folder/": b""}, form=form), path="a.tar")
    assert contents(found) == {name.removeprefix("./"): content for name, content in members.items()}
    assert list(found.folders) == ["folder"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_every_compression_of_tar_is_read_whatever_its_name(extracted: Extract, suffix: str) -> None:
    found = extracted(COMPRESSIONS[suffix](tarred(MEMBERS)), path="upload.bin")
    assert contents(found) == {name.removeprefix("./"): content for name, content in MEMBERS.items()}


def test_totals_are_announced_as_far_as_the_format_has_them(extracted: Extract) -> None:
    members, announced = {"a": b"x" * 1000, "b": b"y" * 500}, list[AnnouncedTotals]()
    tar = tarred(members)
    extracted(tar, path="a.tar", on_announced=announced.append)
    extracted(
        sevenzipped(members), path="a.7z", on_announced=announced.append, wanted=lambda path: path == "b"
    )
    extracted(zipped(members), on_announced=announced.append, wanted=lambda path: path == "b")
    assert announced == [AnnouncedTotals(None, len(tar)), AnnouncedTotals(1, 500), AnnouncedTotals(1, 500)]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_truncated_tar_is_rejected_wherever_it_is_cut(refused: Refused, suffix: str) -> None:
    # Noise, so that every cut removes something.
    whole = COMPRESSIONS[suffix](tarred({"a": os.urandom(3000), "b": os.urandom(3000)}))
    last = len(whole) if suffix != "tar" else 2 * (512 + 3072)  # the rest is padding
    for end in range(600, last - 4, 509):
        assert refused(whole[:end], path="a.tar")[0] == "archive-damaged"


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
    ],
)
def test_symbolic_links_and_devices_are_rejected(refused: Refused, kind: bytes, called: str) -> None:
    code, message = refused(tarred_special("evil", kind, "/etc/passwd"), path="a.tar")
    assert (code, called in message) == ("archive-special-file", True)


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b", "new\nline"])
def test_names_that_escape_the_folder_are_rejected(refused: Refused, name: str) -> None:
    assert refused(tarred({name: b"x"}), path="a.tar")[0] == "archive-unsafe-name"


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESSIONS if suffix != "tar"])
def test_a_bomb_is_rejected_soon_after_it_exceeds_the_ratio(refused: Refused, suffix: str) -> None:
    code, message = refused(COMPRESSIONS[suffix](tarred({"zeros": bytes(60 * MIB)})), path="a.tar")
    assert (code, "times its own" in message) == ("archive-over-limit", True)


def test_a_stream_that_needs_a_huge_dictionary_is_rejected(refused: Refused) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 256 * MIB, "preset": 0}]
    packed = lzma.compress(tarred({"a": b"x"}), filters=filters)
    assert refused(packed, path="a.tar.xz")[0] == "archive-over-limit"


def test_an_extended_header_of_megabytes_is_rejected(refused: Refused) -> None:
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


FILE = tar_block(b"a.txt", b"0", b"hello")
TAR_END = bytes(1024)


@pytest.mark.parametrize(
    "records",
    [
        b"garbage",
        b"99 path=x\n",
        b"7 path=x\n",
        b"0 path=x\n",
        b"-9 path=x\n",
        b"9 path:x\n",
        b"\xd9\xa8 a=b\n",
        b"9" * 5000 + b" path=x\n",
        b"9" * 1_000_000,
        pax_record(b"size", b"x"),
        pax_record(b"size", b"-1"),
        pax_record(b"size", b"9" * 5000),
    ],
    ids=lambda records: records[:20].decode("latin-1") + f" {len(records)}",
)
def test_an_invalid_extended_header_is_rejected(refused: Refused, records: bytes) -> None:
    assert refused(pax(records) + FILE + TAR_END, path="a.tar")[0] == "archive-damaged"


@pytest.mark.parametrize("length", [b"99999999999\0", b"-0000000001\0", b"\xff" * 12, b"\x81" + bytes(11)])
def test_an_invalid_length_is_rejected(refused: Refused, length: bytes) -> None:
    header = tar_block(b"a.txt", b"0", b"hello", length=length)
    assert refused(header + TAR_END, path="a.tar")[0] == "archive-damaged"


def test_of_many_consecutive_extended_headers_the_last_one_counts(extracted: Extract) -> None:
    many = b"".join(pax(pax_record(b"path", b"%d.txt" % number)) for number in range(3000))
    assert contents(extracted(many + FILE + TAR_END, path="a.tar")) == {"2999.txt": b"hello"}


def test_global_extended_headers_apply_unless_a_local_one_overrides_them(extracted: Extract) -> None:
    everywhere = tar_block(b"pax", b"g", pax_record(b"size", b"3"))
    short = tar_block(b"a.txt", b"0", b"one")
    named = pax(pax_record(b"path", b"b.txt")) + tar_block(b"x", b"0", b"two")
    long = tar_block(b"long", b"L", b"c.txt\0") + pax(pax_record(b"size", b"5")) + FILE
    whole = everywhere + short + named + long + TAR_END
    assert contents(extracted(whole, path="a.tar")) == {"a.txt": b"one", "b.txt": b"two", "c.txt": b"hello"}


def test_names_that_are_not_utf_8_are_read_as_windows_1252(extracted: Extract) -> None:
    old = tar_block("Stra\u00dfe/\u00fc\u20ac.txt".encode("cp1252"), b"0", b"x")
    assert list(contents(extracted(old + TAR_END, path="a.tar"))) == ["Stra\u00dfe/\u00fc\u20ac.txt"]


def test_a_tar_without_an_end_marker_is_rejected(refused: Refused) -> None:
    assert refused(FILE, path="a.tar")[0] == "archive-damaged"


def test_folders_of_the_oldest_format_are_recognised_by_their_names(extracted: Extract) -> None:
    found = extracted(tar_block(b"folder/", b"\0") + FILE + TAR_END, path="a.tar")
    assert (contents(found), list(found.folders)) == ({"a.txt": b"hello"}, ["folder"])


def test_too_many_entries_are_rejected_while_reading(refused: Refused) -> None:
    entries = b"".join(tar_block(b"%d" % number, b"0") for number in range(2001)) + TAR_END
    limits = Limits(extracted_entries=2000)
    code, message = refused(gzip.compress(entries, 1), path="a.tar.gz", limits=limits)
    assert (code, "2000 members" in message) == ("archive-over-limit", True)
    packed = sevenzipped({str(number): b"" for number in range(201)})
    code, message = refused(packed, path="a.7z", limits=Limits(extracted_entries=200))
    assert (code, "200 members" in message) == ("archive-over-limit", True)


def test_limits_apply_to_entries_bytes_and_depth(refused: Refused) -> None:
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
def test_a_single_compressed_file_is_decompressed(
    extracted: Extract, path: str, packed: bytes, name: str
) -> None:
    assert contents(extracted(packed, path=path)) == {name: b"points"}


def test_a_compressed_file_of_zeros_is_not_mistaken_for_a_tar(extracted: Extract) -> None:
    assert contents(extracted(gzip.compress(bytes(5000)), path="mask.bin.gz")) == {"mask.bin": bytes(5000)}
    assert contents(extracted(gzip.compress(tarred({})), path="none.tar.gz")) == {}


def test_trailing_data_after_a_compressed_file_is_rejected(refused: Refused) -> None:
    assert refused(gzip.compress(b"x", mtime=0) + b"something", path="a.gz")[0] == "archive-damaged"


def test_a_7z_is_read(extracted: Extract) -> None:
    members = {"a.txt": b"hello" * 100, "d/\u00e9.bin": os.urandom(100_000), "empty": b""}
    found = extracted(sevenzipped(members), path="a.7z")
    assert (contents(found), found.format) == (members, "7z")


def test_folders_of_a_7z_are_kept_and_unwanted_members_are_not_extracted(
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


def test_hostile_7z_files_are_rejected(refused: Refused, tmp_path: Path) -> None:
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


def test_an_encrypted_directory_of_a_7z_is_rejected(refused: Refused) -> None:
    packed = sevenzipped({"a": b"x"}, password="secret", header_encryption=True)
    assert refused(packed, path="a.7z")[0] == "archive-encrypted"


def test_other_files_are_rejected_as_unsupported(refused: Refused) -> None:
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
def test_hostile_rars_are_rejected(refused: Refused) -> None:
    assert refused(rar_of({"../evil": b"x"}), path="a.rar")[0] == "archive-unsafe-name"
    assert refused(rar_of({"a": b"x", "A": b"x"}), path="a.rar")[0] == "archive-duplicate-name"
    whole = rar_of({"a": os.urandom(5000)})
    assert refused(whole[:3000], path="a.rar")[0] == "archive-damaged"
    limits = Limits(extracted_bytes=1000)
    assert refused(whole, path="a.rar", limits=limits)[0] == "archive-over-limit"


@pytest.fixture
def extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces bsdtar with a shell script: some of its failures can't be provoked."""

    def install(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "bsdtar").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bsdtar").chmod(0o700)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def test_a_crash_of_the_extractor_is_reported(
    refused: Refused, extractor: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "made.tar").write_bytes(tarred({"a": b"x"}))
    extractor(f"cat {tmp_path}/made.tar; kill -SEGV $$")
    code, message = refused(rar_of({"a": b"x"}), path="a.rar")
    assert (code, "extractor crashed" in message) == ("archive-damaged", True)


def test_an_extractor_with_much_error_output_does_not_block(
    extracted: Extract, extractor: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "made.tar").write_bytes(tarred({"a": b"x"}))
    extractor(f"head -c 1000000 /dev/zero >&2; cat {tmp_path}/made.tar")
    assert contents(extracted(rar_of({"a": b"x"}), path="a.rar")) == {"a": b"x"}


def test_the_extractor_runs_with_a_utf_8_locale_and_without_our_environment(
    extracted: Extract, extractor: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("AEROTASK_SECRET_KEY", "secret")
    (tmp_path / "made.tar").write_bytes(tarred({"a": b"x"}))
    extractor(f"env > {tmp_path}/seen; cat {tmp_path}/made.tar")
    extracted(rar_of({"a": b"x"}), path="a.rar")
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert (seen["LC_ALL"], "AEROTASK_SECRET_KEY" in seen) == ("C.UTF-8", False)


def test_the_extractor_does_not_outlive_a_rejection(
    refused: Refused, extractor: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "made.tar").write_bytes(tar_block(b"../evil", b"0", b"x"))
    extractor(f"echo $$ > {tmp_path}/pid; cat {tmp_path}/made.tar; exec cat /dev/zero")
    assert refused(rar_of({"a": b"x"}), path="a.rar")[0] == "archive-unsafe-name"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
