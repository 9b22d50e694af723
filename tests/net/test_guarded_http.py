"""The guarded HTTP client against real servers: which addresses it connects to, and what it reads."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest
import trustme
from tests.support.receiver import running_receiver

from aerotask.domain.errors import InvalidInput
from aerotask.net.addresses import Address, WebAddress
from aerotask.net.guarded_http import MAX_JSON_BYTES, GuardedClient, PostResult, RequestFailed, Resolver

BODY = b'{"state":"Succeeded"}'
PRIVATE = PostResult(None, "The host leads to an address that is private, local or reserved.")


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver(threads=2)
    yield made
    made.close()


class Names:
    """A resolver with fixed answers, which counts its look-ups."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = answers
        self.lookups = 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.lookups += 1
        return [ip_address(address) for address in self.answers[min(self.lookups, len(self.answers)) - 1]]


def client(resolve: Names | Resolver, *, allow_private: bool = True, timeout_s: float = 10) -> GuardedClient:
    return GuardedClient(
        timeout_s=timeout_s, allow_private=allow_private, tls=ssl.create_default_context(), resolve=resolve
    )


def address(host: str, port: int, target: str = "/hook", scheme: str = "http") -> WebAddress:
    return WebAddress(scheme, host, port, target)


async def test_a_post_arrives_with_its_body_headers_and_full_url() -> None:
    with running_receiver() as receiver:
        url = address("hooks.example", receiver.port, "/a;b/c?d=e&f")
        result = await client(Names(["127.0.0.1"])).post(url, {"X-Test": "1"}, BODY)
        assert result == PostResult(204, None)
        [request] = receiver.received
        assert (request.path, request.body) == ("/a;b/c?d=e&f", BODY)
        assert request.headers["x-test"] == "1"
        assert request.headers["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["::1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"]])
async def test_a_name_with_a_private_address_is_refused_before_connecting(
    answers: list[str],
) -> None:
    with running_receiver() as receiver:
        names = Names(answers)
        url = address("hooks.example", receiver.port)
        assert await client(names, allow_private=False).post(url, {}, BODY) == PRIVATE
        assert (receiver.received, names.lookups) == ([], 1)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "::1", "0"])
async def test_hosts_that_the_system_resolves_to_private_addresses_are_refused(
    host: str, resolver: Resolver
) -> None:
    with running_receiver() as receiver:
        url = address(host, receiver.port)
        assert await client(resolver, allow_private=False).post(url, {}, BODY) == PRIVATE
        assert receiver.received == []


async def test_a_name_is_resolved_once_and_the_checked_address_is_used() -> None:
    """DNS rebinding: a name server that answers differently the second time is asked only once."""
    with running_receiver() as receiver:
        names = Names(["127.0.0.99"], ["127.0.0.1"])  # the receiver listens on the latter only
        result = await client(names).post(address("hooks.example", receiver.port), {}, BODY)
        assert (result.status, receiver.received) == (None, [])
        assert names.lookups == 1


async def test_the_next_address_is_tried_when_one_refuses_the_connection() -> None:
    with running_receiver() as receiver:
        names = Names(["127.0.0.99", "127.0.0.1"])  # the receiver listens on the latter only
        assert (await client(names).post(address("x.example", receiver.port), {}, BODY)).status == 204


async def test_a_redirect_is_not_followed() -> None:
    with (
        running_receiver() as target,
        running_receiver(307, location=f"http://127.0.0.1:{target.port}/") as first,
    ):
        result = await client(Names(["127.0.0.1"])).post(address("x.example", first.port), {}, BODY)
        assert result == PostResult(307, "The receiver answered 307. Redirects are not followed.")
        assert target.received == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_receiver() as proxy, running_receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await client(Names(["127.0.0.1"])).post(address("x.example", receiver.port), {}, BODY)
        assert (len(receiver.received), proxy.received) == (1, [])


async def test_a_receiver_that_hangs_times_out() -> None:
    with running_receiver() as receiver:
        receiver.hanging.set()
        result = await client(Names(["127.0.0.1"]), timeout_s=0.3).post(
            address("x.example", receiver.port), {}, BODY
        )
        assert result == PostResult(None, "There was no answer within 0.3 s.")


async def test_a_resolver_that_hangs_times_out() -> None:
    class Hanging(Names):
        async def __call__(self, host: str, port: int) -> list[Address]:
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
            return []

    result = await client(Hanging(), timeout_s=0.1).post(address("x.example", 80), {}, BODY)
    assert result == PostResult(None, "There was no answer within 0.1 s.")


