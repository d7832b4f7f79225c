"""What all responses have in common: media types, headers, entity tags."""

from collections.abc import Mapping

from aiohttp import web

from aliciacfg.api.fields import Form

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# RFC 9512 for YAML; curl prints text/plain on a terminal.
MEDIA_TYPES: Mapping[Form, str] = {"json": JSON, "yaml": "application/yaml", "env": "text/plain"}
HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def respond(
    body: bytes, *, status: int = 200, media_type: str = JSON, charset: str | None = None, etag: str | None = None
) -> web.Response:
    """Return a response with the headers that every response has.

    Args:
        body: Encoded.
        status: The HTTP status.
        media_type: Of the body, without parameters.
        charset: Parameter of the media type.
        etag: The opaque value of the entity tag, without quotes.
    """
    return web.Response(body=body, status=status, content_type=media_type, charset=charset, headers=_with_etag(etag))


def not_modified(etag: str) -> web.Response:
    """Return the response to a client that has the current content (RFC 9110 §15.4.5)."""
    return web.Response(status=304, headers=_with_etag(etag))


def _with_etag(etag: str | None) -> Mapping[str, str]:
    return HEADERS if etag is None else {**HEADERS, "ETag": f'"{etag}"'}
