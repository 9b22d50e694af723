"""Limit on wrong tokens: an address that tries many different ones is told to wait; valid ones pass at any time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aerotask.domain.errors import LimitReached
from aerotask.services.accounts.login_throttle import throttled_address

WINDOW_S = 60.0
MAX_WRONG = 100
MAX_ADDRESSES = 10_000


@dataclass(slots=True)
class _Window:
    """The digests of wrong tokens of one address since `began_s`."""

    began_s: float
    digests: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class WrongTokenLimit:
    """Counts the different wrong tokens of each address, in this process.

    A map that goes on asking with one expired link counts once, so that it doesn't lock out its neighbours.
    """

    clock: Callable[[], float] = time.monotonic
    _windows: dict[str, _Window] = field(default_factory=dict)

    def check(self, address: str | None) -> None:
        """Raises while the address has too many wrong tokens.

        Raises:
            LimitReached: it has (`too-many-wrong-links`).
        """
        window = self._windows.get(throttled_address(address))
        if window is None or len(window.digests) < MAX_WRONG:
            return
        left_s = window.began_s + WINDOW_S - self.clock()
        if left_s <= 0:
            return
        raise LimitReached(
            "Too many wrong links; wait before you try again.",
            code="too-many-wrong-links",
            limit_name="wrongLinksPerAddress",
            limit=MAX_WRONG,
            current=len(window.digests),
            retry_after_s=int(left_s) + 1,
        )

    def record(self, address: str | None, digest: bytes) -> None:
        """Counts a wrong token."""
        key, now_s = throttled_address(address), self.clock()
        window = self._windows.get(key)
        if window is None or now_s - window.began_s >= WINDOW_S:
            if len(self._windows) >= MAX_ADDRESSES:
                self._windows.clear()
            window = self._windows[key] = _Window(now_s)
        if len(window.digests) < MAX_WRONG:
            window.digests.add(digest)
