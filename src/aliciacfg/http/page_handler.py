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

# These are kept compressed; images but SVG are compressed already.
_COMPRESSED = ("text/", "application/json", "image/svg+xml")
_MIN_BYTES = 512
_CODING = "gzip"
_PLAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """A page's content as it is kept.

    Attributes:
        body: The bytes, compressed where that saves something.
        packed: Whether they are compressed.
        etag: The opaque value of the entity tag of the content as it is.
    """

    body: bytes
    packed: bool
    etag: str

    @property
    def packed_etag(self) -> str:
        """The value for the compressed form: each form has another one (RFC 9110 §8.8.3.3)."""
        return f"{self.etag}-{_CODING}"

    def plain(self) -> bytes:
        """Return the content as it is."""
        return gzip.decompress(self.body) if self.packed else self.body


class PageHandler:
    """Answers the requests for one page."""

    def __init__(self, page: Page) -> None:
        """Read nothing before the first request."""
        self._page = page
        self._reading = asyncio.Lock()
        self._content: _Kept | None = None
        # The content as it is, while clients ask for it: one copy for all to which it is sent.
        self._plain: bytes | None = None
        self._forgetting: asyncio.TimerHandle | None = None

    async def __call__(self, request: web.Request) -> Reply:
        """Return the page in the form that the client accepts, or 304 if it has that or the other one."""
        kept = await self._read()
        # A browser asks whether its copy is the present one, so that no page mixes two versions.
        headers = {**self._page.headers, "Cache-Control": "no-cache"}
        if kept.packed:
            headers["Vary"] = hdrs.ACCEPT_ENCODING
        held = self._held(request, kept)
        if held is not None:
            return Reply(None, HTTPStatus.NOT_MODIFIED.value, {**headers, "ETag": f'"{held}"'})
        headers["Content-Type"] = self._page.content_type
        if kept.packed and _accepts_gzip(request):
            headers |= {"Content-Encoding": _CODING, "ETag": f'"{kept.packed_etag}"'}
            return Reply(kept.body, self._page.status, headers)
        headers["ETag"] = f'"{kept.etag}"'
        return Reply(await self._read_plain(kept), self._page.status, headers)

    def _held(self, request: web.Request, kept: _Kept) -> str | None:
        """Return the tag of the form that the client has; None if it has none."""
        tags = [kept.etag, *([kept.packed_etag] if kept.packed else [])] if self._page.status == HTTPStatus.OK else []
        return next((tag for tag in tags if is_held(request, tag)), None)

    async def _read_plain(self, kept: _Kept) -> bytes:
        """Return the content as it is; the same object to all who ask within some seconds.

        Browsers and most programs accept the compressed form, so the plain one, a few MB, is not kept for longer.
        """
        if not kept.packed:
            return kept.body
        async with self._reading:
            plain = self._plain = self._plain or await asyncio.to_thread(kept.plain)
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(_PLAIN_SECONDS, self._forget_plain)
        return plain

    def _forget_plain(self) -> None:
        self._plain = self._forgetting = None

    async def _read(self) -> _Kept:
        """Return the content; the first call reads and compresses it."""
        if self._content is not None:
            return self._content
        async with self._reading:
            if self._content is None:
                self._content = await asyncio.to_thread(_read, self._page)
        return self._content


def _read(page: Page) -> _Kept:
    body = page.read()
    etag = hashlib.blake2b(body, digest_size=16).hexdigest()
    if len(body) < _MIN_BYTES or not page.content_type.startswith(_COMPRESSED):
        return _Kept(body, packed=False, etag=etag)
    # Without a time, so that all daemons of a home have the same bytes.
    return _Kept(gzip.compress(body, mtime=0), packed=True, etag=etag)


def _accepts_gzip(request: web.Request) -> bool:
    """Return whether ``Accept-Encoding`` names gzip, and not with a weight of 0 (RFC 9110 §12.5.3)."""
    for item in ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).lower().split(","):
        coding, _, parameters = item.partition(";")
        if coding.strip() == _CODING:
            weight = parameters.replace(" ", "").removeprefix("q=")
            return not (weight and weight.strip("0.") == "")
    return False
