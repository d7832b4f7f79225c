"""Serves pages: each is read and compressed once, and a client that has the present content gets no body."""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import hdrs, web

from aliciacfg.http.conditions import is_held
from aliciacfg.http.pages import Page
from aliciacfg.http.responses import Reply

# Of these a compressed form is kept; images but SVG are compressed already.
_COMPRESSED = ("text/", "application/json", "image/svg+xml")
_MIN_BYTES = 512
_CODING = "gzip"


@dataclass(frozen=True, slots=True)
class _Form:
    """One form of a page's content.

    Attributes:
        body: The bytes.
        etag: The opaque value of the entity tag, another one for each form (RFC 9110 §8.8.3.3).
        coding: The content coding; None for none.
    """

    body: bytes
    etag: str
    coding: str | None


class PageHandler:
    """Answers the requests for one page."""

    def __init__(self, page: Page) -> None:
        """Read nothing before the first request."""
        self._page = page
        self._reading = asyncio.Lock()
        self._plain: _Form | None = None
        self._compressed: _Form | None = None

    async def __call__(self, request: web.Request) -> Reply:
        """Return the page in the form that the client accepts, or 304 if it has that or the other one."""
        plain = await self._read()
        form = plain if self._compressed is None or not _accepts_gzip(request) else self._compressed
        # A browser asks whether its copy is the present one, so that no page mixes two versions.
        headers = {**self._page.headers, "Cache-Control": "no-cache"}
        if self._compressed is not None:
            headers["Vary"] = hdrs.ACCEPT_ENCODING
        held = self._held(request)
        if held is not None:
            return Reply(None, HTTPStatus.NOT_MODIFIED.value, {**headers, "ETag": f'"{held.etag}"'})
        if form.coding is not None:
            headers["Content-Encoding"] = form.coding
        headers |= {"Content-Type": self._page.content_type, "ETag": f'"{form.etag}"'}
        return Reply(form.body, self._page.status, headers)

    def _held(self, request: web.Request) -> _Form | None:
        """Return the form that the client has; None if it has none."""
        forms = () if self._page.status != HTTPStatus.OK else (self._plain, self._compressed)
        return next((form for form in forms if form is not None and is_held(request, form.etag)), None)

    async def _read(self) -> _Form:
        """Return the content as it is; the first call reads and compresses it."""
        if self._plain is not None:
            return self._plain
        async with self._reading:
            if self._plain is None:
                plain, self._compressed = await asyncio.to_thread(_read, self._page)
                self._plain = plain
        return self._plain


def _read(page: Page) -> tuple[_Form, _Form | None]:
    body = page.read()
    etag = hashlib.blake2b(body, digest_size=16).hexdigest()
    plain = _Form(body, etag, None)
    if len(body) < _MIN_BYTES or not page.content_type.startswith(_COMPRESSED):
        return plain, None
    # Without a time, so that all daemons of a home have the same bytes.
    return plain, _Form(gzip.compress(body, mtime=0), f"{etag}-{_CODING}", _CODING)


def _accepts_gzip(request: web.Request) -> bool:
    """Return whether ``Accept-Encoding`` names gzip, and not with a weight of 0 (RFC 9110 §12.5.3)."""
    for item in ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).lower().split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip() == _CODING:
            weight = parameters.replace(" ", "").removeprefix("q=")
            return not (weight and weight.strip("0.") == "")
    return False
