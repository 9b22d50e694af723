"""Children harm nobody: what a tool that runs given code can do to others, as root and as an ordinary user."""

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.container import can_start_containers, in_container
from tests.support.world import World

from aerotask.config import Settings
from aerotask.sandbox.confinement import Confinement, runs_as_own_account, supported_confinement
from aerotask.sandbox.kernel.account import CHILD_ID
from aerotask.sandbox.kernel.capabilities import DAC_READ_SEARCH

pytestmark = pytest.mark.skipif(
    supported_confinement() != Confinement(network=True, files=True, signals=True),
    reason="this kernel confines children in part only",
)

PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 8, 47
# An account that nobody has.
SOMEBODY = 61234
# The account of compose's containers.
IN_COMPOSE = 10001
DEFAULT = {"AEROTASK_SECRET_KEY": "a secret that no child may see"}

# A worker with one child, a neighbour of the same user, and a stored file.
WORKER = """
import asyncio, json, os, resource, shutil, subprocess, sys, uuid
from dataclasses import replace
from pathlib import Path

from aerotask.blobs.local import LocalBlobs
from aerotask.sandbox.kernel.undumpable import make_undumpable
from aerotask.sandbox.spawner import Spawner
from aerotask.worker import tool_child
from aerotask.worker.jobs import IndexJob, ToolInputs, ToolJob
from aerotask.worker.supervise import supervise

root = Path(sys.argv[1])
store = LocalBlobs(root)
store.create(uuid.uuid4())
folder, blobs = store.work_root / "attempt", root / "blobs"
work = folder / "out"
blob = blobs / "blob"
blob.write_bytes(b"content")
blob.chmod(0o444)
os.utime(blob, (10**9, 10**9))
make_undumpable()

async def main():
    neighbour = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    spawner = Spawner(tool_child.PROGRAM)
    given = root / "given"
    given.write_bytes(b"an input")
    key = (await store.ingest(given)).key
    await store.make_work_folder(folder.name)
    work.mkdir(mode=0o700)
    params = {"worker": os.getpid(), "neighbour": neighbour.pid, "blobs": str(blobs), "input": "a/b.txt"}
    job = ToolJob(
        tool_id="probe", tool_version="1", params=params, workdir=str(work), threads=2,
        memory_bytes=2**29, max_file_bytes=10**9, reads=str(folder),
    )

    async def inputs_for(needs):
        await store.link_all_to([(key, folder / "in" / "a" / "b.txt")])
        return ToolInputs({"a/b.txt": str(folder / "in" / "a" / "b.txt")}, ("",))

    before = neighbour_state(neighbour.pid)
    ended = await supervise(
        spawner, job, on_event=print, stop=asyncio.Event(), cancel_grace_s=1, timeout_s=60, inputs_for=inputs_for
    )
    made = await store.ingest(work / "secret" / "made")
    # A child that ignores signals: it is killed in the end, and dies with its fork server.
    ends = []
    for on_log, timeout_s in ((print, 1), (lambda event: event.kind == "log" and spawner._process.kill(), 30)):
        deaf = replace(job, tool_id="deaf", params={})
        end = await supervise(
            spawner, deaf, on_event=on_log, stop=asyncio.Event(), cancel_grace_s=0.1, timeout_s=timeout_s
        )
        ends.append(end.how.name)
    stored = store._path(made.key).stat()
    index = store.work_root / "index"
    await store.make_work_folder(index.name)
    await store.link_all_to([(key, index / "1" / "a.md")])
    indexed = []
    await supervise(
        spawner, IndexJob((("1", str(index / "1" / "a.md")),), str(index), 2**29),
        on_event=indexed.append, stop=asyncio.Event(), cancel_grace_s=1, timeout_s=60,
    )
    shutil.rmtree(folder)
    shutil.rmtree(index)
    print(json.dumps({
        "last": ended.last and dict(ended.last.body),
        "how": f"{ended.how} {ended.detail}",
        "neighbour": [before, neighbour_state(neighbour.pid)],
        "blob": [oct(blob.stat().st_mode), oct(blobs.stat().st_mode), blob.stat().st_mtime, blob.stat().st_uid],
        "stored": [made.size_bytes, oct(stored.st_mode), stored.st_uid],
        "ends": ends,
        "indexed": [(event.kind, event.body.get("type")) for event in indexed],
        "left": os.listdir(store.work_root),
        "root": oct(root.stat().st_mode),
        "segments": len(Path("/proc/sysvipc/shm").read_text().splitlines()),
    }))
    neighbour.kill()
    neighbour.wait()
    await spawner.close()

def neighbour_state(pid):
    return [resource.prlimit(pid, resource.RLIMIT_CPU), os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid)]

asyncio.run(main())
"""


