"""A page of another origin follows a private task by the browser's own EventSource, and reads parts of files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.browser.test_leaflet import browser, messages_of, open_page, serving_files
from tests.support.world import World

__all__ = ["browser"]
PAGE = Path(__file__).with_name("reader.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a site with the page."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(PAGE, folder)
    with serving_files(folder) as url:
        yield url


@pytest.mark.parametrize("by", ["view token", "link"])
def test_a_page_follows_a_private_task_and_reads_ranges(
    world: World, browser: str, site: str, tmp_path: Path, by: str
) -> None:
    dataset = world.dataset()
    dataset.upload("a.bin", b"0123456789", indexed=False)
    task_id = dataset.run("patient", {"lines": 3})["taskId"]
    here = f"{world.stack.address}{dataset.address}/"
    token = dataset.client.post(f"{dataset.address}/view-tokens", json={}).json()["token"]
    ending = f"?token={token}"
    if by == "link":
        made = dataset.client.post(f"{dataset.address}/links", json={"folder": ""}).json()
        here, ending = made["baseUrl"], ""
    asked = {"events": f"{here}tasks/{task_id}/events{ending}", "file": f"{here}obj/a.bin{ending}"}
    page = open_page(browser, f"{site}/reader.html?{urlencode(asked)}", tmp_path / "profile", "--dump-dom")
    messages = messages_of(page)
    assert messages == {
        "state": "read",
        "lines": "4",
        "task": "Succeeded",
        "status": "206",
        "range": "bytes 0-1/10",
        "etag": messages["etag"],
        "bytes": "2",
    }
    assert messages["etag"].startswith("&quot;")


def test_a_page_without_a_token_is_refused(world: World, browser: str, site: str, tmp_path: Path) -> None:
    dataset = world.dataset()
    task_id = dataset.run("nothing")["taskId"]
    asked = {"events": f"{world.stack.address}{dataset.address}/tasks/{task_id}/events", "file": ""}
    page = open_page(browser, f"{site}/reader.html?{urlencode(asked)}", tmp_path / "profile", "--dump-dom")
    assert messages_of(page) == {"state": "refused"}
