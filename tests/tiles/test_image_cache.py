"""Image cache: bounded in size, shared between processes, and harmless when it can't be written."""

import os
from pathlib import Path

from aerotask.tiles.image_cache import ImageCache


def digest(number: int) -> str:
    return f"{number:064x}"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))


def test_a_cached_image_is_found(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=1000)
    cache.put(digest(1), b"image")
    assert cache.get(digest(1)) == b"image"
    assert ImageCache(tmp_path, limit_bytes=1000).get(digest(1)) == b"image"
    assert cache.get(digest(2)) is None


def test_the_cache_never_exceeds_its_limit(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=1000)
    for number in range(100):
        cache.put(digest(number), b"x" * 100)
        assert size_of(tmp_path) <= 1000


def test_recently_used_images_stay(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=1000)
    for number in range(10):
        cache.put(digest(number), b"x" * 100)
        file = tmp_path / "00" / digest(number)
        os.utime(file, (number, number))
    assert cache.get(digest(0))
    cache.put(digest(10), b"x" * 100)
    assert cache.get(digest(0))
    assert cache.get(digest(1)) is None
    assert cache.get(digest(10))


def test_files_of_an_earlier_process_count(tmp_path: Path) -> None:
    earlier = ImageCache(tmp_path, limit_bytes=10_000)
    for number in range(50):
        earlier.put(digest(number), b"x" * 100)
    ImageCache(tmp_path, limit_bytes=1000).put(digest(99), b"x" * 100)
    assert size_of(tmp_path) <= 1000


def test_a_folder_that_cannot_be_written_caches_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ImageCache(tmp_path / "file", limit_bytes=1000)
    cache.put(digest(1), b"image")
    assert cache.get(digest(1)) is None


def test_an_empty_file_is_no_image(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, limit_bytes=1000)
    cache.put(digest(1), b"image")
    (tmp_path / "00" / digest(1)).write_bytes(b"")
    assert cache.get(digest(1)) is None
