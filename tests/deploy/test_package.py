"""Deliverables: the wheel, the lock files, and the deployment files."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as in the Dockerfile."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(target), str(ROOT)]
    subprocess.run([*command, *offline], check=True)
    [made] = target.glob("aerotask-*.whl")
    return made


def test_the_wheel_contains_the_run_time_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names >= {
        "aerotask/py.typed",
        "aerotask/migrations/env.py",
        "aerotask/migrations/versions/0001_the_task_substrate.py",
        "aerotask/metadata/photos/cameras.toml",
        "aerotask/raster/sensors.toml",
        "aerotask/raster/colormaps.json",
    }
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]


def test_an_installed_wheel_finds_its_migrations_and_tools(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(tmp_path)], check=True)
    program = (
        "from aerotask.db.migrate import migrations_folder; from aerotask.registry import load_registry;"
        "print(migrations_folder()); print(*load_registry().tools)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    migrations, tools = done.stdout.splitlines()
    assert migrations == str(tmp_path / "aerotask" / "migrations")
    assert {"merge-multispectral", "raster-export"} <= set(tools.split())
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert set(tools.split()) == set(declared["aerotask.tools"])


def check_locks(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "deploy" / "check_locks.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that the lock check reads, in a new repository."""
    for name in (
        "requirements.lock",
        *(f"deploy/{n}" for n in ("requirements.lock", "tools.lock.txt", "check_locks.py")),
    ):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def test_the_lock_files_are_clean(checkout: Path) -> None:
    done = check_locks(checkout)
    assert (done.returncode, done.stdout) == (0, "lock files: clean\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--extra-index-url https://mirror.example/simple\n", "holds an address"),
        ("x @ https://mirror.example/x.whl --hash=sha256:00\n", "holds an address"),
        ("x==1.0\n", "no hash for x==1.0"),
    ],
)
def test_the_lock_check_refuses_addresses_and_missing_hashes(checkout: Path, line: str, words: str) -> None:
    with (checkout / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write(line)
    done = check_locks(checkout)
    assert done.returncode == 1
    assert words in done.stdout


def test_the_lock_check_refuses_a_tracked_uv_lock(checkout: Path) -> None:
    (checkout / "uv.lock").touch()
    subprocess.run(["git", "-C", str(checkout), "add", "uv.lock"], check=True)
    assert "uv.lock is tracked" in check_locks(checkout).stdout


def test_the_compose_file_starts_everything_from_one_image() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"postgres", "valkey", "migrate", "api", "worker", "proxy"}
    assert services["postgres"]["image"].startswith("postgres:18-")
    assert services["worker"]["deploy"]["replicas"] == 2
    ours = [services[name] for name in ("migrate", "api", "worker")]
    assert {service["image"] for service in ours} == {"aerotask"}
    for service in ours:
        assert service["environment"]["AEROTASK_SECRET_KEY"].startswith("${AEROTASK_SECRET_KEY:?")
        assert service["volumes"] == ["storage:/var/lib/aerotask"]
    for name in ("postgres", "valkey", "api", "proxy"):
        assert "test" in services[name]["healthcheck"]


def test_images_of_others_are_named_by_digest() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    stages = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    images = [*stages, *(service["image"] for service in services.values() if service["image"] != "aerotask")]
    assert len(images) == 6
    assert [image for image in images if not re.fullmatch(r"\S+:\S+@sha256:[0-9a-f]{64}", image)] == []
    # `pg_dump` of the image fits the server.
    assert services["postgres"]["image"] in stages


def test_the_image_copies_only_files_that_exist_and_runs_as_a_numbered_user() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [
        name
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert "USER 10001" in lines


def test_ci_runs_the_commands_that_people_run() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.splitlines()[-2:] == ["make check", "make test"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["check-and-test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]


def test_image_and_compose_file_set_production_mode() -> None:
    assert "    AEROTASK_MODE=production \\\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert composed["x-aerotask"]["environment"]["AEROTASK_MODE"] == "${AEROTASK_MODE:-production}"


def test_dependencies_are_audited_weekly_on_the_oldest_and_newest_python() -> None:
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("FROM python:")[2].partition("-")[0]
    assert {"3.11", image} <= set(ci["jobs"]["audit"]["strategy"]["matrix"]["python"])
    # YAML 1.1 reads the key `on` as true.
    assert ci[True]["schedule"]
    assert "if" not in ci["jobs"]["audit"]
