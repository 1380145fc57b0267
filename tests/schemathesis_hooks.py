"""What Schemathesis has to be told of this API; it imports the module when it starts."""

from __future__ import annotations

import schemathesis

# Pieces of an upload are bytes, which its own serializer of octet streams makes.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
