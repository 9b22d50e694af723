"""What crashed or hung a child, so that it isn't tried again at once: a damaged file must not keep all of them busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aerotask.domain.errors import AerotaskError

FORGIVEN_AFTER_S = 60.0
STRIKES = 3
"""After so many pictures of a content that failed, none of it is tried until they are forgiven."""


@dataclass(frozen=True, slots=True)
class _Failure:
    until_s: float
    refusal: AerotaskError
    contents: frozenset[str]


@dataclass(slots=True)
class NegativeCache:
    """The pictures that failed lately, by digest, and the contents that they were of, by key."""

    now: Callable[[], float] = time.monotonic
    _failed: dict[str, _Failure] = field(default_factory=dict)

    def remember(self, digest: str, contents: Sequence[str], refusal: AerotaskError) -> None:
        """A picture of the contents failed; forget those that are forgiven."""
        now = self.now()
        self._failed = {key: each for key, each in self._failed.items() if each.until_s > now}
        self._failed[digest] = _Failure(now + FORGIVEN_AFTER_S, refusal, frozenset(contents))

    def refuse(self, digest: str, contents: Sequence[str]) -> None:
        """Let the picture be drawn, unless it failed lately, or too many others of one of its contents did.

        Raises:
            AerotaskError: what was answered when it failed.
        """
        if not self._failed:
            return
        now = self.now()
        recent = {key: each for key, each in self._failed.items() if each.until_s > now}
        if digest in recent:
            raise recent[digest].refusal.with_traceback(None)
        for content in contents:
            strikes = [each for each in recent.values() if content in each.contents]
            if len(strikes) >= STRIKES:
                raise strikes[-1].refusal.with_traceback(None)
