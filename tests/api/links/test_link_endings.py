"""When links end: revoked, expired, with their maker's rights and credentials, and with their target."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.api.links.conftest import Site
from tests.support.credential_endings import deactivated_and_back, key_revoked, password_changed, signed_out
from tests.support.world import Dataset, World, eventually


def gone(client: httpx.Client, url: str) -> bool:
    answer = client.get(url)
    if answer.status_code == 200:
        return False
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-link")
    return True


def link_to(dataset: Dataset, maker: httpx.Client, **body: object) -> dict[str, str]:
    answer = maker.post(f"{dataset.address}/links", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.fixture
def dataset(world: World) -> Dataset:
    made = world.dataset()
    for path in ("a/one.txt", "a/two.txt"):
        made.upload(path, path.encode(), indexed=False)
    return made


def test_an_expired_link_opens_nothing(site: Site) -> None:
    url = site.link(path="notes.md", ttlS=1)["url"]
    eventually(lambda: gone(site.anonymous, url))


def test_a_revoked_link_opens_nothing_at_once(site: Site) -> None:
    made = site.link(path="notes.md")
    assert not gone(site.anonymous, made["url"])
    answer = site.dataset.client.delete(f"{site.dataset.address}/links/{made['id']}")
    assert answer.status_code == 204
    assert gone(site.anonymous, made["url"])


def deleted(world: World, name: str, _session: httpx.Client) -> None:
    world.admin.delete(f"/users/{name}").raise_for_status()


@pytest.mark.parametrize("end", [deactivated_and_back, deleted, signed_out, password_changed, key_revoked])
def test_a_link_ends_with_the_credentials_that_created_it(
    world: World, dataset: Dataset, end: Callable[[World, str, httpx.Client], None]
) -> None:
    session, anonymous = world.member(dataset.org, "readOnly"), world.client()
    name = session.get("/users/me").json()["userName"]
    program = world.client()
    key = session.post("/users/me/keys", json={"name": "links"}).raise_for_status().json()["key"]
    program.headers["Authorization"] = f"Bearer {key}"
    url = link_to(dataset, program if end is key_revoked else session, path="a/one.txt")["url"]
    assert not gone(anonymous, url)
    end(world, name, session)
    assert gone(anonymous, url)


def test_a_link_ends_when_its_maker_is_no_member_any_more(world: World, dataset: Dataset) -> None:
    member, anonymous = world.member(dataset.org, "readWrite"), world.client()
    url = link_to(dataset, member, path="a/one.txt")["url"]
    name = member.get("/users/me").json()["userName"]
    assert not gone(anonymous, url)
    world.admin.delete(f"/orgs/{dataset.org}/members/{name}").raise_for_status()
    assert gone(anonymous, url)


def test_a_strangers_link_to_a_public_dataset_ends_when_it_becomes_private(world: World) -> None:
    dataset = world.dataset(visibility="public")
    dataset.upload("a.txt", b"x", indexed=False)
    url = link_to(dataset, world.client(world.user()), folder="")["url"]
    assert not gone(world.client(), url)
    body = {"name": "x", "visibility": "private"}
    world.admin.put(dataset.address, json=body).raise_for_status()
    assert gone(world.client(), url)


def test_an_administrators_link_ends_with_that_role(world: World, dataset: Dataset) -> None:
    name = world.user(roles=("admin",))
    url = link_to(dataset, world.client(name), path="a/one.txt")["url"]
    assert not gone(world.client(), url)
    world.admin.put(f"/users/{name}", json={"roles": []}).raise_for_status()
    assert gone(world.client(), url)


def entry_removed(dataset: Dataset) -> None:
    dataset.client.delete(f"{dataset.address}/obj/a/one.txt").raise_for_status()


def entry_removed_and_put_again(dataset: Dataset) -> None:
    entry_removed(dataset)
    dataset.upload("a/one.txt", b"another one", indexed=False)


def entry_renamed(dataset: Dataset) -> None:
    move(dataset, "a/one.txt", "a/new.txt")


def folder_renamed(dataset: Dataset) -> None:
    move(dataset, "a", "b")


def another_moved_there(dataset: Dataset) -> None:
    entry_removed(dataset)
    move(dataset, "a/two.txt", "a/one.txt")


def dataset_deleted(dataset: Dataset) -> None:
    dataset.client.delete(dataset.address).raise_for_status()


def move(dataset: Dataset, source: str, dest: str) -> None:
    body = {"source": source, "dest": dest}
    dataset.client.put(f"{dataset.address}/obj", json=body).raise_for_status()


@pytest.mark.parametrize(
    "end",
    [
        entry_removed,
        entry_removed_and_put_again,
        entry_renamed,
        folder_renamed,
        another_moved_there,
        dataset_deleted,
    ],
)
def test_a_link_to_a_file_ends_with_the_file(
    world: World, dataset: Dataset, end: Callable[[Dataset], None]
) -> None:
    made = link_to(dataset, dataset.client, path="a/one.txt")
    anonymous = world.client()
    assert anonymous.get(made["url"]).content == b"a/one.txt"
    end(dataset)
    for path in ("obj/a/one.txt", "obj/a/new.txt", "obj/b/one.txt", "list", "build/a/one.txt"):
        assert gone(anonymous, made["baseUrl"] + path), path


def test_a_link_to_a_folder_ends_with_the_folder(world: World, dataset: Dataset) -> None:
    made = link_to(dataset, dataset.client, folder="a")
    folder_renamed(dataset)
    dataset.upload("a/one.txt", b"in another folder", indexed=False)
    for path in ("obj/a/one.txt", "obj/b/one.txt", "list"):
        assert gone(world.client(), made["baseUrl"] + path), path


def test_a_link_goes_on_with_new_content_of_the_file_and_a_new_name_of_the_dataset(
    world: World, dataset: Dataset
) -> None:
    url = link_to(dataset, dataset.client, path="a/one.txt")["url"]
    dataset.upload("a/one.txt", b"new", indexed=False)
    assert world.client().get(url).content == b"new"
    new_slug = f"{dataset.slug}-2"
    dataset.client.post(f"{dataset.address}/rename", json={"slug": new_slug}).raise_for_status()
    assert world.client().get(url).content == b"new"


def test_a_link_to_a_task_ends_when_the_task_is_cleared(world: World, dataset: Dataset) -> None:
    task_id = dataset.run("nothing")["taskId"]
    url = f"{link_to(dataset, dataset.client, taskId=task_id)['baseUrl']}tasks/{task_id}"
    assert world.client().get(url).status_code == 200
    dataset.client.post(f"{dataset.address}/tasks/clear").raise_for_status()
    assert world.client().get(url).status_code == 404


def test_a_running_stream_ends_when_its_link_is_revoked(
    world: World, dataset: Dataset, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    task_id = dataset.submit("patient", {"until": str(go), "lines": 3})
    eventually(lambda: dataset.status(task_id)["state"] == "Processing")
    made = link_to(dataset, dataset.client, taskId=task_id)
    with world.client().stream("GET", f"{made['baseUrl']}tasks/{task_id}/events") as response:
        lines = response.iter_lines()
        next(lines)
        dataset.client.delete(f"{dataset.address}/links/{made['id']}").raise_for_status()
        go.touch()
        rest = "\n".join(lines)
    assert "event: end" not in rest
    assert "line 2" not in rest
    assert dataset.wait(task_id)["state"] == "Succeeded"
