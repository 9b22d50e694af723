"""Run of the tool `build`: all derivatives of its inputs, each published when it is ready; failures affect no others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.derivatives.builder import BuilderProcess, TimeoutPolicy
from aerotask.derivatives.kinds import KIND_INFO, DerivativeKind, kinds_in, missing_for
from aerotask.derivatives.sources import check_complete, side_files, source_key
from aerotask.domain.disk_full import is_disk_full
from aerotask.domain.errors import AerotaskError, InvalidInput, TaskFailed
from aerotask.domain.paths import shown
from aerotask.failpoints import failpoint
from aerotask.metadata.file_types import START_BYTES, kind_of, suffix_of
from aerotask.sdk import RunContext

_TASK_FAILURES = frozenset(
    {
        "content-damaged",
        "derivative-unavailable",
        "build-failed",
        "build-crashed",
        "build-timed-out",
        "out-of-memory",
    }
)
# Faults of an entry, which others with the same content needn't have.
_ENTRY_FAULTS = frozenset({"content-damaged", "missing-side-file"})


@dataclass(frozen=True, slots=True)
class BuildJob:
    """Derivative to build: `start` and `share` are its part of the run's progress, by source bytes."""

    path: str
    source_key: str
    """Equal for entries with equal content."""
    file_format: str
    """Usual suffix of the format."""
    kind: DerivativeKind
    start: float
    share: float
    is_texture: bool
    """Whether it may be an image that belongs to a mesh, which the result needn't mention."""


@dataclass(frozen=True, slots=True)
class _Failed:
    code: str
    message: str


def run_build(
    ctx: RunContext, *, only: str | None, force: bool, timeouts: TimeoutPolicy | None = None
) -> None:
    """Build the missing derivatives of the run's inputs; `only` is the entry named in the task's params, if any.

    With `force` also existing ones, except those that were made since the task's submit.

    Raises:
        InvalidInput, TaskFailed: no derivative of `only` could be built.
        OSError: the disk is full.
    """
    outcomes: list[dict[str, Any]] = []
    by_content: dict[tuple[str, DerivativeKind], dict[str, Any]] = {}
    with BuilderProcess(ctx.threads, timeouts) as builder:
        for number, job in enumerate(plan_jobs(ctx, only)):
            same = by_content.get((job.source_key, job.kind))
            if same is not None:
                ctx.log(f"{shown(job.path)} has the content of {shown(same['path'])}.")
                outcomes.append({**same, "path": job.path, "sameContentAs": same["path"]})
                continue
            if _is_present(job, ctx, force=force):
                ctx.log(f"{shown(job.path)} already has its {job.kind}.")
                outcome = {"path": job.path, "kind": job.kind, "outcome": "present"}
            else:
                outcome = _outcome(job, ctx, builder, ctx.workdir / f"{number}")
            ctx.progress(job.start + job.share)
            if job.is_texture and outcome["outcome"] == "skipped":
                continue
            if outcome.get("code") not in _ENTRY_FAULTS:
                by_content[job.source_key, job.kind] = outcome
            outcomes.append(outcome)
    counts = {
        name: sum(each["outcome"] == name for each in outcomes)
        for name in ("built", "present", "skipped", "failed")
    }
    ctx.log(", ".join(f"{count} {name}" for name, count in counts.items()) + ".")
    ctx.result({**counts, "warnings": list(_warnings(outcomes)), "derivatives": outcomes})
    _raise_if_all_failed(outcomes, only)


def _is_present(job: BuildJob, ctx: RunContext, *, force: bool) -> bool:
    return ctx.has_derivative(
        job.path, kind=job.kind, builder=KIND_INFO[job.kind].builder, since_submit=force
    )


