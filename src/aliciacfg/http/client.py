"""The HTTP client of the command line: sends requests to a daemon, over the network or its Unix socket."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from aliciacfg import documents, tls
from aliciacfg.documents import JsonObject
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.operations.table import BY_NAME


async def ask(
    url: str,
    operation: str,
    target: str | None,
    fields: JsonObject,
    *,
    timeout_seconds: float,
    token: str | None = None,
    socket: Path | None = None,
    ca: str | None = None,
) -> JsonObject:
    """Send one request and return its answer, a success or a refusal.

    Args:
        url: Where the daemon listens, as in ``http://127.0.0.1:8026``.
        operation: A name of the operations table.
        target: The service or environment that the operation concerns.
        fields: The request's fields. Those that are None are left out unless the operation requires them.
        timeout_seconds: How long to wait for the answer.
        token: Bearer token of the sender.
        socket: The daemon's Unix socket, used instead of the network.
        ca: A PEM file of trusted certificate authorities for HTTPS; None for those of the system.

    Raises:
        BrokerUnavailable: There was no answer.
        OperationError: The answer is not a JSON object.
        SettingsError: ``ca`` cannot be used.
    """
    row = BY_NAME[operation]
    content = {key: value for key, value in fields.items() if value is not None or key in row.required}
    body: object = None
    if row.body in {"config", "patch"}:
        body = content.pop(row.body)
    elif row.body == "fields":
        in_path = "{target}" in row.path or target is None
        body, content = (content if in_path else {**content, "service": target}), {}
    query = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in content.items()}
    return await _send(
        row.method,
        url.rstrip("/") + row.path.replace("{target}", target or ""),
        query,
        None if body is None else documents.encode(body),
        timeout_seconds=timeout_seconds,
        token=token,
        socket=socket,
        ca=ca,
    )


async def published_key(url: str, *, timeout_seconds: float, ca: str | None = None) -> JsonObject:
    """Return the public sealing key of a daemon, or its refusal; arguments as for ``ask``.

    Raises:
        BrokerUnavailable: There was no answer.
        OperationError: The answer is not a JSON object.
        SettingsError: ``ca`` cannot be used.
    """
    return await _send("GET", url.rstrip("/") + "/keys/current", {}, None, timeout_seconds=timeout_seconds, ca=ca)


async def _send(
    method: str,
    url: str,
    query: dict[str, str],
    body: bytes | None,
    *,
    timeout_seconds: float,
    token: str | None = None,
    socket: Path | None = None,
    ca: str | None = None,
) -> JsonObject:
    headers = {} if body is None else {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    context = tls.client_context(ca=ca, ca_setting="--ca") if _is_https(url) else True
    connector = None if socket is None else aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            session.request(method, url, params=query, data=body, headers=headers, ssl=context) as response,
        ):
            return documents.decode_object(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BrokerUnavailable(f"no answer from {url}: {_reason(error, url)}") from error


def _is_https(url: str) -> bool:
    return urlsplit(url).scheme.lower() == "https"


def _reason(error: Exception, url: str) -> str:
    """Return why there was no answer, and what to do."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if _is_https(url):
        if explanation := tls.explain(cause, ca_setting="--ca"):
            return explanation
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection; if it serves HTTPS, use https://…"
    if isinstance(cause, OSError) and cause.errno is not None:
        # Its own text quotes how Python calls the system.
        return f"{os.strerror(cause.errno)}; is the daemon running?"
    return f"{cause or 'timeout'}; is the daemon running?"
