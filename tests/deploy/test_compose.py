"""The compose file: its variables are filled in as compose does it, and what the processes make of them."""

import re
import subprocess
import sys
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from sqlalchemy.engine import make_url
from tests.conftest import ROOT

from aerotask.config import Settings

KEY = "q3VxPz7wKfJtB2nYhR8mLcE5uGdS9aWe"
AWKWARD = "a@b:c/d?e#f%20g&h=i $HOME ${X} 'q' \"r\" \\ é"
OURS = ("migrate", "api", "worker")

# ${NAME}, ${NAME:-default}, ${NAME:?message}; a default may hold another variable.
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])((?:\$\{[^{}]*\}|[^{}])*))?\}")


def interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with compose's variables filled in (https://docs.docker.com/reference/compose-file/interpolation/)."""
    if isinstance(value, dict):
        return {key: interpolate(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        name, operator, alternative = found.groups()
        if variables.get(name):
            return variables[name]
        if operator == ":?":
            raise LookupError(alternative)
        return str(interpolate(alternative or "", variables))

    return VARIABLE.sub(fill, value)


def quoted(value: str) -> str:
    """The value in an environment file's single quotes."""
    return "'" + value.replace("'", "\\'") + "'"


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def composed(text: str, env_file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The compose file as it is with this environment file, and that file's variables."""
    variables = {name: value or "" for name, value in dotenv_values(env_file, interpolate=False).items()}
    return interpolate(yaml.safe_load(text), variables), variables


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """An environment file made from the example, with the two secrets filled in."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    filled = example.replace("SECRET_KEY=''", f"SECRET_KEY='{KEY}'")
    filled = filled.replace("DB_PASSWORD=''", f"DB_PASSWORD={quoted(AWKWARD)}")
    file = tmp_path / ".env"
    file.write_text(filled, encoding="utf-8")
    return file


def settings_of(
    service: Mapping[str, Any], variables: Mapping[str, str], patch: pytest.MonkeyPatch
) -> Settings:
    """The settings of a service's process: the environment file's, below those of the service itself."""
    for name, value in {**variables, **service["environment"]}.items():
        patch.setenv(name, value)
    return Settings()


def test_the_environment_file_is_made_from_the_settings() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "env_example.py")], capture_output=True, text=True, check=True
    )
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == done.stdout


def test_the_environment_file_has_every_setting_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(AEROTASK_[A-Z_]+)` \|", readme, flags=re.MULTILINE))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert named - set(re.findall(r"^(?:# )?(AEROTASK_[A-Z_]+)=", example, flags=re.MULTILINE)) == set()


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_the_environment_file_reaches_the_processes(
    text: str, env_file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with env_file.open("a", encoding="utf-8") as file:
        file.write("AEROTASK_MAX_ATTEMPTS=5\nAEROTASK_TRUSTED_PROXIES=192.0.2.7\n")
    found, variables = composed(text, env_file)
    assert found["services"][name]["env_file"] == [{"path": ".env", "required": False}]
    settings = settings_of(found["services"][name], variables, monkeypatch)
    assert settings.queue.max_attempts == 5
    assert settings.http.trusted_proxies == "192.0.2.7"
    assert settings.mode == "production"


def test_a_database_password_may_hold_any_character(
    text: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, variables = composed(text, env_file)
    assert found["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"] == AWKWARD
    settings = settings_of(found["services"]["api"], variables, monkeypatch)
    url = make_url(settings.database_url.get_secret_value())
    assert (url.username, url.password, url.host, url.database) == (
        "aerotask",
        AWKWARD,
        "postgres",
        "aerotask",
    )


@pytest.mark.parametrize("missing", ["AEROTASK_SECRET_KEY", "AEROTASK_DB_PASSWORD"])
def test_compose_refuses_to_start_without_a_secret(text: str, env_file: Path, missing: str) -> None:
    example = env_file.read_text(encoding="utf-8")
    env_file.write_text(re.sub(rf"^{missing}=.*$", "", example, flags=re.MULTILINE), encoding="utf-8")
    with pytest.raises(LookupError, match=missing):
        composed(text, env_file)


def test_the_first_administrators_password_reaches_the_migration_alone(text: str, env_file: Path) -> None:
    with env_file.open("a", encoding="utf-8") as file:
        file.write("AEROTASK_ADMIN_PASSWORD='tree and river'\n")
    found, _ = composed(text, env_file)
    passwords = {name: found["services"][name]["environment"]["AEROTASK_ADMIN_PASSWORD"] for name in OURS}
    assert passwords == {"migrate": "tree and river", "api": "", "worker": ""}


def test_only_the_tls_proxy_is_published_beyond_the_host(text: str, env_file: Path) -> None:
    found, _ = composed(text, env_file)
    published = {name: service["ports"] for name, service in found["services"].items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8000:8000"], "proxy": ["80:80", "443:443", "443:443/udp"]}
    assert found["services"]["proxy"]["profiles"] == ["tls"]


def test_the_api_trusts_exactly_the_proxys_address(
    text: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, variables = composed(text, env_file)
    address = found["services"]["proxy"]["networks"]["edge"]["ipv4_address"]
    assert settings_of(found["services"]["api"], variables, monkeypatch).http.trusted_proxies == address
    [pool] = found["networks"]["edge"]["ipam"]["config"]
    assert ip_address(address) in ip_network(pool["subnet"])
    # No other container can get it.
    assert ip_address(address) not in ip_network(pool["ip_range"])
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    assert "reverse_proxy api:8000" in caddyfile
    assert "trusted_proxies" not in caddyfile


def test_the_databases_are_reached_by_our_processes_alone(text: str, env_file: Path) -> None:
    found, _ = composed(text, env_file)
    assert found["networks"]["data"] == {"internal": True}
    networks = {name: set(service["networks"]) for name, service in found["services"].items()}
    assert networks == {
        "postgres": {"data"},
        "valkey": {"data"},
        "migrate": {"data"},
        "api": {"data", "edge"},
        "worker": {"data", "outside"},
        "proxy": {"edge"},
    }


def test_every_service_is_limited(text: str, env_file: Path) -> None:
    found, _ = composed(text, env_file)
    for name, service in found["services"].items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert service["pids_limit"] >= 128, name
        assert service["logging"] == {
            "driver": "json-file",
            "options": {"max-size": "20m", "max-file": "5"},
        }, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in (*OURS, "proxy"):
        assert found["services"][name]["cap_drop"] == ["ALL"]
        assert all("size=" in mount for mount in found["services"][name]["tmpfs"]), name


@pytest.mark.parametrize("name", ["api", "worker"])
def test_only_the_capabilities_to_give_children_an_account_are_kept_and_nothing_stays_root(
    text: str, env_file: Path, name: str
) -> None:
    found, _ = composed(text, env_file)
    service = found["services"][name]
    added = {"api": [], "worker": ["CHOWN", "DAC_OVERRIDE"]}[name] + ["KILL", "SETGID", "SETUID"]
    assert service["cap_add"] == added
    kept = ",".join(["-all", *(f"+{capability.lower()}" for capability in added)])
    assert service["user"] == "0"
    assert service["entrypoint"] == [
        *("setpriv", "--reuid=10001", "--regid=10001", "--clear-groups"),
        *(f"--inh-caps={kept}", f"--ambient-caps={kept}", "--", "aerotask"),
    ]
    assert "\nUSER 10001\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert not {"user", "cap_add", "entrypoint"} & set(found["services"]["migrate"])


def test_the_apis_health_is_readiness_and_workers_do_not_wait_for_it(text: str) -> None:
    services = yaml.safe_load(text)["services"]
    assert "/readyz" in services["api"]["healthcheck"]["test"][-1]
    # Otherwise neither would start: the API is ready when a worker is.
    assert set(services["worker"]["depends_on"]) == {"migrate", "valkey"}


def test_actions_are_pinned_and_a_bot_updates_them() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)", workflow)
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    bot = yaml.safe_load((ROOT / ".github" / "renovate.json").read_text(encoding="utf-8"))
    assert {"docker:pinDigests", "helpers:pinGitHubActionDigests"} <= set(bot["extends"])
    assert {"docker-compose", "dockerfile", "github-actions"} == set(bot["enabledManagers"])
