"""What makes two submits the same task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from aerotask.store.queue.claims import TaskInputRow


def dedup_key(tool_id: str, version: str, params: Mapping[str, Any], inputs: Sequence[TaskInputRow]) -> bytes:
    """SHA-256 over tool, version, normalised params and the content of every input.

    The params have their defaults filled in; the order of their keys doesn't matter.
    """
    identity = {
        "tool": tool_id,
        "version": version,
        "params": params,
        "inputs": sorted((item.path, item.sha256) for item in inputs),
    }
    return hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).digest()
