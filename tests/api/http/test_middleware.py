"""Security headers, request limits, proxies and CORS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import orjson
from tests.support.served import Served, served

from aerotask.config import Settings

ADDRESSES = ["/", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/openapi.json", "/healthz"]
OVER_TLS = {"X-Forwarded-Proto": "https"}
ADDRESSES += ["/users/me", "/orgs", "/orgs/none", "/no/such/route", "/orgs/acme/ds/acme/tasks"]


def changed(settings: Settings, **changes: object) -> Settings:
    return Settings.model_validate({**settings.model_dump(), **changes})


async def test_every_response_has_the_security_headers(settings: Settings) -> None:
    asks = {"Origin": "https://map.example", "Access-Control-Request-Method": "PUT"}
    async with served(settings) as api:
        assert (await api.client.options("/orgs", headers=asks)).status_code == 405
        assert "strict-transport-security" not in (await api.client.get("/healthz", headers=OVER_TLS)).headers
        for address in ADDRESSES:
            answer = await api.client.get(address)
            assert answer.headers["x-content-type-options"] == "nosniff", address
            assert answer.headers["referrer-policy"] == "no-referrer", address
            assert answer.headers["x-frame-options"] == "DENY", address
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], address
            assert "server" not in answer.headers, address
            assert "access-control-allow-origin" not in answer.headers, address
        assert "default-src 'none'" in (await api.client.get("/users/me")).headers["content-security-policy"]


async def test_the_documentation_page_works_under_its_policy(settings: Settings) -> None:
    async with served(settings) as api:
        page = await api.client.get("/docs")
        policy = page.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "default-src 'self'" in policy[0]
        assert "unsafe-eval" not in policy[0]
        scripts = policy[0].partition("script-src")[2].partition(";")[0]
        assert "unsafe-inline" not in scripts
        assert "<script>" not in page.text
        for part in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert (await api.client.get(f"/docs/assets/{part}")).status_code == 200


async def test_hsts_is_sent_only_over_tls(settings: Settings) -> None:
    async with served(changed(settings, trusted_proxies="127.0.0.1")) as api:
        assert "strict-transport-security" in (await api.client.get("/healthz", headers=OVER_TLS)).headers
        assert "strict-transport-security" not in (await api.client.get("/healthz")).headers


async def failed_from(api: Served, *addresses: str) -> list[int]:
    body = {"username": "admin", "password": "wrong"}
    statuses = []
    for address in addresses:
        headers = {"X-Forwarded-For": address}
        answer = await api.client.post("/users/authenticate", json=body, headers=headers)
        statuses.append(answer.status_code)
    return statuses


async def test_forwarded_addresses_of_untrusted_clients_are_ignored(settings: Settings) -> None:
    limited = changed(settings, max_failed_sign_ins_per_address=2, max_failed_sign_ins_per_account=100)
    async with served(limited) as api:  # forwarded addresses are forged here; only the peer's counts
        assert await failed_from(api, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [401, 401, 429]


async def test_clients_behind_a_trusted_proxy_count_separately(settings: Settings) -> None:
    limited = changed(
        settings,
        trusted_proxies="127.0.0.0/8, 10.0.0.0/8",
        max_failed_sign_ins_per_address=2,
        max_failed_sign_ins_per_account=100,
    )
    async with served(limited) as api:
        assert await failed_from(api, "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2") == [
            *(401, 401, 429),
            401,
        ]
        # Entries that the client sent itself stand left of those of the proxies.
        assert await failed_from(api, "192.0.2.77, 192.0.2.1, 10.0.0.5") == [429]


async def test_429_names_the_limit_and_the_retry_time(settings: Settings) -> None:
    async with served(changed(settings, max_failed_sign_ins_per_account=1)) as api:
        body = {"username": "nobody-here", "password": "wrong"}
        await api.client.post("/users/authenticate", json=body)
        answer = await api.client.post("/users/authenticate", json=body)
        problem = answer.json()
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 300
        assert problem["noRetry"] is False
        assert (problem["code"], problem["limitName"], problem["limit"], problem["current"]) == (
            "too-many-sign-ins",
            "failedSignInsPerAccount",
            1,
            1,
        )


async def test_other_origins_can_call_the_api_only_if_configured(settings: Settings) -> None:
    asks = {"Origin": "https://map.example", "Access-Control-Request-Method": "PUT"}
    async with served(changed(settings, cors_origins="https://map.example")) as api:
        allowed = await api.client.options("/orgs", headers=asks)
        assert allowed.headers["access-control-allow-origin"] == "https://map.example"
        assert "access-control-allow-credentials" not in allowed.headers
        other = await api.client.get("/orgs", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["x-content-type-options"] == "nosniff"


REFUSED: list[tuple[str, dict[str, str], int, str]] = [
    ("/orgs?q=" + "x" * 17_000, {}, 414, "url-too-long"),
    ("/orgs", {f"x-{number}": "y" * 4000 for number in range(10)}, 431, "headers-too-large"),
    ("/orgs?slug=a%00b", {}, 400, "invalid-request"),
    ("/orgs/a%00b", {}, 400, "invalid-request"),
    ("/users/me", {"Authorization": "Bearer " + "x" * 20_000}, 401, "bad-credentials"),
    ("/users/me", {"Authorization": "Bearer a.b.c"}, 401, "bad-credentials"),
    ("/users/me", {"Authorization": "Bearer atk_" + "x" * 5000}, 401, "bad-credentials"),
    ("/users/me", {"Authorization": "Basic eDp5"}, 401, "bad-credentials"),
]


async def test_urls_and_headers_that_are_too_long_or_malformed_get_an_error(settings: Settings) -> None:
    async with served(settings) as api:
        for address, headers, status, code in REFUSED:
            answer = await api.client.get(address, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), address
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_endless_head_is_cut_off(settings: Settings) -> None:
    async with served(settings) as api:
        port = httpx.URL(str(api.client.base_url)).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        sent = 0
        try:
            while sent < 64 * 2**20 and not reader.at_eof():
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()
        assert sent < 64 * 2**20
        assert (await api.client.get("/healthz")).status_code == 200


CHUNKED = b"POST /users/authenticate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_endless_trailers_are_cut_off(settings: Settings) -> None:
    async with served(settings) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
        writer.write(CHUNKED + b"2\r\n{}\r\n0\r\n")
        sent = 0
        try:
            while sent < 16 * 2**20 and not reader.at_eof():
                writer.write(b"a: xxxx\r\n" * 8192)
                await writer.drain()
                sent += 9 * 8192
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        finally:
            writer.close()
        assert sent < 16 * 2**20
        assert (await api.client.get("/healthz")).status_code == 200


async def test_a_long_chunked_body_does_not_count_as_head(settings: Settings) -> None:
    async with served(changed(settings, max_body_bytes=2**21)) as api:
        padded = [b'{"username": "admin", "password": "wrong"}', *[b" " * 16384] * 64]

        async def pieces() -> AsyncIterator[bytes]:
            for piece in padded:
                yield piece

        answer = await api.client.post(
            "/users/authenticate", content=pieces(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 401


async def test_a_trailer_never_becomes_a_header(settings: Settings) -> None:
    limited = changed(
        settings,
        trusted_proxies="127.0.0.0/8",
        max_failed_sign_ins_per_address=2,
        max_failed_sign_ins_per_account=100,
    )
    body = b'{"username": "admin", "password": "wrong"}'
    async with served(limited) as api:
        statuses = []
        for number in range(3):
            trailer = b"X-Forwarded-For: 192.0.2.%d\r\n\r\n" % number
            reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
            writer.write(CHUNKED + b"%x\r\n%b\r\n0\r\n%b" % (len(body), body, trailer))
            statuses.append((await reader.readline())[9:12])
            writer.close()
        assert statuses == [b"401", b"401", b"429"]


async def test_malformed_http_gets_a_problem_document(settings: Settings) -> None:
    async with served(settings) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
        writer.write(b"GET / NONSENSE\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert orjson.loads(body)["code"] == "malformed-http"


# The request's head without its first line, and the status of the response.
HEADS: list[tuple[bytes, bytes, bytes]] = [
    (b"1.1", b"Host: a.example\r\n", b"200"),
    (b"1.1", b"Host: [::1]:8000\r\n", b"200"),
    (b"1.1", b"", b"400"),
    (b"1.1", b"Host: a.example\r\nHost: a.example\r\n", b"400"),
    (b"1.1", b"Host: a.example\r\nhost: b.example\r\n", b"400"),
    (b"1.1", b"Host:\r\n", b"400"),
    (b"1.1", b"Host: a.example/x?\r\n", b"400"),
    (b"1.1", b"Host: a@b.example\r\n", b"400"),
    (b"1.0", b"", b"200"),
    (b"1.0", b"Host: a\r\nHost: b\r\n", b"400"),
]


async def test_a_request_names_exactly_one_host(settings: Settings) -> None:
    async with served(settings) as api:
        answers = []
        for version, host, _status in HEADS:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.client.base_url.port)
            writer.write(b"GET /healthz HTTP/%b\r\n%bConnection: close\r\n\r\n" % (version, host))
            answers.append(await reader.read())
            writer.close()
        assert [answer[9:12] for answer in answers] == [status for _, _, status in HEADS]
        refused = [answer.partition(b"\r\n\r\n")[2] for answer in answers if answer[9:12] == b"400"]
        assert {orjson.loads(body)["code"] for body in refused} == {"invalid-host"}


async def test_requests_on_one_connection_are_limited_separately(settings: Settings) -> None:
    async with served(settings) as api:
        body = {"username": "admin", "password": "x" * 1000}
        for _ in range(3):
            for _ in range(100):
                assert (await api.client.get("/healthz", headers={"x-pad": "y" * 3000})).status_code == 200
            assert (await api.client.post("/users/authenticate", json=body)).status_code == 401


async def test_a_url_that_is_not_utf8_is_refused(settings: Settings) -> None:
    async with served(settings) as api:
        here = "/orgs/acme/ds/acme"
        # With replacement characters both would decode to the same entry.
        for name in ("a%ff.txt", "a%fe.txt"):
            answer = await api.client.put(f"{here}/obj/{name}", content=b"x")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
        assert (await api.client.get(f"{here}/list?path=a%ff.txt")).status_code == 400
        assert (await api.client.put(f"{here}/obj/a%EF%BF%BD.txt", content=b"x")).status_code == 201


async def test_the_error_for_a_download_url_that_is_too_long_says_what_to_do(settings: Settings) -> None:
    async with served(settings) as api:
        named = {"path": [f"flights/2026-11-24/DJI_{number:06}.JPG" for number in range(600)]}
        answer = await api.client.get("/orgs/acme/ds/acme/download", params=named)
        assert (answer.status_code, answer.json()["code"]) == (414, "url-too-long")
        assert "submit a download task" in answer.json()["detail"]
        assert (
            "submit a download task" not in (await api.client.get("/orgs?" + "x" * 20_000)).json()["detail"]
        )


async def test_a_pointer_escapes_special_characters_of_keys(settings: Settings) -> None:
    async with served(settings) as api:
        answer = await api.client.post("/orgs", json={"slug": "b", "a/b~c": 1})
        assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/body/a~1b~0c"]
