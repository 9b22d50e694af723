"""Who waits in whose row for pictures."""

from __future__ import annotations

from uuid import UUID

from aerotask.domain.access import Caller
from aerotask.domain.ids import UserId
from aerotask.services.tiles.tiles import TileClient

ALICE = UserId(UUID("00000000-0000-7000-8000-000000000001"))


def test_a_user_waits_in_a_row_of_their_own_wherever_they_are() -> None:
    here = TileClient(Caller(ALICE, "alice", address="192.0.2.1"))
    there = TileClient(Caller(ALICE, "alice", address="192.0.2.2"))
    assert here.row == there.row == f"user {ALICE}"


def test_who_is_not_signed_in_waits_in_the_row_of_their_network() -> None:
    assert TileClient(Caller(None, None, address="192.0.2.1")).row == "address 192.0.2.1"
    assert TileClient(Caller(None, None, address="2001:db8::1")).row == "address 2001:db8::/64"


def test_tokens_in_addresses_make_no_rows_of_their_own() -> None:
    anonymous = Caller(None, None, address="192.0.2.1")
    assert (
        TileClient(anonymous, "a token").row
        == TileClient(anonymous, "another").row
        == TileClient(anonymous).row
    )
