"""Load of the soak test: clients that make random requests and remember what was acknowledged to them."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from tests.support.world import Dataset

# A tool that crashes is part of the load.
TASKS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("nothing", {"label": "x"}),
    ("patient", {"lines": 20, "line_every_s": 0.05, "publish": "artifact"}),
    ("album", {}),
    ("writer", {"folder": "written", "count": 5}),
    ("bulk-download", {}),
    ("segfault", {}),
    ("rescan-index", {}),
)
SIZES_BYTES = (0, 10, 10_000, 500_000)
FILES, ARCHIVES, MEMBERS = 40, 5, 20
PAUSE_S = 0.2
"""Pause of a client after a response or an error that asks it to come back later."""


@dataclass(slots=True)
class SoakClient:
    """One client with a folder of its own in the dataset; it runs until `over` is set."""

    number: int
    dataset: Dataset
    rng: random.Random
    over: threading.Event
    statuses: Counter[str] = field(default_factory=Counter)
    """Responses by status, and errors of the connection by name."""
    accepted: list[str] = field(default_factory=list)
    """Tasks that were answered 202."""
    hashes: dict[str, str | None] = field(default_factory=dict)
    """The hash of each file, None for a deleted one. While a request without an answer may have changed it: missing."""
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Make requests until the test is over."""
        actions = (
            *(self.upload, self.upload, self.submit, self.submit),
            *(self.cancel, self.extract, self.download, self.remove, self.use_dataset_and_delete_it),
        )
        while not self.over.is_set():
            action = self.rng.choice(actions)
            try:
                action()
            except httpx.TransportError as error:
                self.statuses[type(error).__name__] += 1
                self.over.wait(PAUSE_S)

    def upload(self) -> None:
        """Put a file, new or over an old one."""
        path = f"c{self.number}/{self.rng.randrange(FILES)}.bin"
        content = self.rng.randbytes(self.rng.choice(SIZES_BYTES))
        self.hashes.pop(path, None)
        if self._put(self.dataset, path, content):
            self.hashes[path] = hashlib.sha256(content).hexdigest()

    def remove(self) -> None:
        """Delete one of the files."""
        if present := self._present():
            path = self.rng.choice(present)
            del self.hashes[path]
            if self._noted(self.dataset.client.delete(f"{self.dataset.address}/obj/{path}")).is_success:
                self.hashes[path] = None

    def submit(self) -> None:
        """Submit a task."""
        tool, params = self.rng.choice(TASKS)
        self._submit(tool, dict(params), force=self.rng.random() < 0.5)

    def extract(self) -> None:
        """Put an archive and extract it over what the last one left."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number in range(MEMBERS):
                archive.writestr(f"{number}.txt", f"{self.number} {number} {self.rng.random()}")
        path = f"c{self.number}/archive-{self.rng.randrange(ARCHIVES)}.zip"
        if self._put(self.dataset, path, packed.getvalue()):
            params = {"sourcePath": path, "destPath": f"x{self.number}", "overwrite": True}
            self._submit("archive-extract", params)

    def cancel(self) -> None:
        """Cancel one of the last tasks."""
        if self.accepted:
            task_id = self.rng.choice(self.accepted[-20:])
            self._noted(self.dataset.client.post(f"{self.dataset.address}/tasks/{task_id}/cancel"))

    def download(self) -> None:
        """Read one of the files, which must be what was acknowledged."""
        if self.hashes:
            self.check(self.rng.choice(sorted(self.hashes)))

    def use_dataset_and_delete_it(self) -> None:
        """Make a dataset, and delete it while its tasks run; they needn't end."""
        slug = f"gone-{self.number}-{self.rng.randrange(10**9)}"
        body = {"slug": slug, "visibility": "private"}
        if not self._noted(self.dataset.client.post(f"/orgs/{self.dataset.org}/ds", json=body)).is_success:
            return
        short_lived = Dataset(self.dataset.client, self.dataset.org, slug)
        self._put(short_lived, "a.bin", self.rng.randbytes(10_000))
        for tool, params in self.rng.sample(TASKS, 2):
            self._noted(short_lived.try_submit(tool, dict(params)))
        self._noted(short_lived.client.delete(short_lived.address))

    def check_all(self) -> None:
        """Compare every file with what was acknowledged."""
        for path in sorted(self.hashes):
            self.check(path)

    def check(self, path: str) -> None:
        """Compare a file with what was acknowledged."""
        answer = self._noted(self.dataset.client.get(f"{self.dataset.address}/obj/{path}"))
        expected = self.hashes[path]
        if answer.status_code == httpx.codes.NOT_FOUND:
            if expected is not None:
                self.faults.append(f"{path} is gone")
        elif answer.is_success and hashlib.sha256(answer.content).hexdigest() != expected:
            self.faults.append(f"{path} has another content" if expected else f"{path} is there again")

    def _present(self) -> list[str]:
        return sorted(path for path, sha256 in self.hashes.items() if sha256 is not None)

    def _put(self, dataset: Dataset, path: str, content: bytes) -> bool:
        return self._noted(dataset.client.put(f"{dataset.address}/obj/{path}", content=content)).is_success

    def _submit(self, tool: str, params: dict[str, object], **body: object) -> None:
        answer = self._noted(self.dataset.try_submit(tool, params, **body))
        if answer.status_code == httpx.codes.ACCEPTED:
            self.accepted.append(answer.json()["taskId"])

    def _noted(self, answer: httpx.Response) -> httpx.Response:
        self.statuses[str(answer.status_code)] += 1
        if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            self.faults.append(f"{answer.request.method} {answer.request.url.path}: {answer.text[:300]}")
        if answer.status_code in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
            self.over.wait(PAUSE_S)
        return answer
