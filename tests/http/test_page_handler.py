"""Pages over HTTP: compressed, compared with the client's copy, with the headers of a safe page."""

import contextlib
import gzip
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from aliciacfg.http.pages import Page, pages
from cases import case
from inprocess import core, listening

TEXT = b"let answer = 42;\n" * 100


@contextlib.asynccontextmanager
async def served(directory: Path, found: dict[str, Page]) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A client that decodes nothing."""
    files: dict[str, object] = {"environments/base.yaml": "", "environments/dev.yaml": "services: {}"}
    async with (
        core(directory, files) as made,
        listening(made, pages=found) as url,
        aiohttp.ClientSession(url, auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session,
    ):
        yield session


@pytest.fixture
async def session(tmp_path: Path) -> AsyncGenerator[aiohttp.ClientSession, None]:
    text, small = Page("text/javascript; charset=utf-8", TEXT), Page("text/plain", b"short")
    async with served(tmp_path, {"/text": text, "/small": small, "/image": Page("image/png", TEXT)}) as session:
        yield session


async def test_a_client_that_takes_gzip_gets_it(session: aiohttp.ClientSession):
    """By Accept-Encoding; the two forms have tags of their own, and caches know what they depend on."""
    for accepted, packed in [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity", False),
        ("x-gzip", False),
        ("", False),
    ]:
        with case(accepted, packed):
            async with session.get("/text", headers={"Accept-Encoding": accepted}) as response:
                body = await response.read()
                assert ("Content-Encoding" in response.headers) is packed
                assert (gzip.decompress(body) if packed else body) == TEXT
                assert response.headers["ETag"].endswith('-gzip"') is packed
                assert response.headers["Vary"] == "Accept-Encoding"
                assert int(response.headers["Content-Length"]) == len(body)


async def test_what_gains_nothing_is_sent_as_it_is(session: aiohttp.ClientSession):
    """Short texts, and images."""
    for path in ("/small", "/image"):
        async with session.get(path, headers={"Accept-Encoding": "gzip"}) as response:
            assert response.headers.keys().isdisjoint({"Content-Encoding", "Vary"})


async def test_a_present_copy_is_not_sent_again(session: aiohttp.ClientSession):
    """Of either form, whatever is accepted now; the answer has its tag."""
    tags = set[str]()
    for accepted in ("gzip", "identity"):
        async with session.get("/text", headers={"Accept-Encoding": accepted}) as response:
            tags.add(response.headers["ETag"])
    assert len(tags) == 2
    for tag in tags:
        async with session.get("/text", headers={"If-None-Match": f'"other", W/{tag}'}) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (304, tag, b"")
            assert response.headers["Cache-Control"] == "no-cache"
    async with session.get("/text", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


async def test_head_answers_what_get_would(session: aiohttp.ClientSession):
    """With the length of the form that would be sent."""
    async with session.get("/text", headers={"Accept-Encoding": "gzip"}) as response:
        expected = {**response.headers, "Date": ""}
    async with session.head("/text", headers={"Accept-Encoding": "gzip"}) as response:
        assert {**response.headers, "Date": ""} == expected
        assert await response.read() == b""


async def test_without_its_files_the_console_says_so(tmp_path: Path):
    """With a page that leads to what is there; the rest of the daemon works."""
    found = pages(openapi=lambda: b"{}", asyncapi=lambda: b"{}", console=tmp_path / "none")
    async with served(tmp_path, found) as session:
        async with session.get("/", headers={"If-None-Match": "*"}) as response:
            text = await response.text()
            assert (response.status, response.content_type) == (404, "text/html")
            assert "make console" in text
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        async with session.get("/docs") as response:
            assert response.status == 200


async def test_the_console_is_found_by_its_name(tmp_path: Path):
    """What people type leads to it, also below a proxy's path."""
    async with served(tmp_path, pages(openapi=lambda: b"{}", asyncapi=lambda: b"{}")) as session:
        for path in ("/console", "/console/"):
            async with session.get(path) as response:
                assert (response.status, response.url.path) == (200, "/")
                assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
