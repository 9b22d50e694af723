"""Negative cache of failed images, otherwise retries of a damaged file would keep all children busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aerotask.domain.errors import AerotaskError

TTL_S = 60.0
MAX_FAILURES = 3
"""After so many failed images of a content, all of its images are refused until failures expire."""


@dataclass(frozen=True, slots=True)
class _Failure:
    until_s: float
    error: AerotaskError
    blob_keys: frozenset[str]


@dataclass(slots=True)
class NegativeCache:
    """Recently failed images by digest, with the blob keys of their contents."""

    now: Callable[[], float] = time.monotonic
    _failed: dict[str, _Failure] = field(default_factory=dict)

    def add(self, digest: str, blob_keys: Sequence[str], error: AerotaskError) -> None:
        """Records a failed image, and drops expired failures."""
        now = self.now()
        self._failed = {key: each for key, each in self._failed.items() if each.until_s > now}
        self._failed[digest] = _Failure(now + TTL_S, error, frozenset(blob_keys))

    def raise_if_failed(self, digest: str, blob_keys: Sequence[str]) -> None:
        """Rejects an image that failed recently, or of whose contents too many images did.

        Raises:
            AerotaskError: the error of the earlier failure.
        """
        if not self._failed:
            return
        now = self.now()
        recent = {key: each for key, each in self._failed.items() if each.until_s > now}
        if digest in recent:
            raise recent[digest].error.with_traceback(None)
        for blob_key in blob_keys:
            failures = [each for each in recent.values() if blob_key in each.blob_keys]
            if len(failures) >= MAX_FAILURES:
                raise failures[-1].error.with_traceback(None)
