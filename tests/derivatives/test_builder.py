"""The builder process, and the outcome of its job when it dies."""

import signal
from pathlib import Path

import psutil
import pytest
from tests.derivatives.clouds import hills, write_cloud
from tests.derivatives.vectors import endless
from tests.metadata.vectors import write_points
from tests.support.world import eventually

from aerotask.derivatives.builder import BuilderProcess, TimeoutPolicy
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.domain.errors import InvalidInput, TaskFailed


def ignore(_share: float) -> None:
    pass


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    return write_cloud(tmp_path / "a.laz", hills(50_000))


def builders() -> list[psutil.Process]:
    """The builder processes of this one."""
    return [each for each in psutil.Process().children() if "builder_process" in " ".join(each.cmdline())]


def test_one_process_builds_many_and_reports_progress(cloud: Path, tmp_path: Path) -> None:
    steps: list[float] = []
    with BuilderProcess(threads=1) as builder:
        properties = builder.build(
            DerivativeKind.COPC, cloud, tmp_path / "1.copc.laz", on_progress=steps.append
        )
        assert properties["points"] == 50_000
        [process] = builders()
        builder.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=ignore)
        assert builders() == [process]
    assert steps
    assert steps == sorted(steps)
    assert builders() == []


def test_an_error_in_the_process_is_raised_here(tmp_path: Path) -> None:
    (tmp_path / "a.laz").touch()
    with BuilderProcess(threads=1) as builder, pytest.raises(InvalidInput, match="it is empty") as refused:
        builder.build(DerivativeKind.COPC, tmp_path / "a.laz", tmp_path / "made", on_progress=ignore)
    assert refused.value.code == "unreadable-cloud"


def test_what_a_library_said_in_the_process_is_logged_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_points(tmp_path / "a.gpkg")
    source.write_bytes(source.read_bytes()[:30_000])
    with BuilderProcess(threads=1) as builder, pytest.raises(InvalidInput) as refused:
        builder.build(DerivativeKind.PMTILES, source, tmp_path / "made", on_progress=ignore)
    assert "malformed" not in refused.value.message
    assert "database disk image is malformed" in caplog.text


def test_an_unexpected_error_ends_one_job_only(cloud: Path, tmp_path: Path) -> None:
    with BuilderProcess(threads=1) as builder:
        with pytest.raises(FileNotFoundError):
            builder.build(DerivativeKind.COPC, tmp_path / "absent.laz", tmp_path / "1", on_progress=ignore)
        assert (
            builder.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=ignore)["points"]
            == 50_000
        )


@pytest.mark.parametrize("deadly", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_fails_its_job_and_the_next_job_gets_another_process(
    cloud: Path, tmp_path: Path, deadly: signal.Signals
) -> None:
    def crash(_share: float) -> None:
        for process in builders():
            process.send_signal(deadly)

    with BuilderProcess(threads=1) as builder:
        with pytest.raises(TaskFailed, match=deadly.name) as failed:
            builder.build(DerivativeKind.COPC, cloud, tmp_path / "1.copc.laz", on_progress=crash)
        assert failed.value.code == "build-crashed"
        assert (
            builder.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=ignore)["points"]
            == 50_000
        )


def test_an_endless_file_times_out_and_the_next_job_gets_another_process(cloud: Path, tmp_path: Path) -> None:
    source = endless(tmp_path / "endless.gpkg")
    with BuilderProcess(threads=1, timeouts=TimeoutPolicy(min_s=4)) as builder:
        with pytest.raises(TaskFailed, match="made no progress") as failed:
            builder.build(DerivativeKind.GPKG, source, tmp_path / "1.gpkg", on_progress=ignore)
        assert failed.value.code == "build-timed-out"
        assert builders() == []
    with BuilderProcess(threads=1) as builder:
        assert (
            builder.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=ignore)["points"]
            == 50_000
        )


def test_the_timeout_grows_with_the_source() -> None:
    assert TimeoutPolicy().for_bytes(0) == 300
    assert TimeoutPolicy().for_bytes(1_000_000_000) == 10_300


def test_a_process_that_died_between_two_jobs_counts_as_a_crash(cloud: Path, tmp_path: Path) -> None:
    with BuilderProcess(threads=1) as builder:
        builder.build(DerivativeKind.COPC, cloud, tmp_path / "1.copc.laz", on_progress=ignore)
        [process] = builders()
        process.kill()
        eventually(lambda: process.status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(TaskFailed, match="SIGKILL"):
            builder.build(DerivativeKind.COPC, cloud, tmp_path / "2.copc.laz", on_progress=ignore)


def test_an_interrupted_build_ends_the_process(cloud: Path, tmp_path: Path) -> None:
    def stop(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), BuilderProcess(threads=1) as builder:
        builder.build(DerivativeKind.COPC, cloud, tmp_path / "made", on_progress=stop)
    assert builders() == []
