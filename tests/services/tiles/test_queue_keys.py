"""Fairness keys of tile clients."""

from __future__ import annotations

from uuid import UUID

from aerotask.domain.access import Caller
from aerotask.domain.ids import UserId
from aerotask.services.tiles.tiles import TileClient

ALICE = UserId(UUID("00000000-0000-7000-8000-000000000001"))


def test_a_user_has_one_queue_key_at_all_addresses() -> None:
    home = TileClient(Caller(ALICE, "alice", address="192.0.2.1"))
    office = TileClient(Caller(ALICE, "alice", address="192.0.2.2"))
    assert home.queue_key == office.queue_key == f"user {ALICE}"


def test_anonymous_clients_share_the_queue_key_of_their_network() -> None:
    assert TileClient(Caller(None, None, address="192.0.2.1")).queue_key == "address 192.0.2.1"
    assert TileClient(Caller(None, None, address="2001:db8::1")).queue_key == "address 2001:db8::/64"


def test_view_tokens_do_not_change_the_queue_key() -> None:
    anonymous = Caller(None, None, address="192.0.2.1")
    assert (
        TileClient(anonymous, "a token").queue_key
        == TileClient(anonymous, "another").queue_key
        == TileClient(anonymous).queue_key
    )
