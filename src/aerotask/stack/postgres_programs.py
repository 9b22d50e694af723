"""Programs of Postgres in a place that an unprivileged account can reach."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import structlog

from aerotask.stack.folder import OwnedFolder, reachable_by_others

_log = structlog.get_logger(__name__)


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
