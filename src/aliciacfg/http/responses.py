"""What the responses have in common: media types and headers."""

from collections.abc import Mapping

from aiohttp import web

from aliciacfg.api.fields import Form

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# RFC 9512, and what curl prints on a terminal.
MEDIA_TYPES: Mapping[Form, str] = {"json": JSON, "yaml": "application/yaml", "env": "text/plain"}
HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def json_response(body: bytes, *, status: int = 200, etag: str | None = None) -> web.Response:
    """Return a response with a JSON body."""
    headers = HEADERS if etag is None else {**HEADERS, "ETag": f'"{etag}"'}
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)
