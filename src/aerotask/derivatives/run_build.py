"""The run of the tool `build`: every derivative of every entry that it was given, each for itself."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.derivatives.builder import BuilderProcess, TimeoutPolicy
from aerotask.derivatives.kinds import KIND_INFO, DerivativeKind, kinds_in, missing_for
from aerotask.derivatives.sources import check_complete, paths_beside
from aerotask.domain.errors import AerotaskError, InvalidInput, TaskFailed
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import START_BYTES, kind_of, suffix_of
from aerotask.sdk import RunContext

_OURS = frozenset(
    {"derivative-unavailable", "build-failed", "build-crashed", "build-timed-out", "out-of-memory"}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class BuildJob:
    """One derivative to make: `start` and `share` are its part of the whole run, by the bytes that it reads."""

    path: str
    file_format: str
    """As its usual suffix."""
    kind: DerivativeKind
    start: float
    share: float


@dataclass(frozen=True, slots=True)
class _Failed:
    code: str
    message: str


def run_build(
    ctx: RunContext, *, only: str | None, force: bool, timeouts: TimeoutPolicy | None = None
) -> None:
    """Make what is lacking of the run's inputs, and tell of each; `only` is the one entry that was asked for.

    Raises:
        InvalidInput, TaskFailed: nothing could be made of the one entry that was asked for.
        OSError: the disk is full.
    """
    outcomes: list[dict[str, Any]] = []
    with BuilderProcess(ctx.threads, timeouts) as builder:
        for number, job in enumerate(plan_jobs(ctx)):
            if not force and ctx.has_derivative(job.path, kind=job.kind, builder=KIND_INFO[job.kind].builder):
                ctx.log(f"{shown(job.path)} has its {job.kind} already.")
                outcomes.append({"path": job.path, "kind": job.kind, "outcome": "present"})
            else:
                outcomes.append(_outcome(job, ctx, builder, ctx.workdir / f"{number}"))
            ctx.progress(job.start + job.share)
    counts = {
        name: sum(each["outcome"] == name for each in outcomes)
        for name in ("built", "present", "skipped", "failed")
    }
    ctx.log(", ".join(f"{count} {name}" for name, count in counts.items()) + ".")
    ctx.result({**counts, "derivatives": outcomes})
    _raise_if_all_failed(outcomes, only)


def plan_jobs(ctx: RunContext) -> list[BuildJob]:
    """Every derivative of the inputs, the smallest files first, so that much is done early."""
    sizes = {path: ctx.input(path).stat().st_size for path in sorted(ctx.inputs)}
    formats = _formats(ctx.inputs)
    smallest_first = sorted(formats, key=sizes.__getitem__)
    wanted = [(path, kind) for path in smallest_first for kind in kinds_in(formats[path])]
    total = sum(1 + sizes[path] for path, _ in wanted)
    jobs, start = [], 0.0
    for path, kind in wanted:
        share = (1 + sizes[path]) / total
        jobs.append(BuildJob(path, formats[path], kind, start, share))
        start += share
    return jobs


def _formats(inputs: Mapping[str, Path]) -> dict[str, str]:
    """How each entry is written, without the files that only belong to another; by content where no name tells.

    The plan has chosen them by what the index knows; this tells no more than how to open them.
    """
    beside = {path for entry in inputs for path in paths_beside(entry)}
    return {
        path: kind_of(path, _start_of(file))
        for path, file in inputs.items()
        if path not in beside or kinds_in(suffix_of(path))
    }


def _start_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(START_BYTES)


def _outcome(job: BuildJob, ctx: RunContext, builder: BuilderProcess, folder: Path) -> dict[str, Any]:
    """Make one derivative; whatever is wrong with its source is told of and ends nothing else."""
    told = {"path": job.path, "kind": job.kind}
    made = _make(job, ctx, builder, folder)
    if isinstance(made, _Failed):
        shutil.rmtree(folder, ignore_errors=True)
        # A plain image among rasters, a table among maps: nothing is wrong with those.
        unplaced = made.code in {"not-georeferenced", "nothing-to-show"}
        outcome = "skipped" if unplaced else "failed"
        ctx.log(f"{outcome.capitalize()}: {job.kind} of {shown(job.path)}. {made.message}")
        return {**told, "outcome": outcome, "code": made.code, "message": made.message}
    target, properties = made
    size_bytes = target.stat().st_size
    ctx.put_derivative(
        target, of=job.path, kind=job.kind, builder=KIND_INFO[job.kind].builder, properties=properties
    )
    ctx.log(f"Built: {job.kind} of {shown(job.path)}, {size_bytes / 1e6:.1f} MB, read back and found whole.")
    for warning in properties.get("warnings", ()):
        ctx.log(f"Warning: {warning}")
    return {**told, "outcome": "built", "sizeBytes": size_bytes, "warnings": properties.get("warnings", [])}


def _make(
    job: BuildJob, ctx: RunContext, builder: BuilderProcess, folder: Path
) -> tuple[Path, Mapping[str, Any]] | _Failed:
    source = ctx.input(job.path)
    ctx.progress(job.start, f"{job.kind} of {source.name}")
    ctx.log(f"Building {job.kind} of {shown(job.path)} ({source.stat().st_size / 1e6:.1f} MB).")
    folder.mkdir()
    if suffix_of(source.name) != job.file_format:
        # What makes derivatives goes by suffixes.
        source = folder / f"{source.name}.{job.file_format}"
        source.symlink_to(ctx.input(job.path).absolute())
    target = folder / f"derivative{KIND_INFO[job.kind].suffix}"
    try:
        missing = missing_for(job.kind)
        if missing:
            return _Failed("derivative-unavailable", f"{missing}.")
        check_complete(job.path, dict.fromkeys(ctx.inputs))
        properties = builder.build(
            job.kind,
            source,
            target,
            on_progress=lambda share: ctx.progress(job.start + job.share * min(share, 1.0)),
        )
    except AerotaskError as error:
        return _Failed(error.code, error.message)
    except MemoryError:
        return _Failed("out-of-memory", "It needs more memory than a task may take.")
    except OSError as error:
        if error.errno in _FULL:
            raise
        return _Failed("build-failed", f"It failed unexpectedly ({error.strerror}).")
    return target, properties


def _raise_if_all_failed(outcomes: list[dict[str, Any]], only: str | None) -> None:
    """A task for one entry that got nothing has failed; of several entries, each is told of in the result."""
    mine = [each for each in outcomes if each["path"] == only]
    if not mine or any(each["outcome"] in {"built", "present"} for each in mine):
        return
    first = mine[0]
    if first["code"] in _OURS:
        raise TaskFailed(first["message"], code=first["code"])
    raise InvalidInput(first["message"], code=first["code"])
