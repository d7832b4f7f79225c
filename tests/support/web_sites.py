"""Web servers beside a daemon: a proxy before it, and a site of somebody else."""

import contextlib
from collections.abc import AsyncGenerator

from aiohttp import ClientError, ClientSession, web

from daemons import Daemon

# What belongs to one connection alone (RFC 9110 §7.6.1), and what the client's library puts there itself.
_OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"}


@contextlib.asynccontextmanager
async def _serving(application: web.Application) -> AsyncGenerator[str, None]:
    """Serve an application on a port of its own; yields its address."""
    # A stream ends with the page that reads it.
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def behind_prefix(daemon: Daemon, prefix: str) -> AsyncGenerator[str, None]:
    """Serve a daemon below a path of another server, as nginx does; yields the address of its console.

    Every answer passes as it comes, so that events do too; the Host and the headers of the browser are passed on. While
    the daemon is away it answers 502.
    """

    async def forward(request: web.Request) -> web.StreamResponse:
        url = daemon.url + request.raw_path.removeprefix(prefix)
        sent = {name: value for name, value in request.headers.items() if name.lower() not in _OF_A_CONNECTION}
        body = await request.read()
        try:
            answer = await client.request(request.method, url, headers=sent, data=body, allow_redirects=False)
        except ClientError:
            return web.Response(status=502)
        async with answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_A_CONNECTION}
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            with contextlib.suppress(ClientError):
                async for part in answer.content.iter_any():
                    await response.write(part)
            await response.write_eof()
            return response

    application = web.Application()
    application.router.add_route("*", prefix + "/{rest:.*}", forward)
    async with (
        ClientSession(auto_decompress=False, skip_auto_headers=("User-Agent", "Accept-Encoding")) as client,
        _serving(application) as address,
    ):
        yield address + prefix + "/"


@contextlib.asynccontextmanager
async def site(html: str) -> AsyncGenerator[str, None]:
    """Serve a page of another site, at every path; yields its address."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", page)
    async with _serving(application) as address:
        yield f"{address}/"
