import pytest

from aerotask.domain.retry import FailureKind, Retry, after_strike


@pytest.mark.parametrize("strike", [FailureKind.CRASH, FailureKind.RETRYABLE_ERROR])
def test_the_first_crash_or_retryable_error_is_retried_after_a_second(strike: FailureKind) -> None:
    assert after_strike(strike, strikes=1, max_strikes=2) == Retry(1.0)


def test_the_first_lost_worker_costs_no_delay() -> None:
    assert after_strike(FailureKind.LOST_WORKER, strikes=1, max_strikes=2) == Retry(0.0)


@pytest.mark.parametrize("strike", list(FailureKind))
def test_the_last_allowed_strike_is_not_retried(strike: FailureKind) -> None:
    assert after_strike(strike, strikes=2, max_strikes=2) is None
    assert after_strike(strike, strikes=1, max_strikes=1) is None


@pytest.mark.parametrize(
    ("strike", "delays"),
    [
        (FailureKind.CRASH, (1.0, 4.0, 16.0, 64.0, 256.0, 300.0, 300.0)),
        (FailureKind.RETRYABLE_ERROR, (1.0, 4.0, 16.0, 64.0, 256.0, 300.0, 300.0)),
        (FailureKind.LOST_WORKER, (0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 300.0)),
    ],
)
def test_delays_grow_up_to_a_bound(strike: FailureKind, delays: tuple[float, ...]) -> None:
    planned = [after_strike(strike, strikes=n, max_strikes=99) for n in range(1, 8)]
    assert planned == [Retry(delay_s) for delay_s in delays]
