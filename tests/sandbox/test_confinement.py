"""Limits of a confined process, tried in subprocesses because confinement can't be undone."""

import json
import os
import platform
import subprocess
import sys

import pytest

from aerotask.sandbox.confinement import supported_confinement

PROGRAM = """
import ctypes, json, os, socket, subprocess, sys, threading
from aerotask.sandbox.confinement import confine

inherited = socket.socketpair()
confined = confine().network if sys.argv[1] == "confined" else False

def tried(step):
    try:
        step()
    except OSError as error:
        return error.errno
    return "works"

def in_thread(step):
    found = []
    thread = threading.Thread(target=lambda: found.append(tried(step)))
    thread.start()
    thread.join()
    return found[0]

def traced():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, 2**30, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")

executed = "import socket\\ntry:\\n  socket.socket()\\n  print('works')\\nexcept OSError as e:\\n  print(e.errno)"
print(json.dumps({
    "confined": confined,
    "ipv4": tried(lambda: socket.socket(socket.AF_INET).close()),
    "ipv6": tried(lambda: socket.socket(socket.AF_INET6).close()),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX).close()),
    "thread": in_thread(lambda: socket.socket().close()),
    "executed": subprocess.run([sys.executable, "-c", executed], capture_output=True, text=True).stdout.strip(),
    "trace": tried(traced),
    "session": tried(os.setsid),
    "group": tried(lambda: os.setpgid(0, 0)),
    "own socket": tried(lambda: (inherited[0].send(b"x"), inherited[1].recv(1))),
    "pair": tried(lambda: [end.close() for end in socket.socketpair()]),
    "file": tried(lambda: open(os.devnull).close()),
}))
"""
EACCES, EPERM = 13, 1
pytestmark = pytest.mark.skipif(
    not supported_confinement().network,
    reason=f"no seccomp filters here ({sys.platform}, {platform.machine()})",
)


def found(how: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_confined_process_keeps_its_sockets_and_opens_no_others() -> None:
    what = found("confined")
    assert what["confined"] is True
    refused = {name: what[name] for name in ("ipv4", "ipv6", "unix", "thread", "trace", "session", "group")}
    assert refused == dict.fromkeys(refused, EACCES)
    assert what["executed"] == str(EACCES)
    assert [what[name] for name in ("own socket", "pair", "file")] == ["works"] * 3


def test_without_confinement_the_same_steps_work() -> None:
    what = found("free")
    assert [what[name] for name in ("ipv4", "unix", "thread", "executed")] == ["works"] * 4


# A process that hides as fork servers do, a child of it, and a confined second child that tries to read both.
NEIGHBOURS = """
import json, os, signal, sys, time
from pathlib import Path
from aerotask.sandbox.confinement import confine
from aerotask.sandbox.kernel.undumpable import make_undumpable

secret = b"a secret of this process"
place = id(secret)
if sys.argv[1] == "confined":
    make_undumpable()
sibling = os.fork()
if sibling == 0:
    time.sleep(600)
parent = os.getpid()

def read(pid):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(place)
        assert secret in memory.read(200)

def write(pid):
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(place)
        memory.write(memory.read(1))

def tried(step, *arguments):
    try:
        step(*arguments)
    except OSError as error:
        return error.errno
    return "works"

def grandchild():
    if (own := os.fork()) == 0:
        time.sleep(600)
    os.kill(own, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(own, 0)[1]) == -signal.SIGKILL

if (looking := os.fork()) == 0:
    if sys.argv[1] == "confined":
        confine()
    print(json.dumps({
        "memory": [tried(step, pid) for step in (read, write) for pid in (parent, sibling)],
        "environment": [tried(Path(f"/proc/{pid}/environ").read_bytes) for pid in (parent, sibling)],
        "signals": [tried(os.kill, pid, 0) for pid in (parent, sibling)],
        "own child": tried(grandchild),
    }), flush=True)
    os._exit(0)
os.waitpid(looking, 0)
os.kill(sibling, signal.SIGKILL)
os.waitpid(sibling, 0)
"""


def neighbours(how: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", NEIGHBOURS, how], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(
    os.getuid() == 0 and not supported_confinement().files,
    reason="without Landlock nothing can be hidden from root",
)
def test_a_confined_process_can_read_nothing_of_its_neighbours() -> None:
    what = neighbours("confined")
    assert what["memory"] == [EACCES] * 4
    if os.getuid() != 0:  # root may measure performance, which lets it read this (CAP_PERFMON)
        assert what["environment"] == [EACCES] * 2
    assert what["own child"] == "works"


@pytest.mark.skipif(
    not supported_confinement().signals, reason="this kernel's Landlock doesn't cover signals"
)
def test_a_confined_process_signals_only_its_own_children() -> None:
    assert neighbours("confined")["signals"] == [EPERM] * 2


def test_without_confinement_neighbours_can_signal_each_other() -> None:
    what = neighbours("free")
    assert what["signals"] == ["works"] * 2
    assert what["own child"] == "works"
