from dataclasses import replace

import pytest

from aerotask.domain.access import (
    ANONYMOUS,
    Access,
    Caller,
    Membership,
    OrgStanding,
    Visibility,
    may_manage_task,
    rights_in,
    rights_on,
)
from aerotask.domain.ids import OrgId, UserId, new_id

ORG, OWNER, OTHER = OrgId(new_id()), UserId(new_id()), UserId(new_id())
R, W, D, A = Access.READ, Access.WRITE, Access.DELETE, Access.ADMIN


def standing(membership: Membership | None = None) -> OrgStanding:
    return OrgStanding(ORG, OWNER, membership)


def caller(user_id: UserId = OTHER, *, is_admin: bool = False) -> Caller:
    return Caller(user_id, "somebody", is_admin)


@pytest.mark.parametrize(
    ("membership", "rights"),
    [
        (None, set()),
        (Membership.READ_ONLY, {R}),
        (Membership.READ_WRITE, {R, W}),
        (Membership.READ_WRITE_DELETE, {R, W, D}),
        (Membership.ADMIN, {R, W, D, A}),
    ],
)
def test_members_have_what_they_were_given(membership: Membership | None, rights: set[Access]) -> None:
    assert rights_in(caller(), standing(membership)) == rights


def test_the_owner_and_administrators_may_do_everything() -> None:
    assert rights_in(caller(OWNER), standing()) == {R, W, D, A}
    assert rights_in(caller(is_admin=True), standing()) == {R, W, D, A}


@pytest.mark.parametrize(
    ("visibility", "rights"),
    [(Visibility.PRIVATE, set()), (Visibility.UNLISTED, {R}), (Visibility.PUBLIC, {R})],
)
def test_strangers_and_anonymous_callers_may_only_read_what_is_open(
    visibility: Visibility, rights: set[Access]
) -> None:
    assert rights_on(ANONYMOUS, standing(), visibility) == rights
    assert rights_on(caller(), standing(), visibility) == rights


@pytest.mark.parametrize("membership", Membership)
def test_a_membership_gives_nothing_to_somebody_whose_token_was_revoked(membership: Membership) -> None:
    assert rights_in(ANONYMOUS, standing(membership)) == set()


def test_an_ownerless_organization_gives_nothing_to_anonymous_callers() -> None:
    assert rights_in(ANONYMOUS, OrgStanding(ORG, None, None)) == set()


def test_a_reader_manages_the_tasks_they_submitted_and_no_others() -> None:
    assert may_manage_task(caller(), frozenset({R}), OTHER)
    assert not may_manage_task(caller(), frozenset({R, W, D}), OWNER)


def test_an_administrator_of_the_organization_manages_every_task() -> None:
    assert may_manage_task(caller(), frozenset(Access), OWNER)
    assert may_manage_task(caller(), frozenset(Access), None)


def test_anonymous_tasks_belong_to_nobody_who_is_anonymous() -> None:
    assert not may_manage_task(ANONYMOUS, frozenset({R}), None)


def test_whoever_lost_the_right_to_read_manages_nothing() -> None:
    assert not may_manage_task(caller(), frozenset(), OTHER)


def test_a_key_for_reading_takes_every_other_right_away_even_from_administrators() -> None:
    for holder in (caller(OWNER), caller(is_admin=True), caller()):
        reading = replace(holder, read_only=True)
        assert rights_in(reading, standing(Membership.ADMIN)) == {R}
        assert not may_manage_task(reading, frozenset({R}), reading.user_id)
    assert rights_in(replace(caller(), read_only=True), standing()) == set()