def _warnings(outcomes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each failure and each warning."""
    for each in outcomes:
        subject = f"{shown(each['path'])}, {each['kind']}"
        if each["outcome"] == "failed":
            yield f"{subject}: {each['message']}"
        yield from (f"{subject}: {warning}" for warning in each.get("warnings", ()))


def plan_jobs(ctx: RunContext, only: str | None = None) -> list[BuildJob]:
    """Jobs for all derivatives of the inputs or of the one named, smallest files first, so that most are done early."""
    sizes = {path: ctx.input(path).stat().st_size for path in sorted(ctx.inputs)}
    beside = {path for entry in ctx.inputs for path in side_files(entry, ctx.inputs)}
    formats = _formats(ctx.inputs, beside)
    if only in formats:
        formats = {only: formats[only]}
    smallest_first = sorted(formats, key=sizes.__getitem__)
    planned = [(path, kind) for path in smallest_first for kind in kinds_in(formats[path])]
    hashes = {path: ctx.content_hash(path) for path in ctx.inputs}
    keys = {path: source_key(path, hashes) for path in formats}
    work = {(keys[path], kind): 1 + sizes[path] for path, kind in planned}
    total = sum(work.values())
    jobs, start = [], 0.0
    for path, kind in planned:
        # Only the first entry of equal content is work.
        share = work.pop((keys[path], kind), 0) / total
        jobs.append(BuildJob(path, keys[path], formats[path], kind, start, share, path in beside))
        start += share
    return jobs


def _formats(inputs: Mapping[str, Path], beside: Collection[str]) -> dict[str, str]:
    """Format of each input except side files, by content where the name doesn't tell.

    The plan has already chosen the entries by their indexed type; the format only decides how to open them.
    """
    return {
        path: kind_of(path, _start_of(file))
        for path, file in inputs.items()
        if path not in beside or kinds_in(suffix_of(path))
    }


def _start_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(START_BYTES)


def _outcome(job: BuildJob, ctx: RunContext, builder: BuilderProcess, folder: Path) -> dict[str, Any]:
    """Build one derivative; an unusable source is reported in the outcome and doesn't end the run."""
    subject = {"path": job.path, "kind": job.kind}
    result = _build(job, ctx, builder, folder)
    if isinstance(result, _Failed):
        shutil.rmtree(folder, ignore_errors=True)
        # A plain image among rasters or a table among maps is no failure, nor is a kind that can't be built here.
        no_failure = {"not-georeferenced", "nothing-to-show", "derivative-unavailable"}
        outcome = "skipped" if result.code in no_failure else "failed"
        if outcome == "failed" or not job.is_texture:
            ctx.log(f"{outcome.capitalize()}: {job.kind} of {shown(job.path)}. {result.message}")
        return {**subject, "outcome": outcome, "code": result.code, "message": result.message}
    target, properties = result
    size_bytes = target.stat().st_size
    ctx.put_derivative(
        target, of=job.path, kind=job.kind, builder=KIND_INFO[job.kind].builder, properties=properties
    )
    failpoint("derivative-built")
    ctx.log(f"Built: {job.kind} of {shown(job.path)}, {size_bytes / 1e6:.1f} MB, read back and verified.")
    for warning in properties.get("warnings", ()):
        ctx.log(f"Warning: {warning}")
    return {
        **subject,
        "outcome": "built",
        "sizeBytes": size_bytes,
        "warnings": properties.get("warnings", []),
    }


def _build(
    job: BuildJob, ctx: RunContext, builder: BuilderProcess, folder: Path
) -> tuple[Path, Mapping[str, Any]] | _Failed:
    source = ctx.input(job.path)
    ctx.progress(job.start, f"{job.kind} of {source.name}")
    if not job.is_texture:
        ctx.log(f"Building {job.kind} of {shown(job.path)} ({source.stat().st_size / 1e6:.1f} MB).")
    folder.mkdir()
    if suffix_of(source.name) != job.file_format:
        # The builders select their readers by suffix.
        source = folder / f"{source.name}.{job.file_format}"
        source.symlink_to(ctx.input(job.path).absolute())
    target = folder / f"derivative{KIND_INFO[job.kind].suffix}"
    try:
        missing = missing_for(job.kind)
        if missing:
            return _Failed("derivative-unavailable", f"{missing}.")
        check_complete(job.path, dict.fromkeys(ctx.inputs))
        for path in (job.path, *side_files(job.path, ctx.inputs)):
            ctx.check_content(path)
        properties = builder.build(
            job.kind,
            source,
            target,
            on_progress=lambda share: ctx.progress(job.start + job.share * min(share, 1.0)),
        )
    except AerotaskError as error:
        return _Failed(error.code, error.message)
    except MemoryError:
        return _Failed("out-of-memory", "Building it needs more memory than a task may use.")
    except OSError as error:
        if is_disk_full(error):
            raise
        return _Failed("build-failed", f"The build failed unexpectedly ({os.strerror(error.errno or 0)}).")
    return target, properties


def _raise_if_all_failed(outcomes: list[dict[str, Any]], only: str | None) -> None:
    """Fail the task if its single entry got no derivative; for several entries the result lists each outcome."""
    of_entry = [each for each in outcomes if each["path"] == only]
    if not of_entry or any(each["outcome"] in {"built", "present"} for each in of_entry):
        return
    first = of_entry[0]
    if first["code"] in _TASK_FAILURES:
        raise TaskFailed(first["message"], code=first["code"])
    raise InvalidInput(first["message"], code=first["code"])
