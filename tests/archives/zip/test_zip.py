"""ZIP interoperability: our files read by others and by us, theirs read by us."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.archives.archive_files import Member, with_zip64_end, zip_of, zipped
from tests.archives.conftest import Extract, contents

from aerotask.archives.zip.records import Record, central_header, dos_time, end_records, local_header
from aerotask.archives.zip.stream import StreamMember as Streamed
from aerotask.archives.zip.stream import StreamWriter, streamed_bytes
from aerotask.archives.zip.writer import BATCH_BYTES, IN_MEMORY_BYTES, ZipResult, ZipSource, write_zip

GIB = 1024**3


def packed(
    folder: Path, members: dict[str, bytes], *, folders: tuple[str, ...] = ()
) -> tuple[Path, ZipResult]:
    """ZIP of these contents by our writer."""
    sources = [ZipSource(path, 1_700_000_001) for path in folders]
    for number, (path, content) in enumerate(members.items()):
        file = folder / f"source-{number}"
        file.write_bytes(content)
        sources.append(ZipSource(path, 1_700_000_000 + number, file, len(content)))
    target = folder / "made.zip"
    return target, write_zip(target, sources, threads=2, on_progress=lambda _: None)


def members_of_every_size() -> dict[str, bytes]:
    """Contents of every code path: small and large, of compressed formats or not, compressible or not."""
    rng = random.Random(1)
    noise = rng.randbytes(BATCH_BYTES + 5)
    return {
        "empty.txt": b"",
        "text.txt": b"hello " * 1000,
        "noise.txt": rng.randbytes(5000),
        "photo.jpg": rng.randbytes(70_000),
        "large photo.jpg": noise,
        "large.tif": noise[:1000] * 2000,
        "large noise.tif": noise,
        "larger.tif": noise[:9000] * (IN_MEMORY_BYTES // 9000 + 100),
        "a/b/c/\u00e9 \u05d0 \U0001f600.txt": b"names",
    }


def test_zipfile_and_info_zip_read_our_files(tmp_path: Path) -> None:
    members = members_of_every_size()
    file, _ = packed(tmp_path, members, folders=("empty folder",))
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == {
            "empty folder/": b"",
            **members,
        }
        methods = {info.filename: info.compress_type for info in archive.infolist()}
    assert [name for name, method in methods.items() if method == zipfile.ZIP_DEFLATED] == [
        "text.txt",
        "large.tif",
        "larger.tif",
    ]
    if unzip := shutil.which("unzip"):
        tested = subprocess.run([unzip, "-tqq", file], capture_output=True, text=True, check=False)
        assert (tested.returncode, tested.stdout) == (0, "")


def test_local_headers_are_complete_so_the_file_can_be_read_as_a_stream(tmp_path: Path) -> None:
    file, _ = packed(tmp_path, members_of_every_size())
    with zipfile.ZipFile(file) as archive:
        assert not any(info.flag_bits & 8 for info in archive.infolist())


def test_hash_and_length_are_those_of_the_file(tmp_path: Path) -> None:
    file, written = packed(tmp_path, members_of_every_size())
    content = file.read_bytes()
    assert written == ZipResult(hashlib.sha256(content).hexdigest(), len(content), 9)


def test_times_are_kept_to_the_second(tmp_path: Path) -> None:
    file, _ = packed(tmp_path, {"a.txt": b"x", "b.txt": b"y"})
    out = tmp_path / "out"
    if unzip := shutil.which("unzip"):
        subprocess.run([unzip, "-qq", file, "-d", out], check=True)
        assert [int((out / name).stat().st_mtime) for name in ("a.txt", "b.txt")] == [
            1_700_000_000,
            1_700_000_001,
        ]
    with zipfile.ZipFile(file) as archive:
        assert archive.infolist()[0].date_time == (2023, 11, 14, 22, 13, 20)


@pytest.mark.parametrize(
    ("mtime", "date", "time"),
    [
        (-5, 0x21, 0),
        (0, 0x21, 0),
        (1_700_000_001, 43 << 9 | 11 << 5 | 14, 22 << 11 | 13 << 5 | 10),
        (2**40, 127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29),
    ],
)
def test_times_outside_the_dos_range_are_clamped(mtime: int, date: int, time: int) -> None:
    assert dos_time(mtime) == (time, date)


def test_a_source_that_changed_its_length_fails_the_write(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    for number, size in enumerate((2, 4, 2 * BATCH_BYTES)):
        with pytest.raises(OSError, match="changed its length"):
            write_zip(
                tmp_path / str(number), [ZipSource("a", 0, file, size)], threads=1, on_progress=lambda _: None
            )


def test_progress_counts_up_to_all_bytes(tmp_path: Path) -> None:
    seen: list[int] = []
    sources = []
    for number in range(20):
        file = tmp_path / str(number)
        file.write_bytes(bytes(200_000))
        sources.append(ZipSource(f"{number}.bin", 0, file, 200_000))
    write_zip(tmp_path / "made.zip", sources, threads=3, on_progress=seen.append)
    assert seen == sorted(seen)
    assert (len(seen) > 3, seen[-1]) == (True, 4_000_000)


def test_more_than_65535_members_need_zip64(tmp_path: Path, extracted: Extract) -> None:
    file = tmp_path / "one"
    file.write_bytes(b"1")
    sources = (ZipSource(f"{number // 1000}/{number}", 0, file, 1) for number in range(70_000))
    target = tmp_path / "many.zip"
    assert write_zip(target, sources, threads=2, on_progress=lambda _: None).members == 70_000
    with zipfile.ZipFile(target) as archive:
        assert len(archive.infolist()) == 70_000
        assert archive.read("69/69999") == b"1"
    assert len(extracted(target.read_bytes(), wanted=lambda path: path.endswith("99")).files) == 700


def test_large_sizes_and_offsets_go_into_zip64_fields() -> None:
    record = Record(b"big", 0, 0, 7, 5 * GIB, 5 * GIB, offset=6 * GIB)
    assert local_header(record)[18:26] == b"\xff" * 8
    assert (5 * GIB).to_bytes(8, "little") * 2 in local_header(record)
    assert central_header(record)[20:28] == b"\xff" * 8
    assert central_header(record)[42:46] == b"\xff" * 4
    assert (5 * GIB).to_bytes(8, "little") * 2 + (6 * GIB).to_bytes(8, "little") in central_header(record)
    ends = end_records(count=1, directory_at=11 * GIB, directory_bytes=100)
    assert [ends[at : at + 4] for at in (0, 56, 76)] == [b"PK\6\6", b"PK\6\7", b"PK\5\6"]
    assert (11 * GIB).to_bytes(8, "little") in ends


def test_a_zip_stream_has_the_announced_length(extracted: Extract) -> None:
    contents_by_path = {"a.txt": b"hello", "b/c.bin": bytes(3000), "empty": b""}
    members = [
        Streamed("b", 1_700_000_000, is_folder=True),
        *(Streamed(path, 1_700_000_000, len(content)) for path, content in contents_by_path.items()),
    ]
    writer = StreamWriter()
    body = bytearray()
    for member in members:
        content = contents_by_path.get(member.path, b"")
        body += writer.head(member, zlib.crc32(content)) + content
    body += writer.tail()
    assert len(body) == streamed_bytes(members)
    found = extracted(bytes(body))
    assert (contents(found), list(found.folders)) == (contents_by_path, ["b"])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_pythons_zips_are_read(extracted: Extract, method: int) -> None:
    members = {name: content for name, content in members_of_every_size().items() if len(content) < 10**6}
    found = extracted(zipped({**members, "folder/": b""}, method))
    assert (contents(found), list(found.folders), found.format) == (members, ["folder"], "ZIP")


def test_archives_piped_from_info_zip_are_read(tmp_path: Path, extracted: Extract) -> None:
    if not shutil.which("zip"):
        pytest.skip("Info-ZIP's zip is not installed")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "\u00e9.txt").write_text("hello" * 100)
    made = subprocess.run(["zip", "-qr", "-", "."], cwd=tmp_path / "in", capture_output=True, check=True)
    assert contents(extracted(made.stdout)) == {"\u00e9.txt": b"hello" * 100}


@pytest.mark.parametrize("members", [1, 3])
def test_info_zips_forced_zip64_is_read_from_a_file_and_from_a_pipe(
    tmp_path: Path, extracted: Extract, members: int
) -> None:
    if not shutil.which("zip"):
        pytest.skip("Info-ZIP's zip is not installed")
    wanted = {f"{number}.txt": b"hello" * 100 for number in range(members)}
    (tmp_path / "in").mkdir()
    for name, content in wanted.items():
        (tmp_path / "in" / name).write_bytes(content)
    command = ["zip", "-qr", "-fz"]
    piped = subprocess.run([*command, "-", "."], cwd=tmp_path / "in", capture_output=True, check=True)
    subprocess.run([*command, tmp_path / "made.zip", "."], cwd=tmp_path / "in", check=True)
    assert contents(extracted(piped.stdout)) == wanted
    assert contents(extracted((tmp_path / "made.zip").read_bytes())) == wanted


def test_a_zip64_end_record_is_accepted_where_none_was_needed(extracted: Extract) -> None:
    # As Go's and .NET's writers may do: no field is marked as too large, yet there is a ZIP64 end record.
    assert contents(extracted(with_zip64_end(zip_of([Member("a", b"1"), Member("b", b"2")])))) == {
        "a": b"1",
        "b": b"2",
    }


def test_names_without_the_flag_are_utf_8_or_code_page_437(extracted: Extract) -> None:
    plain = zip_of([Member("\u00e9.txt", b"x", flags=0)])
    assert list(contents(extracted(plain))) == ["\u00e9.txt"]
    dos = plain.replace("\u00e9.txt".encode(), b"\x82!.txt"[:1] + b"!.txt"[:5])
    assert list(contents(extracted(dos))) == ["\u00e9!.txt"]


def test_an_index_is_not_extracted(extracted: Extract) -> None:
    found = extracted(zipped({".ddb/": b"", ".ddb/dbase.sqlite": b"x", ".DDB/y": b"", "a.txt": b"a"}))
    assert (contents(found), list(found.folders)) == ({"a.txt": b"a"}, [])


def test_all_members_are_extracted_below_the_destination(extracted: Extract) -> None:
    found = extracted(zipped({"a/b.txt": b"x", "c/": b""}), dest="x/y")
    assert (contents(found), list(found.folders)) == ({"x/y/a/b.txt": b"x"}, ["x/y/c"])


def test_unwanted_members_are_not_extracted(extracted: Extract) -> None:
    found = extracted(zipped({"a": b"1", "b": b"2"}), wanted=lambda path: path == "b")
    assert contents(found) == {"b": b"2"}


def test_an_empty_archive_gives_nothing(extracted: Extract) -> None:
    assert contents(extracted(zipped({}))) == {}


NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/\\:%"), min_size=1, max_size=12
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents_by_name=st.dictionaries(NAMES, st.binary(max_size=3000), max_size=6))
def test_contents_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, extracted: Extract, contents_by_name: dict[str, bytes]
) -> None:
    # Numbered, so that no names collide on any system and none is reserved.
    wanted = {f"{n}-x/{n}{name}y": content for n, (name, content) in enumerate(contents_by_name.items())}
    file, _ = packed(tmp_path_factory.mktemp("packed"), wanted)
    found = contents(extracted(file.read_bytes()))
    assert sorted(found.values()) == sorted(wanted.values())
    assert len(found) == len(wanted)
