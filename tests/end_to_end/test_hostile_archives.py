"""Hostile archives through the whole stack: each gets a clear error and changes nothing."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass

from tests.archives.archive_files import (
    Member,
    deflated,
    sevenzipped,
    tar_block,
    tarred,
    tarred_special,
    with_zip64_end,
    zip_of,
    zipped,
)
from tests.support.world import World

MIB = 1024 * 1024
X = Member("x.txt", b"x")
ZEROS = bytes(2 * MIB)


@dataclass(frozen=True)
class Hostile:
    """An archive that must not be extracted, its error code, and a word of its message."""

    content: bytes
    code: str
    word: str


def sharing_one_kernel() -> bytes:
    """Members that share the same bytes of the file."""
    kernel = Member("0", os.urandom(9000))
    again = (Member(str(n), kernel.content, local_name="0", header_at=0) for n in range(1, 4))
    return zip_of([kernel, *again])


def of_200_000_entries() -> bytes:
    """A ZIP whose end record announces that many members, for readers that trust it."""
    made = zip_of([Member("", b"")])
    at = made.index(b"PK\1\2")
    directory = made[at:-22] * 200_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), at, 0)
    return with_zip64_end(made[:at] + directory + end, count=200_000)


def linked(kind: int) -> bytes:
    """A ZIP with a member that is no regular file."""
    return zip_of([X, Member("l", b"/etc/passwd", attributes=(kind | 0o777) << 16)])


HOSTILE = {
    "traversal.zip": Hostile(zip_of([X, Member("../x", b"x")]), "archive-unsafe-name", "../x"),
    "traversal.tar": Hostile(tarred({"a/../../x": b"x"}), "archive-unsafe-name", "a/../../x"),
    "absolute.zip": Hostile(zip_of([X, Member("/etc/passwd", b"x")]), "archive-unsafe-name", "/etc/passwd"),
    "absolute.tar.gz": Hostile(gzip.compress(tarred({"/etc/x": b"x"})), "archive-unsafe-name", "/etc/x"),
    "nul.zip": Hostile(zip_of([X, Member("a.txt\0.jpg", b"x")]), "archive-unsafe-name", "control"),
    "symlink.zip": Hostile(linked(stat.S_IFLNK), "archive-special-file", "symbolic link"),
    "symlink.tar": Hostile(
        tarred_special("l", tarfile.SYMTYPE, "/etc"), "archive-special-file", "symbolic link"
    ),
    "hardlink.tar": Hostile(tarred_special("l", tarfile.LNKTYPE, "x"), "archive-special-file", "hard link"),
    "device.zip": Hostile(linked(stat.S_IFBLK), "archive-special-file", "device"),
    "device.tar": Hostile(tarred_special("d", tarfile.CHRTYPE), "archive-special-file", "device"),
    "twice.zip": Hostile(zip_of([X, X]), "archive-duplicate-name", "twice"),
    "case.tar": Hostile(tarred({"./a": b"1", "A": b"2"}), "archive-duplicate-name", "some systems"),
    "link-out.tar": Hostile(
        tarred_special("l", tarfile.LNKTYPE, "../../etc/passwd"), "archive-unsafe-name", "../../etc"
    ),
    "part.zip.002": Hostile(b"the middle of a ZIP", "unsupported-format", "multi-volume"),
    "case.zip": Hostile(zip_of([X, Member("X.TXT", b"x")]), "archive-duplicate-name", "X.TXT"),
    "case.7z": Hostile(sevenzipped({"a": b"1", "A": b"2"}), "archive-duplicate-name", "some systems"),
    "overlap.zip": Hostile(sharing_one_kernel(), "archive-damaged", "overlap"),
    "bomb.zip": Hostile(zipped({"zeros": bytes(8 * MIB)}), "archive-over-limit", "100 times"),
    "bomb.tar.gz": Hostile(
        gzip.compress(tarred({"zeros": bytes(8 * MIB)})), "archive-over-limit", "100 times"
    ),
    "short-lie.zip": Hostile(
        zip_of([Member("a", deflated(ZEROS), 8, zlib.crc32(ZEROS), 10)]), "archive-damaged", "longer"
    ),
    "long-lie.zip": Hostile(
        zip_of([Member("a", deflated(b"abc"), 8, zlib.crc32(b"abc"), 100)]), "archive-damaged", "declared"
    ),
    "checksum.zip": Hostile(zip_of([Member("a", b"abc", crc32=1)]), "archive-damaged", "checksum"),
    "cut.zip": Hostile(zipped({"a": os.urandom(9000)})[:5000], "archive-damaged", "may be incomplete"),
    "cut.tar.gz": Hostile(
        gzip.compress(tarred({"a": os.urandom(9000)}))[:5000], "archive-damaged", "truncated"
    ),
    "cut.7z": Hostile(sevenzipped({"a": os.urandom(9000)})[:5000], "archive-damaged", ""),
    "locked.zip": Hostile(zip_of([Member("a", b"x", flags=0x0801)]), "archive-encrypted", "password"),
    "locked.7z": Hostile(sevenzipped({"a": b"x"}, password="secret"), "archive-encrypted", "password"),
    "many.zip": Hostile(of_200_000_entries(), "archive-over-limit", "100000 members"),
    "header.tar": Hostile(tar_block(b"pax", b"x", b"9" * 500_000), "archive-damaged", "extended header"),
    "none.zip": Hostile(b"no archive", "unsupported-format", "not a supported archive"),
}


def test_every_hostile_archive_gets_a_clear_error_and_changes_nothing(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("out/x.txt", b"the old content", indexed=False)
    for name, hostile in HOSTILE.items():
        dataset.upload(name, hostile.content, indexed=False)
    before = dataset.paths()
    params = {"destPath": "out", "overwrite": True, "deleteArchive": True}
    tasks = {name: dataset.submit("archive-extract", {"sourcePath": name, **params}) for name in HOSTILE}
    ended = {name: dataset.wait(task_id) for name, task_id in tasks.items()}

    assert {name: task["error"]["code"] for name, task in ended.items()} == {
        name: hostile.code for name, hostile in HOSTILE.items()
    }
    assert [
        name for name, hostile in HOSTILE.items() if hostile.word not in ended[name]["error"]["message"]
    ] == []
    assert all((task["attempt"], task["error"]["retryable"]) == (1, False) for task in ended.values())
    assert dataset.paths() == before
    assert dataset.client.get(f"{dataset.address}/obj/out/x.txt").content == b"the old content"
    # No worker has been replaced.
    assert [worker.poll() for worker in world.stack.workers] == [None] * len(world.stack.workers)


def test_a_nested_bomb_is_extracted_as_an_archive(world: World) -> None:
    dataset = world.dataset()
    bomb = zipped({"zeros": bytes(8 * MIB)})
    dataset.upload("in.zip", zipped({"a.zip": bomb, "b.zip": bomb}, zipfile.ZIP_STORED), indexed=False)
    assert dataset.run("archive-extract", {"sourcePath": "in.zip", "destPath": "out"})["state"] == "Succeeded"
    assert dataset.paths() == ["in.zip", "out", "out/a.zip", "out/b.zip"]
    inner = dataset.run("archive-extract", {"sourcePath": "out/a.zip"})
    assert (inner["state"], inner["error"]["code"]) == ("Failed", "archive-over-limit")
