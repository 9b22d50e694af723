"""Downloads: an interrupted one is resumed, and one that outlives its artifact is complete."""

import hashlib
import random
from collections.abc import Iterator

from tests.guarantees.invariants import stored_files
from tests.support.processes import restart_api
from tests.support.world import Dataset, World, eventually

MIB = 1024 * 1024
# More than the socket buffers hold, so that the server is still sending when the client pauses.
SIZE_BYTES = 24 * MIB


def make_artifact(dataset: Dataset, rng: random.Random) -> dict[str, object]:
    """A big artifact of the test's own, from its task's status."""
    dataset.upload("big.txt", rng.randbytes(SIZE_BYTES // 2).hex().encode(), indexed=False)
    task = dataset.run("patient", {"path": "big.txt"})
    assert task["artifact"]["sizeBytes"] == SIZE_BYTES
    return dict(task["artifact"])


def read_some(pieces: Iterator[bytes], enough: int) -> bytes:
    """The first bytes of a response that continues."""
    read = b""
    while len(read) < enough:
        read += next(pieces)
    return read


def test_a_download_resumes_after_a_restart_of_the_api(world: World, rng: random.Random) -> None:
    artifact = make_artifact(world.dataset(), rng)
    address = str(artifact["resultUrl"])
    with world.admin.stream("GET", address) as answer:
        etag = answer.headers["etag"]
        first = read_some(answer.iter_raw(), 3 * MIB)
        restart_api(world)

    headers = {"Range": f"bytes={len(first)}-", "If-Range": etag}
    rest = world.admin.get(address, headers=headers)

    assert (rest.status_code, rest.headers["content-range"]) == (
        206,
        f"bytes {len(first)}-{SIZE_BYTES - 1}/{SIZE_BYTES}",
    )
    assert hashlib.sha256(first + rest.content).hexdigest() == artifact["sha256"]


def test_an_artifact_that_is_deleted_during_a_download_is_still_sent_whole(
    world: World, rng: random.Random
) -> None:
    before = set(stored_files(world))
    artifact = make_artifact(world.dataset(), rng)
    address = str(artifact["resultUrl"])
    with world.admin.stream("GET", address) as answer:
        pieces = answer.iter_raw()
        first = read_some(pieces, MIB)
        world.admin.delete(address.removesuffix("/result")).raise_for_status()
        assert world.admin.get(address).status_code == 409
        # Only the uploaded file is left.
        eventually(lambda: len(set(stored_files(world)) - before) == 1, timeout_s=10)
        rest = b"".join(pieces)

    assert hashlib.sha256(first + rest).hexdigest() == artifact["sha256"]
