"""Missing blobs: content that a row names and the storage doesn't have."""

from __future__ import annotations

import structlog

from aerotask.domain.errors import Unavailable

_log = structlog.get_logger(__name__)
RETRY_AFTER_S = 30


def content_missing(blob_key: str) -> Unavailable:
    """The error for a request that needs the blob, which is logged.

    It is an outage and no statement about the entry: the storage may be mounted only in part, or be restored.
    """
    _log.error("blob.missing", blob_key=blob_key)
    return Unavailable(
        "The content is missing from the storage at this moment; try again later, and tell the operator if it stays so.",
        code="content-missing",
        retry_after_s=RETRY_AFTER_S,
    )
