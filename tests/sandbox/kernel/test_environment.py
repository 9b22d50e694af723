"""Secrets leave a process's environment once they have been read."""

import os
import subprocess
import sys

PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from aerotask.sandbox.kernel.environment import take_variables

print(take_variables(["AEROTASK_SECRET_KEY", "AEROTASK_DB_PASSWORD", "AEROTASK_REDIS_URL"]))
print(os.environ.get("AEROTASK_SECRET_KEY"), os.environ["AEROTASK_MODE"])
print([word in Path("/proc/self/environ").read_text() for word in ("tree and river", "hill", "development", "PATH=")])
print(subprocess.run(["sh", "-c", "echo $AEROTASK_SECRET_KEY$AEROTASK_MODE"], capture_output=True).stdout)
"""


def test_secrets_that_have_been_read_are_in_no_environment() -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AEROTASK_")},
        "AEROTASK_SECRET_KEY": "tree and river",
        "aerotask_db_password": "hill",
        "AEROTASK_MODE": "development",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "{'AEROTASK_SECRET_KEY': 'tree and river', 'aerotask_db_password': 'hill'}",
        "None development",
        "[False, False, True, True]",
        r"b'development\n'",
    ]
