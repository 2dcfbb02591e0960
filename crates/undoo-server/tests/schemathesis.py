"""What Schemathesis cannot be told by its settings."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Tests of storages go to a port where nobody listens, never to what a made-up name may lead to."""
    if case.operation.definition.raw.get("operationId") != "storage_test" or not isinstance(case.body, dict):
        return
    provider = case.body.get("provider")
    if provider in ("ftp", "sftp"):
        case.body.update(host="127.0.0.1", port=1, attempts=1)
    elif provider != "local":
        case.body.update(endpoint="http://localhost:1", attempts=1)


@schemathesis.serializer("application/offset+octet-stream")
def upload(context, value):
    """Bytes of a file, which are what they are."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
