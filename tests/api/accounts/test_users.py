"""Users, organizations, members and datasets over HTTP."""

import time
from collections.abc import Callable

import httpx
import jwt
import pytest
from tests.conftest import SECRET
from tests.support.world import PASSWORD, World


def test_login_accepts_json_or_a_form(world: World) -> None:
    body = {"username": "admin", "password": PASSWORD}
    client = world.client()
    for answer in (
        client.post("/users/authenticate", json=body),
        client.post("/users/authenticate", data=body),
    ):
        assert answer.status_code == 200
        assert set(answer.json()) == {"username", "token", "expires"}
        assert answer.json()["expires"].endswith("Z")


@pytest.mark.parametrize(("name", "password"), [("admin", "wrong"), ("nobody-here", PASSWORD), ("", "")])
def test_an_unknown_name_and_a_wrong_password_get_the_same_error(
    world: World, name: str, password: str
) -> None:
    answer = world.client().post("/users/authenticate", json={"username": name, "password": password})
    assert (answer.status_code, answer.json()["code"]) == (401, "bad-credentials")
    assert answer.json()["detail"] == "The user name or the password is wrong."


@pytest.mark.parametrize("body", [{}, {"username": "admin"}, {"username": 1, "password": "x"}])
def test_a_malformed_login_is_refused(world: World, body: dict[str, object]) -> None:
    answer = world.client().post("/users/authenticate", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def test_a_token_can_be_refreshed(world: World) -> None:
    token = world.admin.post("/users/authenticate/refresh").raise_for_status().json()["token"]
    fresh = world.client().get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert fresh.json()["userName"] == "admin"
    assert fresh.json()["roles"] == ["admin"]


def forge(world: World, **changes: object) -> str:
    """The administrator's token with changed claims, signed with the right key."""
    token = world.admin.headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="aerotask")
    return jwt.encode({**claims, **changes}, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda world: forge(world, exp=int(time.time()) - 1), "expired"),
        (lambda world: forge(world, aud="other"), "not valid"),
        (lambda world: forge(world, epoch=99), "revoked"),
        (lambda world: forge(world, sub="01a20276-4687-70c9-8a52-caac30ad7db1"), "revoked"),
        (lambda world: forge(world, sub="admin"), "not valid"),
        (lambda world: jwt.encode({"sub": "x"}, "another key, also long enough to be one"), "not valid"),
        (lambda world: forge(world)[:-4], "not valid"),
    ],
)
def test_an_invalid_token_is_refused(world: World, make: Callable[[World], str], words: str) -> None:
    answer = world.client().get("/users/me", headers={"Authorization": f"Bearer {make(world)}"})
    assert answer.status_code == 401
    assert words in answer.json()["detail"]


