"""Fuzzing: randomly damaged archives are rejected with one of our errors or read within the limits."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.archives.archive_files import (
    ZIP_METHODS,
    Member,
    old_sparse,
    pax,
    pax_record,
    pax_sparse_1,
    sevenzipped,
    tar_block,
    tarred,
    with_zip64_end,
    zip_of,
    zipped,
    zipped_as,
)

from aerotask.archives.extract import extract
from aerotask.archives.extract_dir import ExtractedFile
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.space_budget import SpaceBudget
from aerotask.domain.errors import InvalidInput
from aerotask.sdk.limits import Limits

MANY = [(1024 * number, b"%03d!" % number) for number in range(40)]
NOISE = random.Random(1).randbytes(700)
MEMBERS = {"a.txt": b"hello " * 200, "d/\u00e9.bin": NOISE, "d/empty": b""}
LIMITS = Limits(extracted_bytes=100_000, extracted_entries=20, archive_depth=8, extraction_ratio=100)
OLD_NAMES = [
    Member("", b"x", flags=0, system=0, raw_name=name.encode("cp932"), extra=b"UT\5\0\1\0\0\0\x60")
    for name in ("写真\\ソ.txt", "新.txt", "空\\")[:2]
]
LINK = tar_block(b"c", b"1", link=b"sparse.bin")
TAR = tarred({**MEMBERS, "long/" * 20 + "n" * 120: b"x" * 600})
SPARE = tar_block(b"long", b"L", b"name\0") + pax(pax_record(b"path", b"p") + pax_record(b"size", b"3"))
WHOLE = {
    "stored.zip": zipped(MEMBERS, zipfile.ZIP_STORED),
    "deflated.zip": zipped(MEMBERS),
    "bzip2.zip": zipped(MEMBERS, zipfile.ZIP_BZIP2),
    "wide.zip": with_zip64_end(zipped(MEMBERS)),
    **{
        f"{name}.zip": zip_of(zipped_as(path, content, made(content)) for path, content in MEMBERS.items())
        for name, made in ZIP_METHODS.items()
    },
    "old names.zip": b"MZ" + zip_of(OLD_NAMES) + b"\n",
    "sparse.tar": old_sparse(MANY, 60_000) + pax_sparse_1(MANY, 60_000, name=b"b") + LINK + bytes(1024),
    "plain.tar": TAR,
    "extended.tar": SPARE + TAR,
    "a.tar.gz": gzip.compress(TAR, mtime=0),
    "a.tar.bz2": bz2.compress(TAR),
    "a.tar.xz": lzma.compress(TAR),
    "a.tar.zst": zstandard.compress(TAR),
    "single.bin.gz": gzip.compress(NOISE, mtime=0),
    "a.7z": sevenzipped(MEMBERS),
}
# Typical values of format fields, and values that parsers mishandle.
FIELDS = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.sampled_from(
        [
            *(bytes(4), b"\xff" * 2, b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7)),
            *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"../", b"/", b"\0", b"99999999999"),
        ]
    ),
)
Mutation = Callable[[bytes], bytes]


def flipped(at: float, bit: int) -> Mutation:
    """Flips one bit."""

    def change(data: bytes) -> bytes:
        place = int(at * len(data))
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :] if data else data

    return change


def cut(at: float) -> Mutation:
    """Truncates the archive."""
    return lambda data: data[: int(at * len(data))]


def overwritten(at: float, field: bytes) -> Mutation:
    """Overwrites some bytes."""
    return lambda data: data[: int(at * len(data))] + field + data[int(at * len(data)) + len(field) :]


def spliced(begin: float, end: float, at: float) -> Mutation:
    """Copies a part to another place."""

    def change(data: bytes) -> bytes:
        part = data[int(min(begin, end) * len(data)) : int(max(begin, end) * len(data))]
        return data[: int(at * len(data))] + part + data[int(at * len(data)) :]

    return change


PLACES = st.floats(0, 1, exclude_max=True)
# Directories and end records decide most.
NEAR_THE_END = st.one_of(PLACES, st.floats(0.9, 1, exclude_max=True))
MUTATIONS = st.one_of(
    st.builds(flipped, NEAR_THE_END, st.integers(0, 7)),
    st.builds(overwritten, NEAR_THE_END, FIELDS),
    st.builds(spliced, PLACES, PLACES, NEAR_THE_END),
    st.builds(cut, PLACES),
)


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutations=st.lists(MUTATIONS, min_size=1, max_size=4))
def test_a_mutated_archive_is_rejected_with_our_error_or_read_within_the_limits(
    tmp_path_factory: pytest.TempPathFactory, name: str, mutations: list[Mutation]
) -> None:
    data = WHOLE[name]
    for mutate in mutations:
        data = mutate(data)
    folder = tmp_path_factory.mktemp("fuzz")
    archive, into = folder / "archive", folder / "into"
    archive.write_bytes(data)
    code, found = outcome(archive, into, name)
    assert code == "" or code.startswith("archive-") or code == "unsupported-format"
    assert all(not file.path.startswith("/") and ".." not in file.path.split("/") for file in found)
    written = [path for path in folder.rglob("*") if path.is_file() and path != archive]
    assert all(path.is_relative_to(into) for path in written)
    assert sum(path.stat().st_size for path in written) <= LIMITS.extracted_bytes
    assert len(written) <= LIMITS.extracted_entries
    remove(folder)


def outcome(archive: Path, into: Path, name: str) -> tuple[str, list[ExtractedFile]]:
    """The error code, or the extracted files."""
    request = ExtractRequest(
        archive=archive,
        path=name,
        dest="",
        target_dir=into,
        budget=SpaceBudget(archive.parent, None),
        limits=LIMITS,
        is_wanted=lambda _: True,
        on_announced=lambda _: None,
        on_progress=lambda _: None,
        threads=1,
    )
    try:
        return "", extract(request).files
    except InvalidInput as refusal:
        return refusal.code, []


def remove(folder: Path) -> None:
    """Remove the folder of an example; otherwise thousands accumulate."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
