"""The HTTP server: hands requests to their handlers, and turns every failure into its reply."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import uvicorn
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as WebRoute
from starlette.types import ASGIApp

from nd_synapse.console import app
from nd_synapse.errors import NDSynapseError, UsageError
from nd_synapse.local_boss import routing, tokens
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.cutouts import UnservedError
from nd_synapse.local_boss.requests import (
    BLOSC,
    JSON,
    LARGEST_JSON_BYTES,
    Call,
    NotJsonError,
    UnacceptableError,
    UnauthorizedError,
    identify,
    negotiated,
)
from nd_synapse.local_boss.responses import BossError, Code, detail, refusal, web_page
from nd_synapse.local_boss.routes_data import LARGEST_UPLOAD_BYTES

__all__ = ["application", "bound", "configured", "serve"]

logger = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
READING = frozenset({"GET", "HEAD", "OPTIONS"})
# As long as the proxy of the real server: intern does not retry when a connection was closed while it was idle.
KEEP_ALIVE_S = 75
SHUTDOWN_LIMIT_S = 2
# Each may hold a cutout of half a gigabyte, unpacked and packed.
VOXEL_WORKERS = 4
CATALOG_WORKERS = 4
LONGEST_URL_BYTES = 8150
"""nginx, in front of the real server, takes a request line of 8 KiB: metadata travel in it."""
MOST_REQUESTS = 256
"""Connections and requests at once; beyond, uvicorn answers 503. A job has some ten."""


class TooLargeError(Exception):
    """The body is larger than the proxy in front of the real server lets through."""


class _Server:
    """Answers the requests for one data folder.

    Voxels and catalog have workers of their own, so that large cutouts do not hold up small requests, and none of
    them runs on the event loop.
    """

    def __init__(self, boss: Boss, bearers: Mapping[str, tokens.Rights]) -> None:
        self._boss = boss
        self._bearers = bearers
        self._routes = routing.routes(boss.strict)
        self._voxel_workers = CapacityLimiter(VOXEL_WORKERS)
        self._catalog_workers = CapacityLimiter(CATALOG_WORKERS)
        # bounds the memory: no more uploads are received than are worked on
        self._uploads = asyncio.Semaphore(VOXEL_WORKERS)

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        path = str(request.scope["path"])
        if len(request.scope["raw_path"]) + len(request.scope["query_string"]) > LONGEST_URL_BYTES:
            return web_page(414, "414 Request-URI Too Large")
        if re.fullmatch("/ping/?", path):
            return JSONResponse({"ip": request.client.host if request.client else None})
        found = routing.find(self._routes, path)
        if found is None:
            return _unknown(path)
        route, names = found
        media = negotiated(request.headers.get("accept", "*/*"), route.media)
        try:
            return await self._routed(request, route, names, media)
        except UnauthorizedError as error:
            if media != JSON and self._boss.strict:
                return _fault()
            return detail(401, str(error), {"WWW-Authenticate": 'Bearer realm="api"'})
        except UnacceptableError:
            return detail(406, "Could not satisfy the request Accept header.")
        except BossError as error:
            return _fault() if self._fails_to_refuse(route, request, error) else refusal(error)
        except NotJsonError as error:
            return detail(400, f"JSON parse error - {error}")
        except TooLargeError:
            return web_page(413, "413 Request Entity Too Large")
        except UnservedError:
            return _fault()
        except ClientDisconnect:
            logger.debug("the client left before it had sent its body")
            return Response(status_code=400)
        except NDSynapseError as error:
            # the path comes from the client, and may look like a log line of ours
            logger.error("%s %.200r failed: %s", request.method, path, error)  # noqa: TRY400 - reported, not a defect
            if self._boss.strict:
                return _fault()
            message = "The data folder cannot be read or written, see the log of the server"
            return refusal(BossError(500, Code.UNHANDLED_EXCEPTION, message))

    async def _routed(
        self, request: Request, route: routing.Route, names: Mapping[str, str], media: str | None
    ) -> Response:
        """Check the token, receive the body, and let a worker answer; `media` is what the reply is to be."""
        if media is None:
            # an error is then given in the default of the route, into which BOSS fails to put it if that is Blosc
            raise UnacceptableError if route.media[0] == JSON else UnservedError
        rights = identify(request.headers.get("authorization"), self._bearers, request.method in READING)
        handler = route.methods.get(request.method)
        if handler is None:
            return _not_allowed(request, route) if media == JSON else _fault()
        if BLOSC in route.media and request.method == "POST" and not _sends_blosc(request):
            return _fault()
        call = Call(self._boss, request.method, rights, dict(request.query_params), media)
        if request.method in READING:
            workers = self._voxel_workers if route.voxels else self._catalog_workers
            return await to_thread.run_sync(handler, call, names, limiter=workers)
        if not route.voxels:
            call = replace(call, body=await _received(request, LARGEST_JSON_BYTES))
            return await to_thread.run_sync(handler, call, names, limiter=self._catalog_workers)
        async with self._uploads:
            call = replace(call, body=await _received(request, LARGEST_UPLOAD_BYTES))
            return await to_thread.run_sync(handler, call, names, limiter=self._voxel_workers)

    def _fails_to_refuse(self, route: routing.Route, request: Request, error: BossError) -> bool:
        """Return whether the real server fails on this refusal: a cutout denied to a caller without a token."""
        anonymous = "authorization" not in request.headers
        return self._boss.strict and BLOSC in route.media and anonymous and error.code == Code.MISSING_PERMISSION


async def _received(request: Request, limit_bytes: int) -> bytes:
    """Return the body, or raise TooLargeError."""
    if _announced_bytes(request) > limit_bytes:
        raise TooLargeError
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit_bytes:
            raise TooLargeError
    return bytes(body)


def _fault() -> Response:
    return web_page(500, "Server Error (500)")


def application(boss: Boss, bearers: Mapping[str, tokens.Rights]) -> Starlette:
    """Return the ASGI application of a data folder."""
    routes = [WebRoute("/{path:path}", _Server(boss, bearers).answer, methods=METHODS)]
    return Starlette(routes=routes, exception_handlers={Exception: lambda _request, _error: _fault()})


def configured(answering: ASGIApp, *, verbose: bool = False) -> uvicorn.Config:
    """Return how an application is served."""
    return uvicorn.Config(
        answering,
        limit_concurrency=MOST_REQUESTS,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=verbose,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
    )


def serve(data: Path, host: str, port: int, strict: bool, verbose: bool) -> None:
    """Serve a data folder until SIGTERM or SIGINT; print the URL on a line of its own when ready."""
    # The default handling would end the process as killed. What was answered is on disk, so leaving is always safe.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    boss = Boss(data, strict)
    bearers = tokens.load(data)
    swept = boss.voxels.sweep()
    if swept:
        logger.info("removed %d unfinished chunk files of writers that were killed", swept)
    config = configured(application(boss, bearers), verbose=verbose)
    with bound(host, port) as listener:
        name = f"[{host}]" if ":" in host else host
        _AnnouncedServer(config, f"http://{name}:{listener.getsockname()[1]}").run(sockets=[listener])
    os._exit(0)


class _AnnouncedServer(uvicorn.Server):
    """A server that prints its address once it accepts connections."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the URL."""
        await super().startup(sockets=sockets)
        app.write_stdout(f"{self._url}\n")


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    requested, remedy = f"address {host}:{port}", "Give a free --port, or 0 for any"
    if not 0 <= port < 2**16:
        # the system would take the remainder
        raise UsageError(requested, "ports are from 0 to 65535", remedy)
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address, family=family)
    except socket.gaierror as error:
        # what is no host name is not repeated: it may be a token in the wrong place
        raise UsageError("--host", str(error.strerror).lower(), "Give an address of this machine") from error
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(requested, str(error), remedy) from error
    # Inherited by the connections. asyncio sets it only where the socket names its protocol, which this one does not;
    # without it every small reply waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _announced_bytes(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 19 else LARGEST_UPLOAD_BYTES + 1


def _unknown(path: str) -> Response:
    old = re.match(r"/v(?!1/)[0-9]+(\.[0-9]+)?/", path)
    if old:
        return refusal(BossError(400, Code.UNSUPPORTED_VERSION, f"Unsupported API version: {old.group().strip('/')}"))
    return web_page(404, "Not Found")


def _sends_blosc(request: Request) -> bool:
    """Return whether an upload is in Blosc, and not empty."""
    sent = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return sent == BLOSC and _announced_bytes(request) > 0


def _not_allowed(request: Request, route: routing.Route) -> Response:
    return detail(405, f'Method "{request.method}" not allowed.', {"Allow": ", ".join(route.methods)})
