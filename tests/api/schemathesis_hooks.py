"""Schemathesis hooks, loaded by its configuration, for media types that it doesn't know."""

import schemathesis

# Parts of a resumable upload (tus) are arbitrary bytes.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
