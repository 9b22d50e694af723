"""A running stack as its users see it: accounts, datasets, uploads, tasks, all over HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from aerotask.stack.stack import Stack
from aerotask.stack.waiting import await_condition

PASSWORD = "a long enough password"
ENDED = frozenset({"Succeeded", "Failed", "Deleted"})
TIMEOUT_S = 60.0


def eventually(condition: Callable[[], bool], *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until the condition holds.

    Raises:
        TimeoutError: it doesn't in time.
    """
    if not await_condition(condition, timeout_s=timeout_s):
        raise TimeoutError(f"not so after {timeout_s} s")


@dataclass(slots=True)
class World:
    """A running stack with its clients."""

    stack: Stack
    admin: httpx.Client = field(init=False)
    _clients: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.admin = self.client("admin")
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.close()

    def client(self, user_name: str | None = None) -> httpx.Client:
        """An API client, signed in if a user is given."""
        client = self._clients.enter_context(
            httpx.Client(base_url=self.stack.address, timeout=60, trust_env=False)
        )
        if user_name is not None:
            body = {"username": user_name, "password": PASSWORD}
            token = client.post("/users/authenticate", json=body).raise_for_status().json()["token"]
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    def user(self, *, roles: tuple[str, ...] = ()) -> str:
        """A new user's name."""
        name = f"user-{secrets.token_hex(4)}"
        body = {"userName": name, "password": PASSWORD, "roles": list(roles)}
        self.admin.post("/users", json=body).raise_for_status()
        return name

    def org(self, *, owner: httpx.Client | None = None, public: bool = False) -> str:
        """A new organization's slug."""
        slug = f"org-{secrets.token_hex(4)}"
        body = {"slug": slug, "isPublic": public}
        (owner or self.admin).post("/orgs", json=body).raise_for_status()
        return slug

    def dataset(self, *, org: str | None = None, visibility: str = "private") -> Dataset:
        """A new dataset of the administrator, in a new organization if none is given."""
        org = org or self.org()
        slug = f"ds-{secrets.token_hex(4)}"
        body = {"slug": slug, "visibility": visibility}
        self.admin.post(f"/orgs/{org}/ds", json=body).raise_for_status()
        return Dataset(self.admin, org, slug)

    def member(self, org: str, permissions: str) -> httpx.Client:
        """A client of a new user with these permissions in the organization."""
        name = self.user()
        body = {"userName": name, "permissions": permissions}
        self.admin.post(f"/orgs/{org}/members", json=body).raise_for_status()
        return self.client(name)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as one client uses it."""

    client: httpx.Client
    org: str
    slug: str

    @property
    def address(self) -> str:
        """The dataset's address."""
        return f"/orgs/{self.org}/ds/{self.slug}"

    def seen_by(self, client: httpx.Client) -> Dataset:
        """The same dataset through another client."""
        return Dataset(client, self.org, self.slug)

    def upload(self, path: str, content: bytes | Path, *, indexed: bool = True) -> dict[str, Any]:
        """Upload a file, and by default wait until it is indexed."""
        body = content.read_bytes() if isinstance(content, Path) else content
        entry = self.client.put(f"{self.address}/obj/{path}", content=body).raise_for_status().json()
        if indexed:
            eventually(lambda: self.entry(path)["indexed"])
            entry = self.entry(path)
        return dict(entry)

    def entry(self, path: str) -> dict[str, Any]:
        """The entry of a file."""
        answer = self.client.get(f"{self.address}/list", params={"path": path})
        return dict(answer.raise_for_status().json()[0])

    def paths(self) -> list[str]:
        """The paths of all entries."""
        answer = self.client.get(f"{self.address}/list", params={"recursive": "true"})
        return [entry["path"] for entry in answer.raise_for_status().json()]

    def try_submit(self, tool: str, params: dict[str, Any] | None = None, **body: Any) -> httpx.Response:
        """Submit a task; the response, whatever its status."""
        return self.client.post(
            f"{self.address}/tasks", json={"toolId": tool, "params": params or {}, **body}
        )

    def submit(self, tool: str, params: dict[str, Any] | None = None, **body: Any) -> str:
        """Submit a task; its id."""
        answer = self.try_submit(tool, params, **body).raise_for_status()
        return str(answer.json()["taskId"])

    def status(self, task_id: str) -> dict[str, Any]:
        """A task's status."""
        answer = self.client.get(f"{self.address}/tasks/{task_id}").raise_for_status()
        return dict(answer.json())

    def wait(self, task_id: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """Wait until the task has ended; its status."""
        eventually(lambda: self.status(task_id)["state"] in ENDED, timeout_s=timeout_s)
        return self.status(task_id)

    def run(self, tool: str, params: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
        """Submit a task and wait until it has ended; its status."""
        return self.wait(self.submit(tool, params, **body))

    def log(self, task_id: str) -> list[str]:
        """All lines of a task's log."""
        answer = self.client.get(f"{self.address}/tasks/{task_id}/log").raise_for_status()
        return list(answer.json()["lines"])
