from aerotask.domain.states import ACTIVE, TERMINAL, TRANSITIONS, TaskState, sources_of


def test_every_state_has_a_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(TaskState)


def test_a_state_is_either_active_or_terminal() -> None:
    assert set(TaskState) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL


def test_a_task_goes_from_created_over_enqueued_and_scheduled_to_processing() -> None:
    assert TaskState.ENQUEUED in TRANSITIONS[TaskState.CREATED]
    assert TaskState.SCHEDULED in TRANSITIONS[TaskState.ENQUEUED]
    assert TaskState.PROCESSING in TRANSITIONS[TaskState.SCHEDULED]


def test_only_a_running_task_succeeds_or_fails() -> None:
    assert sources_of(TaskState.SUCCEEDED) == {TaskState.PROCESSING}
    assert sources_of(TaskState.FAILED) == {TaskState.PROCESSING}


def test_a_succeeded_task_can_only_be_deleted() -> None:
    assert TRANSITIONS[TaskState.SUCCEEDED] == {TaskState.DELETED}


def test_everything_but_a_deleted_task_can_be_deleted() -> None:
    assert sources_of(TaskState.DELETED) == set(TaskState) - {TaskState.DELETED}
