import pytest

from aerotask.domain.retry import FailureKind, retry_delay_s


@pytest.mark.parametrize("kind", [FailureKind.CRASH, FailureKind.RETRYABLE_ERROR])
def test_the_first_crash_or_retryable_error_is_retried_after_a_second(kind: FailureKind) -> None:
    assert retry_delay_s(kind, failed_attempts=1, max_attempts=2) == 1.0


def test_the_first_lost_worker_costs_no_delay() -> None:
    assert retry_delay_s(FailureKind.LOST_WORKER, failed_attempts=1, max_attempts=2) == 0.0


@pytest.mark.parametrize("kind", list(FailureKind))
def test_the_last_allowed_attempt_is_not_retried(kind: FailureKind) -> None:
    assert retry_delay_s(kind, failed_attempts=2, max_attempts=2) is None
    assert retry_delay_s(kind, failed_attempts=1, max_attempts=1) is None


@pytest.mark.parametrize(
    ("kind", "delays"),
    [
        (FailureKind.CRASH, (1.0, 4.0, 16.0, 64.0, 256.0, 300.0, 300.0)),
        (FailureKind.RETRYABLE_ERROR, (1.0, 4.0, 16.0, 64.0, 256.0, 300.0, 300.0)),
        (FailureKind.LOST_WORKER, (0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 300.0)),
    ],
)
def test_delays_grow_up_to_a_bound(kind: FailureKind, delays: tuple[float, ...]) -> None:
    planned = [retry_delay_s(kind, failed_attempts=n, max_attempts=99) for n in range(1, 8)]
    assert tuple(planned) == delays
