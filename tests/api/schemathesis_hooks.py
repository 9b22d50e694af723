"""What schemathesis can't send by itself: it loads this by its configuration."""

import schemathesis

# The pieces of a resumable upload (tus) are bytes like any others.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