@pytest.fixture
def anybodys_folder(plugins: Path) -> Iterator[Path]:
    """A folder that every user can pass, with the plug-ins."""
    with tempfile.TemporaryDirectory(prefix="aerotask-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(plugins, folder / "plugins")
        (folder / "plugins").chmod(0o755)
        yield folder


def become(user: int) -> None:
    """Go on as another user, who may read what root may: this Python may lie in root's home."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kept = 1 << DAC_READ_SEARCH
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(kept, kept, kept)
    if libc.capset(header, sets) or libc.prctl(PR_CAP_AMBIENT, 2, DAC_READ_SEARCH, 0, 0):
        os._exit(99)


def probe(folder: Path, user: int) -> dict[str, Any]:
    """The outcome of each attempt, and the state of the others afterwards."""
    own = folder / str(user)
    own.mkdir(mode=0o700)
    if user != os.getuid():
        os.chown(own, user, user)
    command = [sys.executable, "-c", WORKER, str(own)]
    if user == IN_COMPOSE:
        scratch = folder / "python"
        scratch.mkdir()
        command = in_container("worker", *command, scratch=scratch)
    done = subprocess.run(
        command,
        env={**os.environ, **DEFAULT, "HOME": "/", "PYTHONPATH": str(folder / "plugins")},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        preexec_fn=(lambda: become(user)) if user == SOMEBODY else None,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "result" in (found["last"] or {}), (found, done.stdout, done.stderr)
    return found


@pytest.mark.parametrize(
    "user", [os.getuid(), SOMEBODY, IN_COMPOSE], ids=["this user", "somebody", "in compose"]
)
def test_a_child_reaches_neither_others_nor_the_storage(anybodys_folder: Path, user: int) -> None:
    if user != os.getuid() != 0:
        pytest.skip("only root can become another user")
    if user == IN_COMPOSE and not can_start_containers():
        pytest.skip("needs setpriv, a checkout that is open to others, and unshare if Python isn't")
    found = probe(anybodys_folder, user)
    result = found["last"]["result"]

    assert result["processes"] == {
        "limit": "EPERM",
        "affinity": "EPERM",
        "scheduler": "EPERM",
        "priority": "EPERM",
        "priority of the user": "EPERM",
        "signal": "EPERM",
        "signal to all": "EPERM",
        "environment": "EACCES",
        "memory": "EACCES",
    }
    [before, after] = found["neighbour"]
    assert before == after
    assert result["kernel"] == {
        "namespace": "EPERM",
        "keys": "EPERM",
        "bpf": "EPERM",
        "performance": "EPERM",
        "page faults": "EPERM",
        "device": "EPERM",
    }
    assert result["memory"] == {
        "shared": "ENOMEM",
        "file in memory": "ENOSYS",
        "zero device": "EACCES",
        "System V segment": "EPERM",
        "System V queue": "EPERM",
        "System V semaphore": "EPERM",
    }
    # Modes, times and owners are answered as if they had been changed.
    assert {
        name: result["files"][name] for name in ("list", "read", "write", "present time", "attribute")
    } == {
        "list": "EACCES",
        "read": "EACCES",
        "write": "EACCES",
        "present time": "EPERM",
        "attribute": "ENOTSUP",
    }
    assert found["blob"] == [oct(stat.S_IFREG | 0o444), oct(stat.S_IFDIR | 0o700), 10**9, user]
    assert result["own"] == dict.fromkeys(result["own"], "works")
    # A worker with the right to do so gives its children an account of their own.
    own_account = user == IN_COMPOSE or (user == 0 and runs_as_own_account())
    assert result["users"] == [CHILD_ID if own_account else user] * 3
    assert result["groups"] == ([CHILD_ID] * 3 if own_account else result["groups"])
    assert result["capabilities"] in ({0} if user == IN_COMPOSE else {0, 1 << DAC_READ_SEARCH})
    # It stores and removes what they leave behind, in folders that are closed to it too.
    assert found["stored"] == [len("made"), oct(stat.S_IFREG | 0o444), user]
    assert found["left"] == []
    assert found["indexed"] == [["begun", None], ["described", "markdown"]]
    assert found["ends"] == ["TIMED_OUT", "CRASHED"]
    # The way to the work folders is opened to the account's group alone.
    assert found["root"] == oct(stat.S_IFDIR | (0o710 if user == IN_COMPOSE else 0o700))
    assert 1024 <= result["processLimit"] < 200_000


# An API that draws a picture in a child; the child's account is looked up while it waits for the next job.
DRAWING_API = """
import asyncio, json, sys, uuid
from io import BytesIO
from pathlib import Path

import psutil
from PIL import Image

from aerotask.blobs.local import LocalBlobs
from aerotask.sandbox.kernel.undumpable import make_undumpable
from aerotask.sandbox.pool import Pool, PoolLimits
from aerotask.tiles.jobs import ThumbnailJob, ThumbnailKind
from aerotask.tiles.local_files import LocalFileCache
from aerotask.tiles.renderer import RENDER_PROGRAM

root = Path(sys.argv[1])
store = LocalBlobs(root)
store.create(uuid.uuid4())
make_undumpable()

async def main():
    picture = root / "picture"
    Image.new("RGB", (64, 64), (200, 10, 10)).save(picture, "PNG")
    blob = await store.ingest(picture)
    files = LocalFileCache(store)
    pool = Pool(RENDER_PROGRAM, PoolLimits(children=1, max_waiting=1, job_timeout_s=60), files.folder)
    async with files.file(blob.key) as path:
        drawn = await pool.run(ThumbnailJob(path, path, None, None, ThumbnailKind.PICTURE, 32).to_message())
    [server] = psutil.Process().children()
    [child] = server.children()
    status = Path(f"/proc/{child.pid}/status").read_text()
    print(json.dumps({
        "pixel": Image.open(BytesIO(drawn.content)).convert("RGB").getpixel((16, 16)),
        "users": child.uids(),
        "groups": child.gids(),
        "others": status.partition("Groups:")[2].splitlines()[0].split(),
        "capabilities": status.partition("CapPrm:")[2].split()[0],
        "server": server.uids(),
    }))
    await pool.close()
    await files.close()

asyncio.run(main())
"""


@pytest.mark.skipif(
    not can_start_containers(), reason="needs root, setpriv, and a checkout that is open to others"
)
def test_the_children_that_draw_for_composes_api_have_an_account_of_their_own(anybodys_folder: Path) -> None:
    own, scratch = anybodys_folder / "storage", anybodys_folder / "python"
    for folder in (own, scratch):
        folder.mkdir(mode=0o700)
    os.chown(own, IN_COMPOSE, IN_COMPOSE)
    done = subprocess.run(
        in_container("api", sys.executable, "-c", DRAWING_API, str(own), scratch=scratch),
        env={**os.environ, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    red, green, blue = found.pop("pixel")
    assert (abs(red - 200) < 8, green < 24, blue < 24) == (True, True, True)
    assert found == {
        "users": [CHILD_ID] * 3,
        "groups": [CHILD_ID] * 3,
        "others": [],
        "capabilities": "0" * 16,
        "server": [IN_COMPOSE] * 3,
    }


def test_no_process_of_a_stack_shows_a_secret_in_its_environment(world: World) -> None:
    secrets = {
        name: world.stack.environment[name]
        for name in Settings.secret_variables()
        if name in world.stack.environment
    }
    assert {"AEROTASK_SECRET_KEY", "AEROTASK_DATABASE_URL"} <= set(secrets)
    assert "AEROTASK_ADMIN_PASSWORD" not in world.stack.environment
    assert world.stack.api is not None
    started = [psutil.Process(process.pid) for process in (world.stack.api, *world.stack.workers)]
    processes = [*started, *(child for process in started for child in process.children(recursive=True))]
    assert len(processes) > len(started)
    shown = {}
    for process in processes:
        with suppress(psutil.AccessDenied, psutil.NoSuchProcess):  # not even its own user may look
            shown[process.pid] = process.environ()
    assert [(pid, name) for pid, seen in shown.items() for name in secrets if seen.get(name)] == []
