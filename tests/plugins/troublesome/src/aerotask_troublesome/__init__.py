"""Test tools: some do nothing, the others break one rule each."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    NewEntryPath,
    Plan,
    RunContext,
    TaskFailed,
    Tool,
    ToolParams,
)

MIB = 1024 * 1024
# The folder through which the tests and the tools signal each other.
OUTSIDE = (tempfile.gettempdir(),)


class NoParams(ToolParams):
    """A label, so that tasks don't count as duplicates."""

    label: str = ""


class PathParams(ToolParams):
    """An entry to read."""

    path: EntryPath


class _Small(Tool[NoParams]):
    def plan(self, params: NoParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=256 * MIB)


class Nothing(_Small):
    id, version, title = "nothing", "1", "Do nothing"
    params = NoParams

    def run(self, params: NoParams, ctx: RunContext) -> None:
        ctx.result({"label": params.label})


class NothingNewer(Nothing):
    version = "1.10"


class PatientParams(ToolParams):
    """The file to wait for, and the lines to log."""

    label: str = ""
    until: str = ""
    """The path of a file to wait for; empty: don't wait."""
    lines: int = Field(0, ge=0)
    line_every_s: float = 0.0
    publish: str = ""
    """Text to publish as artifact at the end."""
    path: EntryPath | None = None


class Patient(Tool[PatientParams]):
    """Writes lines, then waits for a file that the test makes, then publishes."""

    id, version, title = "patient", "1", "Wait for a file"
    folders = OUTSIDE
    artifact_suffix = ".txt"

    def plan(self, params: PatientParams, dataset: DatasetView) -> Plan:
        reads = (params.path,) if params.path else ()
        return Plan(estimated_output_bytes=1000, memory_bytes=256 * MIB, reads=reads)

    def run(self, params: PatientParams, ctx: RunContext) -> None:
        ctx.progress(0.25, "writing lines")
        for number in range(params.lines):
            ctx.log(f"line {number}")
            time.sleep(params.line_every_s)
        if params.until:
            # A file outside the work folder shows the test that this attempt is running.
            Path(f"{params.until}.running.{os.getpid()}").touch()
            ctx.progress(0.5, "waiting")
            while not Path(params.until).exists():
                time.sleep(0.01)
        made = ctx.workdir / "made.txt"
        text = ctx.input(params.path).read_text(encoding="utf-8") if params.path else params.publish
        made.write_text(text, encoding="utf-8")
        ctx.publish(made, name="made.txt", media_type="text/plain")
        ctx.result({"pid": os.getpid()})


class Album(_Small):
    """Publishes three files."""

    id, version, title = "album", "1", "Publish three files"
    artifact_suffix = ".txt"

    def run(self, params: NoParams, ctx: RunContext) -> None:
        for name in ("main.txt", "legend.txt", "Übersicht 1.txt"):
            file = ctx.workdir / name
            file.write_text(f"this is {name}", encoding="utf-8")
            ctx.publish(file, name=name, media_type="text/plain")


class Deaf(_Small):
    """Spins in C with the GIL held: no signal handler and no thread of Python ever runs again."""

    id, version, title = "deaf", "1", "Spin in C"
    params = NoParams

    def run(self, params: NoParams, ctx: RunContext) -> None:
        ctx.log(f"deaf from now on: {os.getpid()}")
        sum(range(10**15))


class Segfault(_Small):
    id, version, title = "segfault", "1", "Segfault"
    params = NoParams

    def run(self, params: NoParams, ctx: RunContext) -> None:
        ctx.log("about to crash")
        ctypes.string_at(0)


class EatMemory(_Small):
    id, version, title = "eat-memory", "1", "Eat memory"
    params = NoParams

    def run(self, params: NoParams, ctx: RunContext) -> None:
        eaten = []
        while True:
            eaten.append(bytearray(16 * MIB))


class FillDiskParams(ToolParams):
    """The way in which the tool fails."""

    silently: bool = False
    """Raise an error without the reason, as GDAL does."""


class FillDisk(Tool[FillDiskParams]):
    """Writes until the limit on file sizes, which fails as a full disk does."""

    id, version, title = "fill-disk", "1", "Fill the disk"
    params = FillDiskParams

    def plan(self, params: FillDiskParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=256 * MIB)

    def run(self, params: FillDiskParams, ctx: RunContext) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(hard, 4 * MIB) if hard > 0 else 4 * MIB, hard))
        try:
            with (ctx.workdir / "big").open("wb") as big:
                while True:
                    big.write(b"\0" * MIB)
        except OSError as error:
            if params.silently:
                raise RuntimeError("writing failed") from error
            raise


