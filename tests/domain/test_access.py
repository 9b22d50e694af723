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
def test_members_have_the_rights_of_their_membership(
    membership: Membership | None, rights: set[Access]
) -> None:
    assert rights_in(caller(), standing(membership)) == rights


def test_the_owner_and_administrators_have_every_right() -> None:
    assert rights_in(caller(OWNER), standing()) == {R, W, D, A}
    assert rights_in(caller(is_admin=True), standing()) == {R, W, D, A}


@pytest.mark.parametrize(
    ("visibility", "rights"),
    [(Visibility.PRIVATE, set()), (Visibility.UNLISTED, {R}), (Visibility.PUBLIC, {R})],
)
def test_other_users_and_anonymous_callers_only_read_public_and_unlisted_datasets(
    visibility: Visibility, rights: set[Access]
) -> None:
    assert rights_on(ANONYMOUS, standing(), visibility) == rights
    assert rights_on(caller(), standing(), visibility) == rights


@pytest.mark.parametrize("membership", Membership)
def test_a_membership_gives_no_rights_to_a_caller_with_a_revoked_token(membership: Membership) -> None:
    assert rights_in(ANONYMOUS, standing(membership)) == set()


def test_an_organization_without_owner_gives_no_rights_to_anonymous_callers() -> None:
    assert rights_in(ANONYMOUS, OrgStanding(ORG, None, None)) == set()


def test_a_reader_manages_only_tasks_they_submitted() -> None:
    assert may_manage_task(caller(), frozenset({R}), OTHER)
    assert not may_manage_task(caller(), frozenset({R, W, D}), OWNER)


def test_an_administrator_of_the_organization_manages_every_task() -> None:
    assert may_manage_task(caller(), frozenset(Access), OWNER)
    assert may_manage_task(caller(), frozenset(Access), None)


def test_anonymous_callers_do_not_manage_anonymous_tasks() -> None:
    assert not may_manage_task(ANONYMOUS, frozenset({R}), None)


def test_a_submitter_without_read_access_manages_nothing() -> None:
    assert not may_manage_task(caller(), frozenset(), OTHER)


def test_a_read_only_key_only_reads_even_for_administrators() -> None:
    for holder in (caller(OWNER), caller(is_admin=True), caller()):
        reading = replace(holder, read_only=True)
        assert rights_in(reading, standing(Membership.ADMIN)) == {R}
        assert not may_manage_task(reading, frozenset({R}), reading.user_id)
    assert rights_in(replace(caller(), read_only=True), standing()) == set()
