"""What the HTTP adapter serves beside the operations: both API documents, and a page that shows one of them.

The page is Swagger UI out of a package. It loads nothing from outside, and its Content-Security-Policy would not let
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openapi_ui_bundles import swagger_ui

_OURS = Path(__file__).with_name("page")
_THEIRS = Path(swagger_ui.static_path)
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"
_CSS = "text/css; charset=utf-8"
_JAVASCRIPT = "text/javascript; charset=utf-8"

# Swagger UI has its icons as data: in its stylesheet; "try it out" asks this daemon.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Page:
    """What is at one path: ``content`` at hand, or a file."""

    content_type: str
    content: bytes | Path
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def read(self) -> bytes:
        """The content; from disk where it is a file."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


def pages(*, openapi: bytes, asyncapi: bytes) -> dict[str, Page]:
    """Every page by path.

    Args:
        openapi: The OpenAPI document as JSON.
        asyncapi: The AsyncAPI document as JSON.
    """
    security = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return {
        "/openapi.json": Page(_JSON, openapi),
        "/asyncapi.json": Page(_JSON, asyncapi),
        "/docs": Page(_HTML, _OURS / "index.html", security),
        "/docs/page.css": Page(_CSS, _OURS / "page.css"),
        "/docs/start.js": Page(_JAVASCRIPT, _OURS / "start.js"),
        "/docs/icon.svg": Page("image/svg+xml", _OURS / "icon.svg"),
        "/docs/swagger-ui.css": Page(_CSS, _THEIRS / "swagger-ui.css"),
        "/docs/swagger-ui-bundle.js": Page(_JAVASCRIPT, _THEIRS / "swagger-ui-bundle.js"),
    }