class WriterParams(ToolParams):
    """Entries to write."""

    folder: NewEntryPath
    count: int = Field(1, ge=1, le=1000)
    remove: EntryPath | None = None
    until: str = ""
    """After declaring half of them, wait for a file of this name."""


class Writer(Tool[WriterParams]):
    """Puts numbered files into a folder, and may remove an entry."""

    id, version, title = "writer", "1", "Write entries"
    folders = OUTSIDE
    access = Access.WRITE

    def plan(self, params: WriterParams, dataset: DatasetView) -> Plan:
        removed = (params.remove,) if params.remove else ()
        return Plan(
            estimated_output_bytes=10 * params.count,
            memory_bytes=256 * MIB,
            writes=(params.folder, *removed),
        )

    def run(self, params: WriterParams, ctx: RunContext) -> None:
        for number in range(params.count):
            if params.until and number == params.count // 2:
                Path(f"{params.until}.running.{os.getpid()}").touch()
                while not Path(params.until).exists():
                    time.sleep(0.01)
            file = ctx.workdir / f"{number}.txt"
            file.write_text(f"file {number}\n", encoding="utf-8")
            ctx.put_entry(file, at=f"{params.folder}/{number}.txt")
            ctx.progress((number + 1) / params.count, "writing")
        if params.remove:
            ctx.remove_entry(params.remove)
        ctx.result({"written": params.count})


class BulkyParams(ToolParams):
    """An estimate."""

    estimated_bytes: int = Field(ge=0)


class Bulky(Tool[BulkyParams]):
    """Plans a large output."""

    id, version, title = "bulky", "1", "Claim a big output"
    artifact_suffix = ".bin"

    def plan(self, params: BulkyParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=params.estimated_bytes, memory_bytes=256 * MIB)

    def run(self, params: BulkyParams, ctx: RunContext) -> None:
        file = ctx.workdir / "big.bin"
        file.write_bytes(b"\0" * min(params.estimated_bytes, MIB))
        ctx.publish(file, name="big.bin", media_type="application/octet-stream")


class FlakyParams(ToolParams):
    """The number of failures, and the file that counts attempts."""

    note: str
    """A file that gets a byte for every attempt."""
    fails: int = Field(1, ge=0)
    retryable: bool = True


class Flaky(Tool[FlakyParams]):
    """Fails in its first attempts, then succeeds."""

    id, version, title = "flaky", "1", "Fail at first"
    folders = OUTSIDE

    def plan(self, params: FlakyParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=256 * MIB)

    def run(self, params: FlakyParams, ctx: RunContext) -> None:
        with Path(params.note).open("ab") as note:
            note.write(b".")
            attempt = note.tell()
        ctx.progress(0.5, "trying")
        ctx.log(f"try {attempt}")
        if attempt <= params.fails:
            raise TaskFailed("The sky was dark.", code="dark-sky", retryable=params.retryable)
        ctx.result({"tries": attempt})


class ConfusedParams(ToolParams):
    """The rule to break."""

    how: Literal[
        "outside",
        "link",
        "undeclared",
        "input",
        "raise",
        "fail",
        "exit",
        "interrupt",
        "garbage",
        "result",
        "escape",
        "print",
    ]


class Confused(Tool[ConfusedParams]):
    """Breaks one rule of the interface at a time."""

    id, version, title = "confused", "1", "Break a rule"
    access = Access.WRITE

    def plan(self, params: ConfusedParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=256 * MIB, writes=("allowed",))

    def run(self, params: ConfusedParams, ctx: RunContext) -> None:  # noqa: PLR0912  one rule a branch
        file = ctx.workdir / "file.txt"
        file.write_text("text", encoding="utf-8")
        match params.how:
            case "outside":
                ctx.publish(Path("/etc/hostname"), name="hostname", media_type="text/plain")
            case "link":
                link = ctx.workdir / "link"
                link.symlink_to("/etc/hostname")
                ctx.publish(link, name="hostname", media_type="text/plain")
            case "undeclared":
                ctx.put_entry(file, at="elsewhere/file.txt")
            case "input":
                ctx.input("not/planned.tif")
            case "raise":
                raise RuntimeError(f"no good in {ctx.workdir}")
            case "fail":
                raise TaskFailed("The weather was bad.", code="bad-weather")
            case "exit":
                os._exit(7)
            case "interrupt":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            case "garbage":
                for descriptor in range(3, 64):
                    try:
                        os.write(descriptor, b"\xff not json\n")
                    except OSError:
                        continue
                time.sleep(60)
            case "result":
                ctx.result({"nul": "a\0b", "nan": float("nan"), "lone": "\ud800x"})
            case "escape":
                ctx.log("\x1b[31mred\x1b[0m \x07 bell\r\nsecond")
            case "print":
                os.write(2, b"\x1b[2J\xc2\x9b31m red\n" + b"x" * 100_000)


