"""The HTTP server: takes requests in, hands them to their handler, and turns every failure into its reply.

What is answered is decided by the routes; the protocol is uvicorn's and starlette's.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping
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
from nd_synapse.local_boss.bodies import Bodies, CrowdedError, TooLargeError
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.cutouts import UnservedError
from nd_synapse.local_boss.fault_proxy import FaultyLine, ReachableProtocol
from nd_synapse.local_boss.faults import FaultPlan
from nd_synapse.local_boss.limits import ACCEPTED_AT_ONCE, GuardedProtocol
from nd_synapse.local_boss.requests import BodyWantedError, Call, NotJsonError, UnauthorizedError, identify
from nd_synapse.local_boss.responses import BossError, Code, refusal, unauthorized, web_page
from nd_synapse.local_boss.routes_data import LARGEST_UPLOAD_BYTES
from nd_synapse.local_boss.throttle import Link, SlowLink

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
BODIES_BYTES = VOXEL_WORKERS * LARGEST_UPLOAD_BYTES
"""All bodies together: none of the workers would wait for one if there were as many as fit."""
LISTENING = 1024
"""Connections that wait to be accepted, as long as the server is busy; more have to try again."""


class _Desk:
    """Takes the requests of one data folder.

    Voxels and catalog have workers of their own, so that large cutouts do not hold up small questions, and none of
    them runs on the event loop.
    """

    def __init__(self, boss: Boss, bearers: Mapping[str, tokens.Rights]) -> None:
        self._boss = boss
        self._bearers = bearers
        self._routes = routing.routes(boss.strict)
        self._voxel_workers = CapacityLimiter(VOXEL_WORKERS)
        self._catalog_workers = CapacityLimiter(CATALOG_WORKERS)
        self._bodies = Bodies(BODIES_BYTES)

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        path = str(request.scope["path"])
        if _announced_bytes(request) > LARGEST_UPLOAD_BYTES:
            return web_page(413, "413 Request Entity Too Large")
        if re.fullmatch("/ping/?", path):
            return JSONResponse({"ip": request.client.host if request.client else None})
        found = routing.find(self._routes, path)
        if found is None:
            return _unknown(path)
        route, names = found
        try:
            rights = identify(request.headers.get("authorization"), self._bearers, request.method in READING)
            handler = route.methods.get(request.method)
            if handler is None or (route.cutout and not _speaks_blosc(request)):
                return _unfit(request, route)
            call = Call(self._boss, request.method, rights, dict(request.query_params))
            return await self._handled(request, route, handler, call, names)
        except UnauthorizedError as error:
            return self._fault() if route.cutout and self._boss.strict else unauthorized(str(error))
        except BossError as error:
            return self._fault() if self._fails_to_refuse(route, request, error) else refusal(error)
        except NotJsonError as error:
            return JSONResponse({"detail": f"JSON parse error - {error}"}, 400)
        except TooLargeError:
            return web_page(413, "413 Request Entity Too Large")
        except UnservedError:
            return self._fault()
        except CrowdedError:
            return web_page(503, "503 Service Temporarily Unavailable")
        except ClientDisconnect:
            logger.debug("the client left before it had sent its body")
            return Response(status_code=400)
        except NDSynapseError as error:
            # the path is anybody's text, and may look like lines of ours
            logger.error("%s %.200r failed: %s", request.method, path, error)  # noqa: TRY400 - it is told, not a defect
            return self._fault()

    async def _handled(
        self, request: Request, route: routing.Route, handler: routing.Handler, call: Call, names: Mapping[str, str]
    ) -> Response:
        """Have a worker answer a call, and a second time if it turns out that the body is needed."""
        workers = self._voxel_workers if route.voxels else self._catalog_workers
        try:
            return await to_thread.run_sync(handler, call, names, limiter=workers)
        except BodyWantedError as wanted:
            limit_bytes = wanted.limit_bytes
        async with self._bodies.received(request, limit_bytes) as body:
            return await to_thread.run_sync(handler, replace(call, body=body), names, limiter=workers)

    def _fails_to_refuse(self, route: routing.Route, request: Request, error: BossError) -> bool:
        """Tell whether the real server breaks down over this refusal: a cutout denied to a caller without a token."""
        anonymous = "authorization" not in request.headers
        return self._boss.strict and route.cutout and anonymous and error.code == Code.MISSING_PERMISSION

    def _fault(self) -> Response:
        return web_page(500, "Server Error (500)")


def application(boss: Boss, bearers: Mapping[str, tokens.Rights]) -> Starlette:
    """Return the ASGI application of a data folder."""
    desk = _Desk(boss, bearers)
    routes = [WebRoute("/{path:path}", desk.answer, methods=METHODS)]

    def fault(_request: Request, _error: Exception) -> Response:
        return web_page(500, "Server Error (500)")

    return Starlette(routes=routes, exception_handlers={Exception: fault})


def configured(
    answering: ASGIApp,
    link: Link,
    plan: FaultPlan | None = None,
    *,
    verbose: bool = False,
    kill: Callable[[], None] | None = None,
) -> uvicorn.Config:
    """Return how an application is served."""
    if plan is not None:
        answering = FaultyLine(answering, plan, kill)
    return uvicorn.Config(
        SlowLink(answering, link) if link.is_slow else answering,
        http=ReachableProtocol if plan is not None else GuardedProtocol,
        backlog=ACCEPTED_AT_ONCE,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=verbose,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
    )


def serve(
    data: Path, host: str, port: int, strict: bool, verbose: bool, link: Link, plan: FaultPlan | None = None
) -> None:
    """Serve a data folder until SIGTERM or SIGINT; print the URL on a line of its own when ready."""
    # The default handling would end the process as killed. What was answered is on disk, so leaving is always safe.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    boss = Boss(data, strict)
    bearers = tokens.load(data)
    swept = boss.voxels.sweep()
    if swept:
        logger.info("removed %d unfinished chunk files of writers that were killed", swept)
    answering = application(boss, bearers)
    with bound(host, port) as listener:
        config = configured(answering, link, plan, verbose=verbose)
        name = f"[{host}]" if ":" in host else host
        _Announced(config, f"http://{name}:{listener.getsockname()[1]}").run(sockets=[listener])
    os._exit(0)


class _Announced(uvicorn.Server):
    """A server that says where it is as soon as it is there."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the URL."""
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            listener.listen(LISTENING)  # as many as asyncio accepts at once would be few
        app.write_stdout(f"{self._url}\n")


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    if not 0 <= port < 2**16:
        # the system would take what is left of it
        raise UsageError(f"address {host}:{port}", "ports are from 0 to 65535", "Give a free --port, or 0 for any")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address, family=family, backlog=LISTENING)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"address {host}:{port}", str(error), "Give a free --port, or 0 for any") from error
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


def _speaks_blosc(request: Request) -> bool:
    """Tell whether a cutout request sends and takes what this server does."""
    accepted = {part.split(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")}
    if not accepted & {"application/blosc", "application/*", "*/*"}:
        return False
    sent = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return request.method != "POST" or (sent == "application/blosc" and _announced_bytes(request) > 0)


def _unfit(request: Request, route: routing.Route) -> Response:
    """Answer a method, a format or an empty upload that nobody serves there."""
    if route.cutout:
        return web_page(500, "Server Error (500)")
    detail = {"detail": f'Method "{request.method}" not allowed.'}
    return JSONResponse(detail, 405, headers={"Allow": ", ".join(route.methods)})
