"""`noRetry` of every error code in docs/errors.md."""

import re
from pathlib import Path

import orjson

from aerotask.api.http.errors import problem

PAGE = Path(__file__).resolve().parents[3] / "docs" / "errors.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| ([0-9, ]+) \|", re.MULTILINE)

# Transient errors, after which the same request may succeed; all others need a change.
PASSING = {
    ("content-missing", 503),
    ("disk-full", 507),
    ("drawing-busy", 503),
    ("drawing-timed-out", 503),
    ("input-changed", 409),
    ("internal-error", 500),
    ("locked", 423),
    ("not-ended", 409),
    ("not-finished", 409),
    ("quota-exceeded", 429),
    ("storage-quota-exceeded", 429),
    ("too-many-sign-ins", 429),
    ("too-many-unknown-users", 429),
    ("too-many-wrong-links", 429),
    ("unavailable", 503),
    ("upload-busy", 423),
    ("upload-silent", 408),
}


def documented() -> set[tuple[str, int]]:
    rows = ROW.findall(PAGE.read_text())
    return {(code, int(status)) for code, statuses in rows for status in statuses.split(",")}


def no_retry(code: str, status: int) -> bool:
    return bool(orjson.loads(problem(status, code, "…").body)["noRetry"])


def test_only_transient_errors_allow_a_retry() -> None:
    found = {(code, status) for code, status in documented() if not no_retry(code, status)}
    assert len(documented()) > 80
    assert found == PASSING
