"""Control characters in names reach no terminal and fake no log line."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, structlog
from aerotask.logs import configure_logs
configure_logs(sys.argv[1])
log = structlog.get_logger("x")
log.warning("tool.failed", name="a\\x1b[2J\\x07b\\nfaked line\\x9b31m")
hidden = "only-in-" + "a-variable"
try:
    raise ValueError("evil\\x1b]0;title\\x07 words")
except ValueError:
    log.exception("tool.broken")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_control_characters_never_reach_the_log(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, form], capture_output=True, check=True)
    output = done.stderr.decode()
    assert "faked line" in output
    assert "evil" in output
    assert "only-in-a-variable" not in output
    assert not [line for line in output.splitlines() if line.startswith("faked line")]
    assert {c for c in output if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)} == set()
