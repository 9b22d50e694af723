"""Entity tags (RFC 9110, section 8.8.3) of what changes."""

from __future__ import annotations

import hashlib

from aerotask.contract.status import TaskAnswer

_DIGEST_BYTES = 12


def status_tag(answer: TaskAnswer) -> str:
    """The opaque tag, in quotes, of a status: the same as long as nothing but the time goes on."""
    content = answer.model_dump_json(by_alias=True, exclude={"processing_time_ms"})
    return f'"{hashlib.blake2b(content.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"'
