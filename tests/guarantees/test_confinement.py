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
DEFAULT = {"AEROTASK_SECRET_KEY": "a secret that no child may see"}

# A worker with one child, a neighbour of the same user, and a stored file.
WORKER = """
import asyncio, json, os, resource, subprocess, sys
from pathlib import Path

from aerotask.sandbox.kernel.undumpable import make_undumpable
from aerotask.sandbox.spawner import Spawner
from aerotask.worker import tool_child
from aerotask.worker.jobs import ToolJob
from aerotask.worker.supervise import supervise

root = Path(sys.argv[1])
work, blobs = root / "out", root / "blobs"
work.mkdir()
blobs.mkdir(mode=0o700)
blob = blobs / "blob"
blob.write_bytes(b"content")
blob.chmod(0o444)
os.utime(blob, (10**9, 10**9))
make_undumpable()

async def main():
    neighbour = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    spawner = Spawner(tool_child.PROGRAM)
    params = {"worker": os.getpid(), "neighbour": neighbour.pid, "blobs": str(blobs)}
    job = ToolJob(
        tool_id="probe", tool_version="1", params=params, workdir=str(work), threads=2,
        memory_bytes=2**29, max_file_bytes=10**9,
    )
    before = neighbour_state(neighbour.pid)
    ended = await supervise(
        spawner, job, on_event=print, stop=asyncio.Event(), cancel_grace_s=1, timeout_s=60
    )
    print(json.dumps({
        "last": ended.last and dict(ended.last.body),
        "how": f"{ended.how} {ended.detail}",
        "neighbour": [before, neighbour_state(neighbour.pid)],
        "blob": [oct(blob.stat().st_mode), oct(blobs.stat().st_mode), blob.stat().st_mtime, blob.stat().st_uid],
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
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(own)],
        env={**os.environ, **DEFAULT, "HOME": "/", "PYTHONPATH": str(folder / "plugins")},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        preexec_fn=None if user == os.getuid() else lambda: become(user),
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "result" in (found["last"] or {}), (found, done.stdout, done.stderr)
    return found


@pytest.mark.parametrize("user", [os.getuid(), SOMEBODY], ids=["this user", "somebody"])
def test_a_child_reaches_neither_others_nor_the_storage(anybodys_folder: Path, user: int) -> None:
    if user != os.getuid() != 0:
        pytest.skip("only root can become another user")
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
    assert result["capabilities"] in {0, 1 << DAC_READ_SEARCH}
    # A worker with the right to do so gives its children an account of their own.
    assert result["user"] == (CHILD_ID if user == 0 and runs_as_own_account() else user)
    assert 1024 <= result["processLimit"] < 200_000


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
