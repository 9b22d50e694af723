"""One POST, against real servers: where it goes, and where it doesn't."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
import trustme
from tests.support.receiver import running_receiver

from aerotask.net.addresses import Address, WebAddress
from aerotask.net.guarded_http import GuardedClient, PostResult, Resolver

BODY = b'{"state":"Succeeded"}'
PRIVATE = PostResult(None, "The host leads to an address that is private, local or reserved.")


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver(threads=2)
    yield made
    made.close()


class Names:
    """A resolver with names of our own, which counts how often it is asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = answers
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        return [ip_address(address) for address in self.answers[min(self.asked, len(self.answers)) - 1]]


def poster(resolve: Names | Resolver, *, allow_private: bool = True, timeout_s: float = 10) -> GuardedClient:
    return GuardedClient(
        timeout_s=timeout_s, allow_private=allow_private, tls=ssl.create_default_context(), resolve=resolve
    )


def at(host: str, port: int, target: str = "/hook", scheme: str = "http") -> WebAddress:
    return WebAddress(scheme, host, port, target)


async def test_a_body_arrives_with_its_headers_and_nothing_lost_of_the_address() -> None:
    with running_receiver() as receiver:
        to = at("hooks.example", receiver.port, "/a;b/c?d=e&f")
        outcome = await poster(Names(["127.0.0.1"])).post(to, {"X-Test": "1"}, BODY)
        assert outcome == PostResult(204, None)
        [request] = receiver.received
        assert (request.path, request.body) == ("/a;b/c?d=e&f", BODY)
        assert request.headers["x-test"] == "1"
        assert request.headers["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["::1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"]])
async def test_a_name_that_leads_to_a_private_address_is_refused_before_the_connection(
    answers: list[str],
) -> None:
    with running_receiver() as receiver:
        names = Names(answers)
        to = at("hooks.example", receiver.port)
        assert await poster(names, allow_private=False).post(to, {}, BODY) == PRIVATE
        assert (receiver.received, names.asked) == ([], 1)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "::1", "0"])
async def test_what_the_systems_resolver_makes_of_a_host_is_judged(host: str, resolver: Resolver) -> None:
    with running_receiver() as receiver:
        to = at(host, receiver.port)
        assert await poster(resolver, allow_private=False).post(to, {}, BODY) == PRIVATE
        assert receiver.received == []


async def test_a_name_is_looked_up_once_and_the_checked_address_connected_to() -> None:
    """A name server that answers differently the second time (DNS rebinding) is not asked a second time."""
    with running_receiver() as receiver:
        names = Names(["127.0.0.99"], ["127.0.0.1"])  # the receiver listens on the latter only
        outcome = await poster(names).post(at("hooks.example", receiver.port), {}, BODY)
        assert (outcome.status, receiver.received) == (None, [])
        assert names.asked == 1


async def test_the_next_address_is_tried_when_one_takes_no_connection() -> None:
    with running_receiver() as receiver:
        names = Names(["127.0.0.99", "127.0.0.1"])  # the receiver listens on the latter only
        assert (await poster(names).post(at("x.example", receiver.port), {}, BODY)).status == 204


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with (
        running_receiver() as target,
        running_receiver(307, location=f"http://127.0.0.1:{target.port}/") as first,
    ):
        outcome = await poster(Names(["127.0.0.1"])).post(at("x.example", first.port), {}, BODY)
        assert outcome == PostResult(307, "The receiver answered 307. Redirects are not followed.")
        assert target.received == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_receiver() as proxy, running_receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await poster(Names(["127.0.0.1"])).post(at("x.example", receiver.port), {}, BODY)
        assert (len(receiver.received), proxy.received) == (1, [])


async def test_a_receiver_that_hangs_is_left_after_the_time_of_a_try() -> None:
    with running_receiver() as receiver:
        receiver.hanging.set()
        outcome = await poster(Names(["127.0.0.1"]), timeout_s=0.3).post(
            at("x.example", receiver.port), {}, BODY
        )
        assert outcome == PostResult(None, "There was no answer within 0.3 s.")


async def test_a_resolver_that_hangs_is_left_after_the_time_of_a_try() -> None:
    class Deaf(Names):
        async def __call__(self, host: str, port: int) -> list[Address]:
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
            return []

    outcome = await poster(Deaf(), timeout_s=0.1).post(at("x.example", 80), {}, BODY)
    assert outcome == PostResult(None, "There was no answer within 0.1 s.")


async def test_a_name_that_nobody_knows_says_so(resolver: Resolver) -> None:
    class Unknown(Names):
        async def __call__(self, host: str, port: int) -> list[Address]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    outcome = await poster(Unknown()).post(at("x.example", 80), {}, BODY)
    assert outcome == PostResult(None, "The host's name can't be resolved.")


async def test_a_port_that_nobody_listens_on_says_so() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        outcome = await poster(Names(["127.0.0.1"])).post(at("x.example", silent.getsockname()[1]), {}, BODY)
    assert outcome == PostResult(None, "The exchange failed: All connection attempts failed.")


def speaker(listener: socket.socket, chunk: bytes, sent: list[int]) -> None:
    """Accept one connection and pour the chunk into it until the other side has enough."""
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
async def test_an_endless_answer_is_not_read(chunk: bytes, status: int | None) -> None:
    sent: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speaker, args=(listener, chunk, sent))
        thread.start()
        port = listener.getsockname()[1]
        outcome = await poster(Names(["127.0.0.1"]), timeout_s=2).post(at("x.example", port), {}, BODY)
        thread.join()
    assert outcome.status == status
    assert sum(sent) < 20_000_000  # what fits into the buffers of both sides, and no more


async def test_tls_verifies_the_name_although_it_connects_to_an_address() -> None:
    authority = trustme.CA()
    served, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hooks.example").configure_cert(served)
    authority.configure_trust(trusted)
    with running_receiver(tls=served) as receiver:
        sender = GuardedClient(timeout_s=10, allow_private=True, tls=trusted, resolve=Names(["127.0.0.1"]))
        right = await sender.post(at("hooks.example", receiver.port, scheme="https"), {}, BODY)
        wrong = await sender.post(at("other.example", receiver.port, scheme="https"), {}, BODY)
        assert right == PostResult(204, None)
        assert wrong.status is None
        assert "not valid for 'other.example'" in (wrong.error or "")
        assert len(receiver.received) == 1


async def test_tls_trusts_no_certificate_of_anybodys_own() -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("hooks.example").configure_cert(served)
    with running_receiver(tls=served) as receiver:
        to = at("hooks.example", receiver.port, scheme="https")
        outcome = await poster(Names(["127.0.0.1"])).post(to, {}, BODY)
        assert "certificate verify failed" in (outcome.error or "")
        assert receiver.received == []
