"""Organizations and datasets over HTTP with running workers: deletion during tasks, usage, quotas."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.archives.archive_files import tarred
from tests.conftest import StackFactory
from tests.support.processes import gone, running
from tests.support.world import World, eventually

KIB = 1024


def storage_of(world: World) -> Path:
    return Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))


@pytest.mark.parametrize("what", ["dataset", "organization"])
def test_tasks_of_a_deleted_dataset_or_organization_end_and_leave_nothing(
    world: World, tmp_path: Path, what: str
) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    dataset.upload("kept.txt", b"x", indexed=False)
    task = dataset.submit("writer", {"folder": "out", "count": 4, "until": str(go)})
    eventually(lambda: len(running(go)) == 1)
    [child] = running(go)
    address = dataset.address if what == "dataset" else f"/orgs/{dataset.org}"

    assert world.admin.delete(address).status_code == 204

    assert world.admin.get(address).status_code == 404
    assert world.admin.get(f"{dataset.address}/tasks/{task}").status_code == 404
    eventually(lambda: gone(child))
    eventually(lambda: not list((storage_of(world) / "work").glob(f"{task}-*")))
    known = {"task_ids": task}
    eventually(lambda: world.admin.get("/tasks", params=known).json()["results"] == [])


def test_members_owner_and_visibility_are_changed_by_permitted_callers(world: World) -> None:
    org = world.org()
    deputy = world.member(org, "admin")
    heir = world.user()
    fields = {"name": "Acme", "description": "Fields", "isPublic": True}
    assert deputy.put(f"/orgs/{org}", json={**fields, "owner": heir}).status_code == 403
    changed = world.admin.put(f"/orgs/{org}", json={**fields, "owner": heir})
    assert (changed.status_code, changed.json()["owner"], changed.json()["isPublic"]) == (200, heir, True)
    members = {m["userName"]: m["permissions"] for m in deputy.get(f"/orgs/{org}/members").json()}
    assert members["admin"] == "admin"
    unknown = world.admin.put(f"/orgs/{org}", json={**fields, "owner": "nobody"})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "no-such-user")


@pytest.fixture(scope="module")
def small(make_stack: StackFactory) -> Iterator[World]:
    """A stack with a storage quota of ten kilobytes per organization."""
    with make_stack(workers=1, max_storage_bytes_per_org=str(10 * KIB)) as made:
        yield made


def test_usage_and_limits_are_shown_to_members(small: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    owner = small.client(small.user())
    dataset = small.dataset(org=small.org(owner=owner, public=True))
    dataset.upload("a/b.bin", b"x" * KIB)
    dataset.client.post(
        f"{dataset.address}/uploads",
        headers={"Tus-Resumable": "1.0.0", "Upload-Length": "500", "Upload-Metadata": "path Yw=="},
    ).raise_for_status()
    made = dataset.run("patient", {"publish": "made"})
    dataset.submit("patient", {"until": str(go)})
    usage = small.member(dataset.org, "readOnly").get(f"/orgs/{dataset.org}/usage").json()
    assert usage == {
        "storageBytes": KIB,
        "uploadBytes": 500,
        "entries": 2,
        "datasets": 1,
        "ownerStorageBytes": KIB + 500,
        "activeTasks": 1,
        "activeTasksOfCaller": 0,
        "artifactBytesDay": made["artifact"]["sizeBytes"] + 1000,
        "limits": {
            "maxStorageBytesPerOrg": 10 * KIB,
            "maxStorageBytesPerUser": None,
            "maxObjectBytes": 100 * KIB**3,
            "maxActiveTasksPerOrg": 1000,
            "maxActiveTasksPerUser": 1000,
            "maxArtifactBytesPerOrgDay": 100 * KIB**3,
        },
    }
    assert small.client(small.user()).get(f"/orgs/{dataset.org}/usage").status_code == 403
    assert small.client().get(f"/orgs/{dataset.org}/usage").status_code == 403
    assert small.client(small.user()).get(f"/orgs/{small.org()}/usage").status_code == 404
    go.touch()


def test_a_task_whose_outputs_exceed_the_quota_fails_and_changes_nothing(small: World) -> None:
    dataset = small.dataset()
    dataset.upload("a.bin", b"x" * (10 * KIB - 20), indexed=False)
    before = {file.name for file in (storage_of(small) / "blobs").rglob("*") if file.is_file()}
    task = dataset.run("writer", {"folder": "out", "count": 3})
    assert (task["state"], task["error"]["code"]) == ("Failed", "storage-quota-exceeded")
    assert "maxStorageBytesPerOrg" in task["error"]["message"]
    assert dataset.paths() == ["a.bin"]
    assert {file.name for file in (storage_of(small) / "blobs").rglob("*") if file.is_file()} == before
    assert dataset.run("writer", {"folder": "out", "count": 2})["state"] == "Succeeded"


def test_an_archive_beyond_the_quota_fails_during_extraction(
    small: World,
) -> None:
    dataset = small.dataset()
    dataset.upload("in.tar.gz", gzip.compress(tarred({"a": bytes(6 * KIB), "b": bytes(6 * KIB)})))
    task = dataset.run("archive-extract", {"sourcePath": "in.tar.gz"})
    assert (task["state"], task["error"]["code"]) == ("Failed", "storage-quota-exceeded")
    assert "The archive's contents need more than" in task["error"]["message"]
    assert dataset.paths() == ["in.tar.gz"]


def test_an_upload_beyond_the_quota_names_the_limit(small: World) -> None:
    dataset = small.dataset()
    refused = dataset.client.put(f"{dataset.address}/obj/a.bin", content=b"x" * (10 * KIB + 1))
    assert (refused.status_code, refused.json()["code"]) == (429, "storage-quota-exceeded")
    assert int(refused.headers["retry-after"]) > 0
    facts = {name: refused.json()[name] for name in ("limitName", "limit", "current", "noRetry")}
    assert facts == {
        "limitName": "maxStorageBytesPerOrg",
        "limit": 10 * KIB,
        "current": 0,
        "noRetry": False,
    }
    assert dataset.paths() == []
