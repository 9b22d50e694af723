"""Features, readiness, metrics and documentation of an installation."""

import re

from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import StackFactory
from tests.support.served import served
from tests.support.world import World

from aerotask.config import Settings


def test_features_list_states_tools_and_limits_without_login(world: World) -> None:
    features = world.client().get("/sys/features").json()
    states = {state["value"]: state["terminal"] for state in features["taskStates"]}
    assert states == {
        "Created": False,
        "Enqueued": False,
        "Scheduled": False,
        "Processing": False,
        "Succeeded": True,
        "Failed": True,
        "Deleted": True,
    }
    processing = next(state for state in features["taskStates"] if state["value"] == "Processing")
    assert processing["next"] == ["Deleted", "Enqueued", "Failed", "Scheduled", "Succeeded"]
    assert "raster-export" in {tool["id"] for tool in features["taskTools"]}
    limits = features["limits"]
    assert limits["maxOutputBytes"] == 20 * 1024**3
    assert limits["maxArtifactBytesPerOrgDay"] == 100 * 1024**3
    assert (limits["maxActiveBulkDownloadsPerUser"], limits["maxStorageBytesPerOrg"]) == (1, None)
    assert features["versions"] == {"aerotask": features["version"], "tus": "1.0.0"}


def test_readiness_counts_workers_and_names_what_is_missing(world: World, make_stack: StackFactory) -> None:
    ready = world.client().get("/readyz")
    assert (ready.status_code, ready.json()) == (
        200,
        {
            "ready": True,
            "postgres": "ok",
            "redis": "ok",
            "storage": "ok",
            "sweep": "ok",
            "workers": 2,
            "supervisor": None,
        },
    )
    with make_stack(workers=0) as alone:
        missing = alone.client().get("/readyz")
        assert (missing.status_code, missing.json()["workers"]) == (503, 0)
        assert int(missing.headers["retry-after"]) > 0
        assert alone.client().get("/healthz").json() == {"status": "ok"}


def test_metrics_show_the_queue_depth_and_no_names(make_stack: StackFactory) -> None:
    with make_stack(workers=0) as stopped:
        dataset = stopped.dataset()
        for number in range(3):
            dataset.submit("nothing", {"label": str(number)})
        answer = stopped.client().get("/metrics").raise_for_status()
        assert answer.headers["content-type"].startswith("text/plain; version=")
        samples = {
            sample.name + sample.labels.get("state", ""): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        assert samples["aerotask_active_tasksCreated"] + samples["aerotask_active_tasksEnqueued"] == 3
        assert (samples["aerotask_live_workers"], samples["aerotask_ready"]) == (0, 0)
        assert samples["aerotask_oldest_due_seconds"] > 0
        assert samples["process_resident_memory_bytes"] > 10_000_000
        assert dataset.org not in answer.text


async def test_metrics_can_be_closed_by_a_token(settings: Settings) -> None:
    token = "q3VxPz7wKfJtB2nYhR8m"
    closed = Settings.model_validate({**settings.model_dump(), "metrics_token": token})
    async with served(closed) as api:
        # Not even an administrator's session opens them: they belong to the installation.
        for authorization in ("", f"Bearer {token}x", f"Basic {token}", api.client.headers["Authorization"]):
            answer = await api.client.get("/metrics", headers={"Authorization": authorization})
            assert (answer.status_code, answer.json()["code"]) == (401, "metrics-token-required")
            assert answer.headers["www-authenticate"] == "Bearer"
        answer = await api.client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, "aerotask_ready" in answer.text) == (200, True)
        assert (await api.client.get("/healthz")).status_code == 200


def test_the_documentation_page_loads_nothing_from_other_hosts(world: World) -> None:
    page = world.client().get("/docs")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    for address in addresses:
        assert not address.startswith("http")
        if not address.startswith("data:"):
            assert world.client().get(address).status_code == 200
    assert world.client().get("/openapi.json").json()["info"]["title"] == "Aerotask"
    assert world.client().get("/").headers["location"] == "/docs"
