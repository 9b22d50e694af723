"""Check of the lock files: no address, a hash for each requirement, and no stray `uv.lock`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LOCKS = ("requirements.lock", "deploy/requirements.lock", "deploy/tools.lock.txt")
ADDRESS = re.compile(r"https?://|file://|--(?:extra-)?index-url|--find-links|--trusted-host")


def faults(root: Path) -> Iterator[str]:
    """Faults of the lock files in the checkout at `root`."""
    tracked = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if "uv.lock" in tracked:
        yield "uv.lock is tracked: it holds the address of whatever index made it"
    for name in LOCKS:
        text = (root / name).read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if ADDRESS.search(line):
                yield f"{name}:{number} holds an address: {line.strip()}"
        for requirement in re.findall(r"^(?![#\s])(?:.*\\\n)*.*$", text, re.MULTILINE):
            if requirement and "--hash=sha256:" not in requirement:
                yield f"{name}: no hash for {requirement.split()[0]}"


if __name__ == "__main__":
    found = list(faults(Path(__file__).resolve().parents[1]))
    print("\n".join(found) or "lock files: clean")  # noqa: T201
    sys.exit(bool(found))
