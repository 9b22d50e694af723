import pytest

from aerotask.domain.webhooks import MAX_TRIES, NextStep, WebhookState, after_attempt


def pauses(chance: float) -> list[float]:
    found = [after_attempt(status=500, tries=tries, chance=chance).pause_s for tries in range(1, MAX_TRIES)]
    return [pause_s for pause_s in found if pause_s is not None]


def test_a_message_is_attempted_eight_times_within_a_day() -> None:
    assert pauses(0) == [10, 60, 600, 3600, 10_800, 25_200, 45_000]
    assert 23 * 3600 < sum(pauses(0)) < 24 * 3600
    assert after_attempt(status=500, tries=8, chance=0) == NextStep(WebhookState.GIVEN_UP)


def test_pauses_grow_in_spite_of_jitter() -> None:
    assert pauses(1) == pytest.approx([8.5, 51, 510, 3060, 9180, 21_420, 38_250])
    for shortest, longest_before in zip(pauses(1)[1:], pauses(0), strict=False):
        assert shortest > 1.5 * longest_before


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_delivery(status: int) -> None:
    assert after_attempt(status=status, tries=8, chance=0.5) == NextStep(WebhookState.DELIVERED)


def test_410_ends_the_delivery() -> None:
    assert after_attempt(status=410, tries=1, chance=0.5) == NextStep(WebhookState.REFUSED)


@pytest.mark.parametrize("status", [None, 199, 300, 301, 308, 400, 401, 404, 429, 500, 503])
def test_every_other_response_is_retried(status: int | None) -> None:
    assert after_attempt(status=status, tries=1, chance=0) == NextStep(WebhookState.WAITING, 10)
