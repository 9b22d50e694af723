"""Failures of the soak test: processes killed and frozen, servers crashed and emptied, the storage away, clocks off."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from redis import Redis
from tests.guarantees.invariants import settings_of
from tests.support.clocks import clock_shifted_by, start_shifted_worker
from tests.support.processes import Process, hold_for, kill
from tests.support.storage import vanished
from tests.support.world import World

from aerotask.stack.postgres import EmbeddedPostgres

SHIFTS_S = (7200, -7200)
AWAY_S = 2.5


@dataclass(slots=True)
class RandomFailures:
    """Causes failures, one after the other, and repairs what a supervisor would."""

    world: World
    rng: random.Random
    folder: Path
    """For the code that shifts a worker's clock."""
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def cause_one(self) -> None:
        """Cause a failure."""
        self.check_processes()
        failure: Callable[[], None] = self.rng.choice(
            (
                *(self.kill_worker, self.kill_worker, self.kill_child, self.kill_api),
                *(self.freeze_worker, self.freeze_api, self.replace_worker_by_shifted_one),
                *(self.crash_postgres, self.flush_valkey, self.restart_valkey),
                *(self.take_storage_away, self.start_processes_without_storage),
            )
        )
        self.done[failure.__name__] += 1
        failure()

    def check_processes(self) -> None:
        """Note processes that have ended by themselves, which none of the failures allows, and start them again."""
        for worker in [each for each in self.world.stack.workers if each.poll() is not None]:
            self.faults.append(f"a worker ended with {worker.returncode} after {dict(self.done)}")
            self.world.stack.workers.remove(worker)
            self.world.stack.start_worker()
        api = self.world.stack.api
        assert api is not None
        if api.poll() is not None:
            self.faults.append(f"the API ended with {api.returncode} after {dict(self.done)}")
            self._restart_api()

    def kill_worker(self) -> None:
        """Kill a worker and start another."""
        self._kill_worker()
        self.world.stack.start_worker()

    def replace_worker_by_shifted_one(self) -> None:
        """Kill a worker and start one whose clock is hours off."""
        self._kill_worker()
        shift_s = self.rng.choice(SHIFTS_S)
        changes = clock_shifted_by(shift_s, self.folder / f"clock{shift_s:+d}", all_clocks=False)
        start_shifted_worker(self.world, changes)

    def freeze_worker(self) -> None:
        """Stop a worker, sometimes for longer than its lease."""
        self._freeze(self.rng.choice(self.world.stack.workers), self.rng.choice((0.5, 4.0)))

    def freeze_api(self) -> None:
        """Stop the API for a moment."""
        assert self.world.stack.api is not None
        self._freeze(self.world.stack.api, 2.0)

    def kill_child(self) -> None:
        """Kill a process that a worker has started: a fork server, a reader of the index or a tool."""
        children = [
            child
            for worker in self.world.stack.workers
            if worker.poll() is None
            for child in psutil.Process(worker.pid).children(recursive=True)
        ]
        if children:
            with suppress(psutil.NoSuchProcess):
                self.rng.choice(children).kill()

    def kill_api(self) -> None:
        """Kill the API and start it again."""
        assert self.world.stack.api is not None
        kill(self.world.stack.api)
        self._restart_api()

    def crash_postgres(self) -> None:
        """End Postgres as a crash would, and start it again."""
        postgres = self.world.stack.servers["Postgres"]
        assert isinstance(postgres, EmbeddedPostgres)
        postgres.kill()
        hold_for(self.rng.choice((0.0, 3.0)))
        postgres.start()

    def flush_valkey(self) -> None:
        """Remove everything from Valkey."""
        with Redis.from_url(self.world.stack.environment["AEROTASK_REDIS_URL"]) as valkey:
            valkey.flushall()

    def restart_valkey(self) -> None:
        """Stop Valkey for a while."""
        valkey = self.world.stack.servers["Valkey"]
        valkey.stop()
        hold_for(self.rng.choice((0.0, 3.0)))
        valkey.start()

    def take_storage_away(self) -> None:
        """Take the storage away for seconds, as an unmount would."""
        with self._without_storage():
            hold_for(AWAY_S)

    def start_processes_without_storage(self) -> None:
        """Start the API and a worker while the storage is away."""
        assert self.world.stack.api is not None
        kill(self.world.stack.api)
        self._kill_worker()
        with self._without_storage():
            self._restart_api()
            self.world.stack.start_worker()
            hold_for(AWAY_S)

    def _without_storage(self) -> AbstractContextManager[None]:
        return vanished(settings_of(self.world).storage_folder, mount_point=self.rng.random() < 0.5)

    def _kill_worker(self) -> None:
        worker = self.rng.choice(self.world.stack.workers)
        kill(worker)
        self.world.stack.workers.remove(worker)

    def _restart_api(self) -> None:
        self.world.stack.start_api()
        self.world.stack.await_api()

    def _freeze(self, process: Process, duration_s: float) -> None:
        process.send_signal(signal.SIGSTOP)
        hold_for(duration_s)
        process.send_signal(signal.SIGCONT)
