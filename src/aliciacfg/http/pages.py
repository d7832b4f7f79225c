"""Static pages of the HTTP server: both API documents, and ``/docs``, where Swagger UI renders one of them.

Swagger UI is vendored, so that the page needs no other server; its Content-Security-Policy allows none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PAGE = Path(__file__).with_name("page")
_SWAGGER_UI = _PAGE / "swagger-ui"
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"
_CSS = "text/css; charset=utf-8"
_JAVASCRIPT = "text/javascript; charset=utf-8"

# img-src data: Swagger UI's stylesheet contains its icons. connect-src 'self': "Try it out" sends requests to this
# daemon.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Page:
    """The content at one path.

    Attributes:
        content_type: The value of the header ``Content-Type``.
        content: The content itself, or the file that holds it.
        headers: Further headers of the response.
    """

    content_type: str
    content: bytes | Path
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def read(self) -> bytes:
        """Return the content; blocks on the disk where it is a file."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def pages(*, openapi: bytes, asyncapi: bytes) -> dict[str, Page]:
    """Return every page by its path.

    Args:
        openapi: The OpenAPI document as JSON.
        asyncapi: The AsyncAPI document as JSON.
    """
    security = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return {
        "/openapi.json": Page(_JSON, openapi),
        "/asyncapi.json": Page(_JSON, asyncapi),
        "/docs": Page(_HTML, _PAGE / "index.html", security),
        "/docs/page.css": Page(_CSS, _PAGE / "page.css"),
        "/docs/start.js": Page(_JAVASCRIPT, _PAGE / "start.js"),
        "/docs/icon.svg": Page("image/svg+xml", _PAGE / "icon.svg"),
        "/docs/swagger-ui.css": Page(_CSS, _SWAGGER_UI / "swagger-ui.css"),
        "/docs/swagger-ui-bundle.js": Page(_JAVASCRIPT, _SWAGGER_UI / "swagger-ui-bundle.js"),
    }