def test_only_administrators_manage_users(world: World) -> None:
    user = world.client(world.user())
    body = {"userName": "x", "password": PASSWORD}
    assert user.get("/users").status_code == 403
    assert user.post("/users", json=body).status_code == 403
    assert world.client().post("/users", json=body).status_code == 401


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"userName": "admin"}, 409, "user-name-taken"),
        ({"userName": "../x"}, 400, "invalid-user-name"),
        ({"password": "short"}, 400, "invalid-password"),
        ({"roles": ["king"]}, 400, "unknown-role"),
        ({"extra": 1}, 400, "invalid-request"),
    ],
)
def test_an_invalid_user_is_refused(world: World, changes: dict[str, object], status: int, code: str) -> None:
    answer = world.admin.post("/users", json={"userName": "fresh", "password": PASSWORD, **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_deactivation_revokes_issued_tokens(world: World) -> None:
    name = world.user()
    user = world.client(name)
    assert user.get("/users/me").status_code == 200

    world.admin.put(f"/users/{name}", json={"roles": ["deactivated"]}).raise_for_status()

    assert user.get("/users/me").status_code == 401
    body = {"username": name, "password": PASSWORD}
    assert world.client().post("/users/authenticate", json=body).status_code == 401
    world.admin.put(f"/users/{name}", json={"roles": []}).raise_for_status()
    assert user.get("/users/me").status_code == 401
    assert world.client(name).get("/users/me").status_code == 200


def test_administrators_cannot_lock_themselves_out(world: World) -> None:
    answer = world.admin.put("/users/admin", json={"roles": []})
    assert answer.status_code == 403


def test_users_change_their_own_password(world: World) -> None:
    name = world.user()
    user = world.client(name)
    new = {"oldPassword": PASSWORD, "newPassword": "another good password"}
    wrong = user.put("/users/me/password", json={**new, "oldPassword": "wrong"})
    assert wrong.status_code == 401
    assert user.put("/users/me/password", json=new).status_code == 200
    body = {"username": name, "password": "another good password"}
    assert world.client().post("/users/authenticate", json=body).status_code == 200


def test_the_creator_of_an_organization_owns_it(world: World) -> None:
    name = world.user()
    user = world.client(name)
    slug = world.org(owner=user)
    assert user.get(f"/orgs/{slug}").json()["owner"] == name
    assert slug in {org["slug"] for org in user.get("/orgs").json()}
    assert user.put(f"/orgs/{slug}", json={"name": "New", "isPublic": True}).json()["isPublic"] is True
    assert user.delete(f"/orgs/{slug}").status_code == 204
    assert user.get(f"/orgs/{slug}").status_code == 404


def test_taken_and_invalid_slugs_are_refused(world: World) -> None:
    slug = world.org()
    taken = world.admin.post("/orgs", json={"slug": slug})
    assert (taken.status_code, taken.headers["location"]) == (409, f"/orgs/{slug}")
    for bad in ("A", "a--b", "", "../x", "x" * 129):
        assert world.admin.post("/orgs", json={"slug": bad}).status_code == 400
    dataset = world.dataset(org=slug)
    again = world.admin.post(f"/orgs/{slug}/ds", json={"slug": dataset.slug})
    assert (again.status_code, again.headers["location"]) == (409, dataset.address)


def test_members_have_the_permissions_they_were_given(world: World) -> None:
    dataset = world.dataset()
    upload = f"{dataset.address}/obj/a.txt"

    def codes(client: httpx.Client) -> list[int]:
        return [
            client.get(dataset.address).status_code,
            client.put(upload, content=b"x").status_code,
            client.delete(upload).status_code,
            client.get(f"/orgs/{dataset.org}/members").status_code,
        ]

    assert codes(world.client(world.user())) == [404, 404, 404, 404]
    assert codes(world.member(dataset.org, "readOnly")) == [200, 403, 403, 403]
    assert codes(world.member(dataset.org, "readWrite")) == [200, 201, 403, 403]
    assert codes(world.member(dataset.org, "readWriteDelete")) == [200, 201, 200, 403]
    assert codes(world.member(dataset.org, "admin")) == [200, 201, 200, 200]


def test_members_are_listed_changed_and_removed(world: World) -> None:
    org, name = world.org(), world.user()
    members = f"/orgs/{org}/members"
    world.admin.post(members, json={"userName": name, "permissions": "readOnly"}).raise_for_status()
    world.admin.put(f"{members}/{name}", json={"permissions": "admin"}).raise_for_status()
    assert [(m["userName"], m["permissions"]) for m in world.admin.get(members).json()] == [(name, "admin")]
    assert world.admin.delete(f"{members}/{name}").status_code == 204
    assert world.admin.delete(f"{members}/{name}").status_code == 404
    unknown = world.admin.post(members, json={"userName": "nobody-here", "permissions": "admin"})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "no-such-user")
    king = world.admin.post(members, json={"userName": name, "permissions": "king"})
    assert king.status_code == 400


@pytest.mark.parametrize(
    ("visibility", "status", "listed"),
    [("private", 401, False), ("unlisted", 200, False), ("public", 200, True)],
)
def test_visibility_decides_what_anonymous_callers_may_read(
    world: World, visibility: str, status: int, *, listed: bool
) -> None:
    org = world.org(public=True)
    dataset = world.dataset(org=org, visibility=visibility)
    dataset.upload("a.txt", b"x", indexed=False)
    anonymous = world.client()
    assert anonymous.get(f"{dataset.address}/obj/a.txt").status_code == status
    assert anonymous.put(f"{dataset.address}/obj/b.txt", content=b"x").status_code == (
        401 if status == 401 else 403
    )
    slugs = [found["slug"] for found in anonymous.get(f"/orgs/{org}/ds").json()]
    assert (dataset.slug in slugs) is listed


def test_a_renamed_dataset_keeps_its_tasks_and_entries(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("a.txt", b"x", indexed=False)
    task_id = dataset.submit("nothing")
    dataset.wait(task_id)

    renamed = world.admin.post(f"{dataset.address}/rename", json={"slug": "renamed"})

    assert renamed.json()["slug"] == "renamed"
    new = f"/orgs/{dataset.org}/ds/renamed"
    assert world.admin.get(f"{new}/tasks/{task_id}").json()["state"] == "Succeeded"
    assert world.admin.get(f"{new}/obj/a.txt").content == b"x"
    assert world.admin.get(dataset.address).status_code == 404


def test_a_deleted_dataset_is_gone_with_its_tasks(world: World) -> None:
    dataset = world.dataset()
    dataset.wait(dataset.submit("nothing"))
    assert world.admin.delete(dataset.address).status_code == 204
    assert world.admin.get(f"{dataset.address}/tasks").status_code == 404
