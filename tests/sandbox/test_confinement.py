"""What a confined process can't do, tried in processes of their own since there is no way back."""

import json
import platform
import subprocess
import sys

import pytest

from aerotask.sandbox.confinement import _kernel_filters

PROGRAM = """
import ctypes, json, os, socket, subprocess, sys, threading
from aerotask.sandbox.confinement import confine

inherited = socket.socketpair()
confined = confine() if sys.argv[1] == "confined" else False

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
    "own socket": tried(lambda: (inherited[0].send(b"x"), inherited[1].recv(1))),
    "pair": tried(lambda: [end.close() for end in socket.socketpair()]),
    "file": tried(lambda: open(os.devnull).close()),
}))
"""
EACCES = 13
pytestmark = pytest.mark.skipif(
    not _kernel_filters(), reason=f"no seccomp filters here ({sys.platform}, {platform.machine()})"
)


def found(how: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_confined_process_opens_no_socket_and_keeps_those_it_has() -> None:
    what = found("confined")
    assert what["confined"] is True
    refused = {name: what[name] for name in ("ipv4", "ipv6", "unix", "thread", "trace")}
    assert refused == dict.fromkeys(refused, EACCES)
    assert what["executed"] == str(EACCES)
    assert [what[name] for name in ("own socket", "pair", "file")] == ["works"] * 3


def test_without_confinement_the_same_steps_work() -> None:
    what = found("free")
    assert [what[name] for name in ("ipv4", "unix", "thread", "executed")] == ["works"] * 4
