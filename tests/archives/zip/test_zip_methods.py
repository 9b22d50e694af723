"""ZIP members in every compression method that Windows' Explorer, 7-Zip and WinZip use."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.archives.archive_files import (
    ZIP_METHODS,
    Member,
    ZippedAs,
    lzma_member,
    ppmd_member,
    zip_of,
    zipped_as,
    zstd_member,
)
from tests.archives.conftest import Extract, contents

from aerotask.archives.decoder_memory import DICTIONARY_BYTES, DecoderMemory
from aerotask.domain.errors import InvalidInput

Refused = Callable[..., tuple[str, str]]
MIB = 1024 * 1024
TEXT = b"".join(b"tile %d of the field\n" % number for number in range(20_000))
NOISE = random.Random(3).randbytes(200_000)


def archive_of(made: Callable[[bytes], ZippedAs], *contents_in_order: bytes) -> list[Member]:
    return [zipped_as(f"{n}.bin", content, made(content)) for n, content in enumerate(contents_in_order)]


@pytest.mark.parametrize("name", ZIP_METHODS)
def test_every_method_is_read(extracted: Extract, name: str) -> None:
    wanted = (TEXT, NOISE, b"x")
    found = contents(extracted(zip_of(archive_of(ZIP_METHODS[name], *wanted))))
    assert tuple(found.values()) == wanted


def test_the_old_number_of_zstandard_is_read(extracted: Extract) -> None:
    old = replace(zipped_as("a", TEXT, zstd_member(TEXT)), method=20)
    assert contents(extracted(zip_of([old]))) == {"a": TEXT}


def test_the_cut_off_method_of_ppmd_is_read(extracted: Extract) -> None:
    made = ppmd_member(NOISE * 10, restoration=1)
    assert contents(extracted(zip_of([zipped_as("a", NOISE * 10, made)]))) == {"a": NOISE * 10}


@pytest.mark.parametrize("name", ZIP_METHODS)
def test_a_truncated_member_is_rejected(refused: Refused, name: str) -> None:
    whole = zipped_as("a", NOISE, ZIP_METHODS[name](NOISE))
    for length in (0, 1, 5, len(whole.content) // 2):
        assert refused(zip_of([replace(whole, content=whole.content[:length])]))[0] == "archive-damaged"


@pytest.mark.parametrize("name", [name for name in ZIP_METHODS if name != "ppmd"])
def test_bytes_after_a_member_are_rejected(refused: Refused, name: str) -> None:
    whole = zipped_as("a", TEXT, ZIP_METHODS[name](TEXT))
    assert refused(zip_of([replace(whole, content=whole.content + b"more")]))[0] == "archive-damaged"


@pytest.mark.parametrize("name", ZIP_METHODS)
def test_a_wrong_content_is_rejected_by_its_checksum(refused: Refused, name: str) -> None:
    lying = replace(zipped_as("a", TEXT, ZIP_METHODS[name](TEXT)), crc32=1)
    code, message = refused(zip_of([lying]))
    assert (code, "checksum" in message) == ("archive-damaged", True)


@pytest.mark.parametrize("name", ZIP_METHODS)
def test_a_small_declared_length_does_not_hide_a_bomb(refused: Refused, name: str) -> None:
    zeros = bytes(30 * MIB)
    lying = replace(zipped_as("a", zeros, ZIP_METHODS[name](zeros)), size_bytes=10)
    assert refused(zip_of([lying]))[0] == "archive-damaged"


@pytest.mark.parametrize("name", ZIP_METHODS)
def test_a_bomb_is_rejected(refused: Refused, name: str) -> None:
    zeros = bytes(30 * MIB)
    code, message = refused(zip_of([zipped_as("zeros", zeros, ZIP_METHODS[name](zeros))]))
    assert (code, "times its own" in message) == ("archive-over-limit", True)


def test_a_dictionary_of_4_gb_costs_no_more_than_the_content(extracted: Extract) -> None:
    greedy = lzma_member(TEXT, dictionary_bytes=2**32 - 1)
    assert contents(extracted(zip_of([zipped_as("a", TEXT, greedy)]))) == {"a": TEXT}


def test_a_content_that_needs_too_large_a_dictionary_is_rejected(refused: Refused) -> None:
    greedy = replace(
        zipped_as("a", TEXT, lzma_member(TEXT, dictionary_bytes=2**32 - 1)),
        size_bytes=DICTIONARY_BYTES + 1,
        content=lzma_member(random.Random(4).randbytes(3_000_000), dictionary_bytes=2**32 - 1).stored,
    )
    code, message = refused(zip_of([greedy]))
    assert (code, "of memory" in message) == ("archive-over-limit", True)


def test_a_zstandard_window_above_the_limit_is_rejected(refused: Refused) -> None:
    code, _ = refused(zip_of([zipped_as("a", TEXT, zstd_member(TEXT, window_log=31))]))
    assert code == "archive-damaged"


@pytest.mark.parametrize("parameters", [b"\x00\x00", b"\x07\x20", b"\x07\xf0"])
def test_impossible_parameters_of_ppmd_are_rejected(refused: Refused, parameters: bytes) -> None:
    made = ppmd_member(TEXT)
    lying = zipped_as("a", TEXT, replace(made, stored=parameters + made.stored[2:]))
    assert refused(zip_of([lying]))[0] == "archive-damaged"


def test_dictionaries_of_several_threads_share_one_budget() -> None:
    memory = DecoderMemory(100)
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with memory.reserve(60):
            order.append("second")

    thread = threading.Thread(target=second)
    with memory.reserve(50):
        thread.start()
        waiting.wait()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    with pytest.raises(InvalidInput, match="101 bytes of memory"), memory.reserve(101):
        pass


SEVEN_ZIP = shutil.which("7z") or shutil.which("7zz") or shutil.which("7za")
needs_7zip = pytest.mark.skipif(SEVEN_ZIP is None, reason="7-Zip is not installed")


@needs_7zip
@pytest.mark.parametrize("method", ["Deflate64", "LZMA", "PPMd", "XZ", "BZip2"])
def test_what_7_zip_packs_is_read(tmp_path: Path, extracted: Extract, method: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    wanted = {"text.txt": TEXT, "noise.bin": NOISE, "empty": b""}
    for name, content in wanted.items():
        (source / name).write_bytes(content)
    command = [str(SEVEN_ZIP), "a", "-tzip", f"-mm={method}", "-mx=9", "../made.zip", "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    assert contents(extracted((tmp_path / "made.zip").read_bytes())) == wanted


@needs_7zip
@pytest.mark.parametrize("name", ["deflate64", "lzma", "ppmd", "xz"])
def test_7_zip_reads_the_members_of_these_tests(tmp_path: Path, name: str) -> None:
    (tmp_path / "made.zip").write_bytes(zip_of(archive_of(ZIP_METHODS[name], TEXT, NOISE)))
    tested = subprocess.run([str(SEVEN_ZIP), "t", "made.zip"], cwd=tmp_path, capture_output=True, check=False)
    assert (tested.returncode, b"Everything is Ok" in tested.stdout) == (0, True)


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("name", ZIP_METHODS)
@pytest.mark.parametrize("size", [1, 7])
def test_a_content_in_tiny_chunks_is_the_same(name: str, size: int) -> None:
    from aerotask.archives.zip.methods import decompressed  # noqa: PLC0415  only here

    made = ZIP_METHODS[name](TEXT[:5000])
    pieces = decompressed(
        made.method, chunked(made.stored, size), size_bytes=5000, flags=made.flags, memory=DecoderMemory()
    )
    assert b"".join(pieces) == TEXT[:5000]
