"""Tool that tries everything by which a compromised child could harm others, and what tools must be able to do."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aerotask.sdk import DatasetView, Plan, RunContext, Tool, ToolParams

MIB = 1024 * 1024
_CLONE_NEWUSER = 0x10000000
_PRIVATE, _READ_CONTROL = 0, 0o600
# keyctl, bpf, perf_event_open and userfaultfd, which have no functions in the C library.
_NUMBERS = {"x86_64": (250, 321, 298, 323), "aarch64": (219, 280, 241, 282)}

Steps = Mapping[str, Callable[[], object]]


class ProbeParams(ToolParams):
    """Processes and files of others."""

    worker: int
    """The process that started the fork server."""
    neighbour: int
    """Another process of the same user."""
    blobs: str
    """The folder of the stored files; it holds one that is called `blob`."""
    input: str | None = None
    """An input of the run."""


class Probe(Tool[ProbeParams]):
    """Returns the outcome of each attempt: `works`, or the name of the error."""

    id, version, title = "probe", "1", "Try everything"
    params = ProbeParams

    def plan(self, params: ProbeParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=512 * MIB)

    def run(self, params: ProbeParams, ctx: RunContext) -> None:
        work, blobs = ctx.workdir, Path(params.blobs)
        status = Path("/proc/self/status").read_text(encoding="ascii")
        ctx.result(
            {
                "processes": outcomes(_on_processes(params)),
                "kernel": outcomes(_on_kernel(work)),
                "memory": outcomes(_on_memory()),
                "files": outcomes(_on_files(blobs)),
                "own": outcomes(_own(work)),
                "input": ctx.input(params.input).read_text() if params.input else "",
                "capabilities": int(status.partition("CapPrm:")[2].split()[0], 16),
                "processLimit": resource.getrlimit(resource.RLIMIT_NPROC)[0],
                "users": os.getresuid(),
                "groups": (*os.getresgid(), *os.getgroups()),
            }
        )


def outcomes(steps: Steps) -> dict[str, str]:
    """Outcome of each step."""
    return {name: outcome(step) for name, step in steps.items()}


def outcome(step: Callable[[], object]) -> str:
    """`works`, or the name of the error."""
    try:
        step()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "works"


def _on_processes(params: ProbeParams) -> Steps:
    pid = params.neighbour
    return {
        "limit": lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),
        "affinity": lambda: os.sched_setaffinity(pid, {0}),
        "scheduler": lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        "priority of the user": lambda: os.setpriority(os.PRIO_USER, 0, 19),
        "signal": lambda: os.kill(pid, 0),
        "signal to all": lambda: os.kill(-1, 0),
        "environment": Path(f"/proc/{params.worker}/environ").read_bytes,
        "memory": lambda: Path(f"/proc/{params.worker}/mem").open("rb").close(),
    }


def _on_kernel(work: Path) -> Steps:
    keyctl, bpf, perf, fault = _NUMBERS[platform.machine()]
    attributes = ctypes.create_string_buffer(128)
    return {
        "namespace": lambda: _call("unshare", _CLONE_NEWUSER),
        "keys": lambda: _call("syscall", keyctl, 0, -3, 1),
        "bpf": lambda: _call("syscall", bpf, 0, attributes, 128),
        "performance": lambda: _call("syscall", perf, attributes, 0, -1, -1, 0),
        "page faults": lambda: _call("syscall", fault, 1),
        "device": lambda: os.mknod(work / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    }


def _on_memory() -> Steps:
    return {
        "shared": lambda: mmap.mmap(-1, MIB),
        "file in memory": lambda: os.memfd_create("memory"),
        "zero device": lambda: Path("/dev/zero").open("rb").close(),
        "System V segment": lambda: _call("shmget", _PRIVATE, MIB, _READ_CONTROL),
        "System V queue": lambda: _call("msgget", _PRIVATE, _READ_CONTROL),
        "System V semaphore": lambda: _call("semget", _PRIVATE, 1, _READ_CONTROL),
    }


def _on_files(blobs: Path) -> Steps:
    blob = blobs / "blob"
    return {
        "list": lambda: list(blobs.iterdir()),
        "read": blob.read_bytes,
        "write": lambda: blob.open("r+b").close(),
        "mode of the folder": lambda: blobs.chmod(0),
        "mode of the file": lambda: blob.chmod(0),
        "times": lambda: os.utime(blob, (0, 0)),
        "present time": lambda: os.utime(blob),
        "owner": lambda: os.chown(blob, 65534, 65534),
        "attribute": lambda: os.setxattr(blob, "user.mark", b"1"),
    }


def _own(work: Path) -> Steps:
    """Operations that tools and their libraries need."""

    def multiply_in_threads() -> None:
        import numpy as np  # noqa: PLC0415  the child has it loaded

        with ThreadPoolExecutor(8) as pool:
            sums = list(pool.map(lambda size: np.ones((size, size)).sum(), range(100, 108)))
        assert sums == [size * size for size in range(100, 108)]

    def write_raster() -> None:
        import numpy as np  # noqa: PLC0415
        import rasterio  # noqa: PLC0415

        profile = {
            "driver": "GTiff",
            "width": 64,
            "height": 64,
            "count": 1,
            "dtype": "uint8",
            "num_threads": 2,
        }
        with rasterio.open(work / "a.tif", "w", **profile) as raster:
            raster.write(np.full((1, 64, 64), 7, np.uint8))
        with rasterio.open(work / "a.tif") as raster:
            assert raster.read().max() == 7

    def copy() -> None:
        (work / "from").write_bytes(b"content")
        shutil.copy2(work / "from", work / "to")
        assert (work / "to").read_bytes() == b"content"

    def touch() -> None:
        for _ in range(2):
            (work / "touched").touch()
        subprocess.run(["touch", work / "touched", work / "by the program"], check=True)
        assert (work / "touched").is_file()
        assert (work / "by the program").is_file()

    def execute() -> None:
        done = subprocess.run(
            [sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "42\n"

    def close_folder() -> None:
        (work / "secret").mkdir(mode=0o700)
        (work / "secret" / "made").write_text("made", encoding="ascii")

    def kill_own() -> None:
        with subprocess.Popen(["sleep", "600"]) as own:
            own.kill()

    own = os.getpid()
    return {
        "threads": multiply_in_threads,
        "raster": write_raster,
        "copy": copy,
        "touch": touch,
        "program": execute,
        "closed folder": close_folder,
        "kill a program": kill_own,
        "priority": lambda: os.nice(1),
        "affinity": lambda: os.sched_setaffinity(0, os.sched_getaffinity(own)),
        "limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "pipe with a name": lambda: os.mkfifo(work / "pipe"),
        "private memory": lambda: mmap.mmap(-1, MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
    }


def _call(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), function)