class Curious(_Small):
    """Returns what it can see of its own process and of the worker."""

    id, version, title = "curious", "1", "Look around"
    params = NoParams

    def run(self, params: NoParams, ctx: RunContext) -> None:
        grandparent = int(
            Path(f"/proc/{os.getppid()}/stat").read_text(encoding="ascii").split(") ")[1].split()[1]
        )
        try:
            seen = Path(f"/proc/{grandparent}/environ").read_bytes().decode(errors="replace")
        except OSError as error:
            seen = type(error).__name__
        ctx.result(
            {
                "environment": dict(os.environ),
                "workerEnvironment": seen,
                "user": os.getuid(),
                "descriptors": sorted(int(name.name) for name in Path("/proc/self/fd").iterdir()),
                "sessionLeader": os.getsid(0) == os.getpid(),
                "cwd": Path.cwd() == ctx.workdir,
                "coreBytes": resource.getrlimit(resource.RLIMIT_CORE)[0],
                "openFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                "modules": sorted(
                    name for name in ("rasterio", "fastapi", "sqlalchemy") if name in sys.modules
                ),
            }
        )


class ParentParams(ToolParams):
    """The file for the grandchild's pid."""

    note: str
    wait: bool = True


class Parent(Tool[ParentParams]):
    """Starts a process of its own and waits for it, or leaves it behind."""

    id, version, title = "parent", "1", "Start a process"
    folders = OUTSIDE

    def plan(self, params: ParentParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=256 * MIB)

    def run(self, params: ParentParams, ctx: RunContext) -> None:
        grandchild = subprocess.Popen(["sleep", "600"])
        Path(params.note).write_text(str(grandchild.pid), encoding="ascii")
        if params.wait:
            grandchild.wait()


class CrowdParams(ToolParams):
    """Number of the processes, and the memory that each of them fills."""

    processes: int
    mib: int
    endless: bool = False


class Crowd(Tool[CrowdParams]):
    """Starts processes that fill memory, and ends when all of them have, if at all."""

    id, version, title = "crowd", "1", "Start many processes"

    def plan(self, params: CrowdParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=32 * MIB)

    def run(self, params: CrowdParams, ctx: RunContext) -> None:
        fill = f"filled = b'x' * ({params.mib} << 20)\nprint(len(filled), flush=True)\ninput()"
        started = [
            subprocess.Popen([sys.executable, "-c", fill], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(params.processes)
        ]
        filled = [int(process.stdout.readline()) for process in started if process.stdout is not None]
        if params.endless:
            time.sleep(600)
        for process in started:
            process.communicate(b"\n")
        ctx.result({"filled": filled})


class IntruderParams(ToolParams):
    """Files of others to try."""

    foreign: str
    path: EntryPath | None = None


class Intruder(Tool[IntruderParams]):
    """Tries what a compromised child would, and returns the outcome of each attempt."""

    id, version, title = "intruder", "1", "Break out"

    def plan(self, params: IntruderParams, dataset: DatasetView) -> Plan:
        reads = (params.path,) if params.path else ()
        return Plan(estimated_output_bytes=0, memory_bytes=256 * MIB, reads=reads)

    def run(self, params: IntruderParams, ctx: RunContext) -> None:
        forkserver, foreign = os.getppid(), Path(params.foreign)
        tries: dict[str, Callable[[], object]] = {
            "look into the fork server": lambda: Path(f"/proc/{forkserver}/mem").open("rb").close(),
            "patch the fork server": lambda: Path(f"/proc/{forkserver}/mem").open("r+b").close(),
            "signal the fork server": lambda: os.kill(forkserver, 0),
            "leave the session": os.setsid,
            "read a foreign file": foreign.read_bytes,
            "change a foreign file": lambda: foreign.open("r+b").close(),
            "make a file beside it": foreign.with_name("made").touch,
            "write an output": (ctx.workdir / "made").touch,
            "write a temporary file": lambda: tempfile.TemporaryFile().close(),
            "internet socket": lambda: socket.create_server(("127.0.0.1", 0)).close(),
            "name of a host": lambda: socket.getaddrinfo("localhost", 80),
            "local socket": lambda: socket.socket(socket.AF_UNIX).close(),
        }
        if params.path:
            given = ctx.input(params.path)
            tries["read an input"] = given.read_bytes
            tries["change an input"] = lambda: given.open("r+b").close()
            tries["remove an input"] = given.unlink
        ctx.result({name: _outcome(step) for name, step in tries.items()})


class Connected(Intruder):
    """As above, with the network."""

    id, title = "connected", "Break out over the network"
    network = True


def _outcome(step: Callable[[], object]) -> str:
    try:
        step()
    except OSError as error:
        return type(error).__name__
    return "works"