async def test_an_unknown_name_is_reported(resolver: Resolver) -> None:
    class Unknown(Names):
        async def __call__(self, host: str, port: int) -> list[Address]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    result = await client(Unknown()).post(address("x.example", 80), {}, BODY)
    assert result == PostResult(None, "The host's name can't be resolved.")


async def test_a_port_without_a_listener_is_reported() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        result = await client(Names(["127.0.0.1"])).post(
            address("x.example", silent.getsockname()[1]), {}, BODY
        )
    assert result == PostResult(None, "The host takes no connection.")


def flood(listener: socket.socket, chunk: bytes, sent: list[int]) -> None:
    """Accept one connection and send the chunk repeatedly until the client hangs up."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        try:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" if b"\n" not in chunk else b""
            )
            while sum(sent) < 500_000_000:
                connection.sendall(chunk)
                sent.append(len(chunk))
        except OSError:
            return


@pytest.mark.parametrize(
    ("chunk", "status"),
    [(b"x" * 65536, 200), (b"no HTTP at all\r\n" * 4096, None), (b"HTTP/1.1 100 \r\n\r\n", None)],
)
async def test_an_endless_response_is_not_read(chunk: bytes, status: int | None) -> None:
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=flood, args=(listener, chunk, sent))
        thread.start()
        port = listener.getsockname()[1]
        result = await client(Names(["127.0.0.1"]), timeout_s=2).post(address("x.example", port), {}, BODY)
        thread.join()
    assert result.status == status
    assert sum(sent) < 20_000_000  # no more than fits into the buffers of both sides


async def test_tls_verifies_the_name_while_connecting_to_an_address() -> None:
    authority = trustme.CA()
    served, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hooks.example").configure_cert(served)
    authority.configure_trust(trusted)
    with running_receiver(tls=served) as receiver:
        sender = GuardedClient(timeout_s=10, allow_private=True, tls=trusted, resolve=Names(["127.0.0.1"]))
        right = await sender.post(address("hooks.example", receiver.port, scheme="https"), {}, BODY)
        wrong = await sender.post(address("other.example", receiver.port, scheme="https"), {}, BODY)
        assert right == PostResult(204, None)
        assert wrong.status is None
        assert (wrong.error or "").startswith("The host's certificate isn't accepted: Hostname mismatch")
        assert "not valid for 'other.example'" in (wrong.error or "")
        assert "_ssl.c" not in (wrong.error or "")
        assert len(receiver.received) == 1


async def test_tls_rejects_a_self_signed_certificate() -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("hooks.example").configure_cert(served)
    with running_receiver(tls=served) as receiver:
        url = address("hooks.example", receiver.port, scheme="https")
        result = await client(Names(["127.0.0.1"])).post(url, {}, BODY)
        assert (result.error or "").startswith("The host's certificate isn't accepted: ")
        assert "_ssl.c" not in (result.error or "")
        assert receiver.received == []


@contextmanager
def serving(response: bytes) -> Iterator[int]:
    """A server that answers one request with these bytes."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(response)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_json_is_read() -> None:
    with serving(ok(b'{"keys":[]}')) as port:
        assert await client(Names(["127.0.0.1"])).get_json(f"http://x.example:{port}/jwks") == {"keys": []}


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (ok(b"[]"), "The response is not a JSON object."),
        (ok(b"no JSON"), "The response is not valid JSON."),
        (ok(b'"' + b"x" * MAX_JSON_BYTES + b'"'), "The response is longer than 262144 bytes."),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "The server answered 404."),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
            "The server answered 302. Redirects are not followed.",
        ),
    ],
)
async def test_a_response_that_is_no_json_object_is_refused(response: bytes, message: str) -> None:
    with serving(response) as port, pytest.raises(RequestFailed) as failure:
        await client(Names(["127.0.0.1"])).get_json(f"http://x.example:{port}/jwks")
    assert str(failure.value) == message


async def test_json_is_not_fetched_from_a_name_with_a_private_address() -> None:
    names = Names(["8.8.8.8", "127.0.0.1"])
    with pytest.raises(RequestFailed, match="private, local or reserved"):
        await client(names, allow_private=False).get_json("https://x.example/jwks")
    assert names.lookups == 1


async def test_json_is_not_fetched_without_tls_from_public_addresses() -> None:
    names = Names(["8.8.8.8"])
    with pytest.raises(InvalidInput):
        await client(names, allow_private=False).get_json("http://x.example/jwks")
    assert names.lookups == 0
