"""Commands as they start in a container of the compose file: its user, capabilities and entry point, without an engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from tests.conftest import ROOT

# Makes a folder, in which nobody but root finds Python, passable for the command that follows.
_OPENED = 'mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$1" && mount --bind "$2" "$1" && shift 3 && exec "$@"'


def can_start_containers() -> bool:
    """True if this user may change accounts, the checkout is open to others, and Python is or can be opened."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    if _closed_folder(ROOT / "src") or _closed_folder(Path(sys.prefix)):
        return False
    return (
        _closed_folder(Path(sys.base_prefix)) is None
        or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0
    )


def in_container(service: str, *command: str, scratch: Path) -> list[str]:
    """The command as the process of a service of docker-compose.yml, in place of `aerotask`; `scratch` is an empty folder."""
    described = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"][service]
    *entry_point, program = described["entrypoint"]
    assert (program, described["user"]) == ("aerotask", "0")
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in described["cap_add"])])
    container = ["setpriv", f"--bounding-set={bounds}", "--no-new-privs", "--", *entry_point, *command]
    closed = _closed_folder(Path(sys.base_prefix))
    if closed is None:
        return container
    opened = ["unshare", "--mount", "sh", "-c", _OPENED, "sh", sys.base_prefix, str(scratch), str(closed)]
    return [*opened, *container]


def _closed_folder(path: Path) -> Path | None:
    """The first folder on the way to the path that only its owner can pass."""
    way = reversed(path.resolve().parents)
    return next((folder for folder in way if not folder.stat().st_mode & 0o001), None)
