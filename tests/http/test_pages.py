"""The static pages; no server."""

import hashlib
import re
from pathlib import Path

from aliciacfg.http.pages import pages
from repository import ROOT

SWAGGER_UI = ROOT / "src" / "aliciacfg" / "http" / "page" / "swagger-ui"


def test_every_page_can_be_read():
    """The documents as they were given, and each file of the page at /docs."""
    found = pages(openapi=lambda: b"{}", asyncapi=lambda: b"[]")
    assert found["/openapi.json"].read() == b"{}"
    assert found["/asyncapi.json"].read() == b"[]"
    assert all(page.read() for page in found.values())


def test_the_page_loads_what_is_served():
    """Every script, stylesheet and image of index.html has its path; nothing comes from elsewhere."""
    found = pages(openapi=lambda: b"", asyncapi=lambda: b"")
    html = found["/docs"].read().decode()
    loaded = re.findall(r'(?:<script src|<link [^>]*href|<img src)="([^"]+)"', html)
    assert {f"/{path}" for path in loaded} == {path for path in found if path.startswith("/docs/")}
    assert "https:" not in html


def test_swagger_ui_is_what_its_readme_says():
    """Unchanged files, with licence and version; the README lists every one of them."""
    text = (SWAGGER_UI / "README.md").read_text()
    listed = dict(line.split()[::-1] for line in re.findall(r"^    [0-9a-f]{64}  \S+$", text, re.MULTILINE))
    files = {path.name: _sha256(path) for path in SWAGGER_UI.iterdir() if path.name != "README.md"}
    assert files == listed
    version = re.search(r"\| version \| (\S+) \|", text)
    assert version is not None
    assert f"swagger-ui-dist-{version[1]}.tgz" in text
    assert f'PACKAGE_VERSION:"{version[1]}"' in (SWAGGER_UI / "swagger-ui-bundle.js").read_text()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
