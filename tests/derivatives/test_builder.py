"""The process that makes derivatives, and what becomes of a job when it dies."""

import signal
from pathlib import Path

import psutil
import pytest
from tests.derivatives.clouds import hills, write_cloud
from tests.derivatives.vectors import endless
from tests.support.world import eventually

from aerotask.derivatives.builder import BuilderProcess, TimeoutPolicy
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.domain.errors import InvalidInput, TaskFailed


def nothing(_share: float) -> None:
    pass


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    return write_cloud(tmp_path / "a.laz", hills(50_000))


def makers() -> list[psutil.Process]:
    """The processes that make derivatives for this one."""
    return [each for each in psutil.Process().children() if "maker_process" in " ".join(each.cmdline())]


def test_one_process_makes_many_and_tells_how_far_it_is(cloud: Path, tmp_path: Path) -> None:
    steps: list[float] = []
    with BuilderProcess(threads=1) as maker:
        told = maker.build(DerivativeKind.COPC, cloud, tmp_path / "1.copc.laz", on_progress=steps.append)
        assert told["points"] == 50_000
        [process] = makers()
        maker.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=nothing)
        assert makers() == [process]
    assert steps
    assert steps == sorted(steps)
    assert makers() == []


def test_what_is_wrong_with_a_file_is_told_as_it_was_raised(tmp_path: Path) -> None:
    (tmp_path / "a.laz").touch()
    with BuilderProcess(threads=1) as maker, pytest.raises(InvalidInput, match="it is empty") as refused:
        maker.build(DerivativeKind.COPC, tmp_path / "a.laz", tmp_path / "made", on_progress=nothing)
    assert refused.value.code == "unreadable-cloud"


def test_an_unexpected_fault_ends_one_job_only(cloud: Path, tmp_path: Path) -> None:
    with BuilderProcess(threads=1) as maker:
        with pytest.raises(FileNotFoundError):
            maker.build(DerivativeKind.COPC, tmp_path / "absent.laz", tmp_path / "1", on_progress=nothing)
        assert (
            maker.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=nothing)["points"]
            == 50_000
        )


@pytest.mark.parametrize("deadly", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_fails_its_job_and_the_next_one_is_made_by_another_process(
    cloud: Path, tmp_path: Path, deadly: signal.Signals
) -> None:
    def crash(_share: float) -> None:
        for process in makers():
            process.send_signal(deadly)

    with BuilderProcess(threads=1) as maker:
        with pytest.raises(TaskFailed, match=deadly.name) as failed:
            maker.build(DerivativeKind.COPC, cloud, tmp_path / "1.copc.laz", on_progress=crash)
        assert failed.value.code == "build-crashed"
        assert (
            maker.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=nothing)["points"]
            == 50_000
        )


def test_a_file_without_an_end_is_given_up_and_the_next_one_is_made_by_another_process(
    cloud: Path, tmp_path: Path
) -> None:
    source = endless(tmp_path / "endless.gpkg")
    with BuilderProcess(threads=1, patience=TimeoutPolicy(least_s=4)) as maker:
        with pytest.raises(TaskFailed, match="came no further") as failed:
            maker.build(DerivativeKind.GPKG, source, tmp_path / "1.gpkg", on_progress=nothing)
        assert failed.value.code == "build-timed-out"
        assert makers() == []
    with BuilderProcess(threads=1) as maker:
        assert (
            maker.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=nothing)["points"]
            == 50_000
        )


def test_the_patience_grows_with_the_source_and_what_belongs_to_it() -> None:
    assert TimeoutPolicy().for_bytes(0) == 300
    assert TimeoutPolicy().for_bytes(1_000_000_000) == 10_300


def test_a_process_that_died_between_two_jobs_is_a_crash_too(cloud: Path, tmp_path: Path) -> None:
    with BuilderProcess(threads=1) as maker:
        maker.build(DerivativeKind.COPC, cloud, tmp_path / "1.copc.laz", on_progress=nothing)
        [process] = makers()
        process.kill()
        eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(TaskFailed, match="SIGKILL"):
            maker.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=nothing)


def test_whatever_ends_the_run_ends_the_process(cloud: Path, tmp_path: Path) -> None:
    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), BuilderProcess(threads=1) as maker:
        maker.build(DerivativeKind.COPC, cloud, tmp_path / "made", on_progress=stop)
    assert makers() == []
