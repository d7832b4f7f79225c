"""Asking a daemon over HTTP; the only module that imports aiohttp's client."""

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
    """Send one request.

    Args:
        url: Where the daemon listens, ``http://127.0.0.1:8026``.
        operation: A name of the operations table.
        target: The service or environment it is about.
        fields: The request's fields; those that are None are left out.
        timeout_seconds: How long to wait for the answer.
        token: Proves who asks.
        socket: The daemon's Unix socket, to be used instead of the network.
        ca: A file of certificate authorities to believe over HTTPS; None takes the system's.

    Returns:
        The answer, a success or a refusal.

    Raises:
        BrokerUnavailable: No answer came.
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
    return await _answer(
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
    """What a daemon says its sealing key is, or its refusal.

    Raises:
        BrokerUnavailable: No answer came.
        SettingsError: ``ca`` cannot be used.
    """
    return await _answer("GET", url.rstrip("/") + "/keys/current", {}, None, timeout_seconds=timeout_seconds, ca=ca)


async def _answer(
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
            answer = documents.decode_object(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BrokerUnavailable(f"no answer from {url}: {_why(error, url)}") from error
    return answer


def _is_https(url: str) -> bool:
    return urlsplit(url).scheme.lower() == "https"


def _why(error: Exception, url: str) -> str:
    """What went wrong, and what to do."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if _is_https(url):
        if told := tls.explain(cause, ca_setting="--ca"):
            return told
    elif isinstance(error, aiohttp.ServerDisconnectedError):
        return "it ended the connection; if it serves HTTPS, ask https://…"
    return f"{cause or 'timeout'}; is the daemon running?"
