"""Entity tags (RFC 9110, section 8.8.3) of what changes."""

from __future__ import annotations

import hashlib

from aerotask.representations.task_status import TaskResponse

_DIGEST_BYTES = 12


def status_tag(answer: TaskResponse) -> str:
    """The opaque tag, in quotes, of a status: the same as long as nothing but the time goes on."""
    return _tag(_timeless(answer))


def tagged_status(answer: TaskResponse) -> tuple[str, str]:
    """As `status_tag`, and the status as JSON, which is made once for both."""
    content = _timeless(answer)
    time = TaskResponse.model_fields["processing_time_ms"].alias
    return _tag(content), f'{content[:-1]},"{time}":{answer.processing_time_ms}}}'


def _timeless(answer: TaskResponse) -> str:
    return answer.model_dump_json(by_alias=True, exclude={"processing_time_ms"})


def _tag(content: str) -> str:
    return f'"{hashlib.blake2b(content.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"'
