"""Every import contract fails when it is broken, and none is missing from this test."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# For each contract: a module, and a line of it that the contract forbids.
BROKEN_BY = {
    "Imports point down": ("store/queue/leases.py", "from aerotask.services.tasks import tasks"),
    "Services stand in layers by subject": (
        "services/datasets/tree.py",
        "from aerotask.services.tasks import planning",
    ),
    "Queries stand in layers by subject": (
        "store/accounts/users.py",
        "from aerotask.store.queue import retention",
    ),
    "SQLAlchemy only in the database, queries, services and error mapping": (
        "api/tasks/tasks.py",
        "import sqlalchemy",
    ),
    "arq only in dispatch": ("worker/main.py", "import arq"),
    "No module imports a tool": ("worker/attempt.py", "from aerotask.tools import build"),
    "The SDK and the domain are pure": ("sdk/plan.py", "import sqlalchemy"),
    "HTTP knows no subject": ("api/http/errors.py", "from aerotask.api.tasks import tasks"),
    "The API has no GDAL": ("api/deps.py", "import rasterio"),
    "rasterio only in the raster libraries and child programs": (
        "services/datasets/tree.py",
        "import rasterio",
    ),
}


def contracts() -> list[str]:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [contract["name"] for contract in configured["tool"]["importlinter"]["contracts"]]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The linter's report of a copy of the source in which every contract is broken once."""
    copy = tmp_path_factory.mktemp("broken")
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copytree(ROOT / "src", copy / "src")
    for module, line in BROKEN_BY.values():
        path = copy / "src" / "aerotask" / module
        path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    program = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    linted = subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache"],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert linted.returncode == 1, linted.stderr
    return linted.stdout


def test_every_contract_has_a_case_here() -> None:
    assert sorted(contracts()) == sorted(BROKEN_BY)


@pytest.mark.parametrize("contract", BROKEN_BY)
def test_a_contract_fails_when_it_is_broken(report: str, contract: str) -> None:
    assert re.search(rf"^{re.escape(contract)} BROKEN", report, re.MULTILINE)
