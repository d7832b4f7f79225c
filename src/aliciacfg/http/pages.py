"""Static pages of the HTTP server: the console, and both API documents with ``/docs``, where Swagger UI renders one.

The console is built from ``web/`` and Swagger UI is vendored, so that no page needs another server; their
Content-Security-Policy allows none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PAGE = Path(__file__).with_name("page")
_SWAGGER_UI = _PAGE / "swagger-ui"
_CONSOLE = Path(__file__).with_name("console")
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
# The console's own stylesheet has its icons; nothing of it is inline.
_CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CONTENT_TYPES = {
    ".html": _HTML,
    ".css": _CSS,
    ".js": _JAVASCRIPT,
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


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
        **_console(),
        "/openapi.json": Page(_JSON, openapi),
        "/asyncapi.json": Page(_JSON, asyncapi),
        "/docs": Page(_HTML, _PAGE / "index.html", security),
        "/docs/page.css": Page(_CSS, _PAGE / "page.css"),
        "/docs/start.js": Page(_JAVASCRIPT, _PAGE / "start.js"),
        "/docs/icon.svg": Page("image/svg+xml", _PAGE / "icon.svg"),
        "/docs/swagger-ui.css": Page(_CSS, _SWAGGER_UI / "swagger-ui.css"),
        "/docs/swagger-ui-bundle.js": Page(_JAVASCRIPT, _SWAGGER_UI / "swagger-ui-bundle.js"),
    }


def _console() -> dict[str, Page]:
    """Return the files of the console: the page itself at ``/``, the others below ``/console/``."""
    security = {
        "Content-Security-Policy": _CONSOLE_POLICY,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        # A browser asks whether its copy is the present one, so that no page mixes two versions.
        "Cache-Control": "no-cache",
    }
    return {
        "/" if file.name == "index.html" else f"/console/{file.name}": Page(_CONTENT_TYPES[file.suffix], file, security)
        for file in sorted(_CONSOLE.iterdir())
    }
