"""A caller's own tasks in all datasets, and all tasks for administrators."""

import uuid

import httpx
from tests.support.served import served
from tests.support.world import Dataset, World

from aerotask.config import Settings


def own(client: httpx.Client, **params: object) -> dict[str, object]:
    return dict(client.get("/tasks", params=params).raise_for_status().json())  # type: ignore[arg-type]


def ids(page: dict[str, object]) -> list[str]:
    return [task["taskId"] for task in page["results"]]  # type: ignore[attr-defined]


def test_a_caller_sees_their_own_tasks_of_every_dataset_newest_first(world: World) -> None:
    here = world.dataset()
    member = world.member(here.org, "readOnly")
    there = world.dataset(org=here.org)
    first = here.seen_by(member).submit("nothing")
    second = there.seen_by(member).submit("nothing")
    here.submit("nothing", {"label": "the administrator's"})

    page = own(member)

    assert (page["count"], page["next"], page["previous"]) == (2, None, None)
    assert ids(page) == [second, first]
    assert [(task["orgSlug"], task["dsSlug"]) for task in page["results"]] == [  # type: ignore[attr-defined]
        (there.org, there.slug),
        (here.org, here.slug),
    ]


def test_pages_link_to_each_other(world: World) -> None:
    dataset = world.dataset()
    member = dataset.seen_by(world.member(dataset.org, "readOnly"))
    tasks = [member.submit("nothing", {"label": str(number)}) for number in range(3)]
    first = own(member.client, take=2)
    assert (first["count"], first["next"], first["previous"]) == (3, "/tasks?skip=2&take=2", None)
    last = dict(member.client.get(str(first["next"])).json())
    assert (ids(last), last["next"], last["previous"]) == ([tasks[0]], None, "/tasks?skip=0&take=2")


def test_unknown_ids_and_ids_of_others_are_ignored(world: World) -> None:
    dataset = world.dataset()
    member = dataset.seen_by(world.member(dataset.org, "readOnly"))
    mine, theirs = member.submit("nothing"), dataset.submit("nothing", {"label": "2"})
    assert ids(own(member.client, task_ids=[mine, theirs, str(uuid.uuid4())])) == [mine]
    assert own(member.client, task_ids=[theirs])["count"] == 0


def test_invalid_ids_are_400(world: World) -> None:
    assert world.admin.get("/tasks", params={"task_ids": "x"}).status_code == 400
    many = [str(uuid.uuid4()) for _ in range(201)]
    assert world.admin.get("/tasks", params={"task_ids": many}).status_code == 400
    assert len(ids(own(world.admin, task_ids=many[:200]))) == 0


def test_tasks_are_not_listed_after_losing_read_access(world: World) -> None:
    dataset = world.dataset()
    member = world.member(dataset.org, "readOnly")
    task = dataset.seen_by(member).submit("nothing")
    name = member.get("/users/me").json()["userName"]
    world.admin.delete(f"/orgs/{dataset.org}/members/{name}").raise_for_status()
    assert own(member)["count"] == 0
    dataset.client.put(dataset.address, json={"visibility": "public"}).raise_for_status()
    assert ids(own(member)) == [task]


async def test_tasks_of_a_deleted_dataset_are_not_listed(settings: Settings) -> None:
    async with served(settings) as api:  # without a worker, so that the rows stay
        here = "/orgs/acme/ds/acme"
        (await api.client.put(f"{here}/obj/a.txt", content=b"x")).raise_for_status()
        (await api.client.post(f"{here}/tasks", json={"toolId": "bulk-download"})).raise_for_status()

        async def counts() -> tuple[int, int, int]:
            mine = await api.client.get("/tasks")
            everybodys = await api.client.get("/sys/tasks")
            named = await api.client.get("/sys/tasks", params={"orgSlug": "acme"})
            return mine.json()["count"], everybodys.json()["total"], len(named.json()["items"])

        assert await counts() == (1, 1, 1)
        (await api.client.delete(here)).raise_for_status()
        assert await counts() == (0, 0, 0)


def test_anonymous_callers_have_no_tasks_of_their_own(world: World) -> None:
    assert world.client().get("/tasks").status_code == 401


def test_owners_are_filtered_by_name_or_id(world: World) -> None:
    dataset: Dataset = world.dataset()
    member = dataset.seen_by(world.member(dataset.org, "readOnly"))
    mine = member.submit("nothing")
    dataset.submit("nothing", {"label": "2"})
    [found] = world.admin.get("/sys/tasks", params={"orgSlug": dataset.org, "take": 200}).json()["items"][1:]
    assert found["taskId"] == mine
    for ref in (found["owner"], found["userId"]):
        for address in (f"{dataset.address}/tasks", "/sys/tasks"):
            listed = world.admin.get(address, params={"userId": ref}).json()
            items = listed if isinstance(listed, list) else listed["items"]
            assert [task["taskId"] for task in items] == [mine]
