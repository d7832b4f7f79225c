"""Static pages of the HTTP server: the console, and both API documents with ``/docs``, where Swagger UI renders one.

The console is built from ``web/`` and Swagger UI is vendored, so that no page needs another server; their
Content-Security-Policy allows none.
"""

from collections.abc import Callable, Mapping
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
_NOT_BUILT = b"""\
<!doctype html>
<html lang="en">
<title>aliciacfg</title>
<h1>The console is not here</h1>
<p>This installation lacks the built files of the console. Everything else works: <a href="docs">the API</a>,
<a href="health">the health of the daemon</a>, and the command <code>aliciacfg</code>.</p>
<p>Install a wheel, or build the files in a copy of the sources with <code>make console</code>; then restart the daemon.
</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class Page:
    """The content at one path.

    Attributes:
        content_type: The value of the header ``Content-Type``.
        content: The content itself, the file that holds it, or a function that makes it.
        headers: Further headers of the response.
        status: The HTTP status.
    """

    content_type: str
    content: bytes | Path | Callable[[], bytes]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    status: int = 200

    def read(self) -> bytes:
        """Return the content; blocks while a file is read or a function makes it."""
        match self.content:
            case bytes():
                return self.content
            case Path():
                return self.content.read_bytes()
            case make:
                return make()


def pages(*, openapi: Callable[[], bytes], asyncapi: Callable[[], bytes], console: Path = _CONSOLE) -> dict[str, Page]:
    """Return every page by its path.

    Args:
        openapi: Returns the OpenAPI document as JSON; called in a thread at the first request.
        asyncapi: The same of the AsyncAPI document.
        console: The directory with the console's built files.
    """
    security = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return {
        **_console(console),
        "/openapi.json": Page(_JSON, openapi),
        "/asyncapi.json": Page(_JSON, asyncapi),
        "/docs": Page(_HTML, _PAGE / "index.html", security),
        "/docs/page.css": Page(_CSS, _PAGE / "page.css"),
        "/docs/start.js": Page(_JAVASCRIPT, _PAGE / "start.js"),
        "/docs/icon.svg": Page("image/svg+xml", _PAGE / "icon.svg"),
        "/docs/swagger-ui.css": Page(_CSS, _SWAGGER_UI / "swagger-ui.css"),
        "/docs/swagger-ui-bundle.js": Page(_JAVASCRIPT, _SWAGGER_UI / "swagger-ui-bundle.js"),
    }


def _console(directory: Path) -> dict[str, Page]:
    """Return the files of the console: the page itself at ``/``, the others below ``/console/``."""
    security = {
        "Content-Security-Policy": _CONSOLE_POLICY,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if not (directory / "index.html").is_file():
        return {"/": Page(_HTML, _NOT_BUILT, security, status=404)}
    return {
        "/" if file.name == "index.html" else f"/console/{file.name}": Page(_CONTENT_TYPES[file.suffix], file, security)
        for file in sorted(directory.iterdir())
        if file.suffix in _CONTENT_TYPES
    }
