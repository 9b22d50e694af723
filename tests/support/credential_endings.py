"""Ways in which a user's credentials end, each given the user's name and a client that is signed in."""

import httpx
from tests.support.world import PASSWORD, World


def deactivated_and_back(world: World, name: str, _session: httpx.Client) -> None:
    for roles in (["deactivated"], []):
        world.admin.put(f"/users/{name}", json={"roles": roles}).raise_for_status()


def signed_out(_world: World, _name: str, session: httpx.Client) -> None:
    session.post("/users/me/sign-out").raise_for_status()


def password_changed(_world: World, _name: str, session: httpx.Client) -> None:
    new = {"oldPassword": PASSWORD, "newPassword": "another good password"}
    session.put("/users/me/password", json=new).raise_for_status()


def key_revoked(_world: World, _name: str, session: httpx.Client) -> None:
    (key,) = session.get("/users/me/keys").json()
    session.delete(f"/users/me/keys/{key['id']}").raise_for_status()
