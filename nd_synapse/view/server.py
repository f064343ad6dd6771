"""The server of the viewer: neuroglancer's client, the volumes chunk by chunk, the points; on loopback alone."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import re
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from nd_synapse.console import app
from nd_synapse.errors import NDSynapseError, StorageError, UsageError
from nd_synapse.view.layer import Layer
from nd_synapse.view.run import OpenRun
from nd_synapse.view.scene import ImageLayer

__all__ = ["application", "bound", "client_folder", "serve"]

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_FIRST = "first"
"""The page of the first place is ``/v/first/``, that of a synapse ``/v/ID/``: the client wants such paths."""
_ID = re.compile(r"[0-9]{1,10}")
_GENERATION = "1"
_AT_ONCE = 4
"""Chunks that are computed at a time: bounds the memory."""
_IDLE_S = 15
_MOST_EVENTS = 3


def client_folder() -> Path:
    """Return the folder of the client, which comes with a package that not every installation needs."""
    found = importlib.util.find_spec("neuroglancer")
    folder = Path(found.origin).parent / "static" / "client" if found and found.origin else Path()
    if not (folder / "index.html").is_file():
        requested, remedy = "the viewer", "Install it: pip install 'nd-synapse[view]'"
        raise StorageError(requested, "the package neuroglancer, which has it, is not installed", remedy)
    return folder


def application(opened: OpenRun, base: str, at: int | None = None) -> Starlette:
    """Return the ASGI application of a run; `base` is the URL that it is served at.

    ``/`` leads to the viewer, at the synapse `at`, and ``/?at=ID`` to one in particular.
    """
    layers: dict[str, Layer] = dict(opened.labels)
    images = []
    for number, (name, layer) in enumerate(opened.images.items()):
        layers[f"image{number}"] = layer
        images.append(ImageLayer(name, f"precomputed://{base}/image{number}"))

    def start(request: Request) -> Response:
        wanted = request.query_params.get("at", _FIRST if at is None else str(at))
        try:
            return Response(status_code=404) if state_of(wanted) is None else RedirectResponse(f"{base}/v/{wanted}/")
        except NDSynapseError as error:
            return PlainTextResponse(f"{error}\n", 404)

    def state_of(place: str) -> dict[str, Any] | None:
        if place != _FIRST and not _ID.fullmatch(place):
            return None
        return opened.scene.state(images, base, None if place == _FIRST else int(place))

    return Starlette(
        routes=[
            Route("/", start),
            Route("/events/{place}", _Events(state_of).answer),
            Route("/state/{place}", lambda _: JSONResponse({"g": _GENERATION}), methods=["POST"]),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
            Mount("/v/{place}", StaticFiles(directory=client_folder(), html=True)),
            Mount("/points", StaticFiles(directory=opened.points)),
            *_volumes(layers),
        ],
        # a page elsewhere whose name leads to this machine cannot read the images
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"])],
    )


def _volumes(layers: Mapping[str, Layer]) -> list[Route]:
    """Return the routes to the metadata and the chunks of the volumes."""
    limiter = CapacityLimiter(_AT_ONCE)

    def info(request: Request) -> Response:
        layer = layers.get(request.path_params["layer"])
        return Response(status_code=404) if layer is None else JSONResponse(layer.info())

    async def chunk(request: Request) -> Response:
        layer = layers.get(request.path_params["layer"])
        if layer is None:
            return Response(status_code=404)
        key, name = request.path_params["key"], request.path_params["name"]
        try:
            body = await to_thread.run_sync(layer.chunk, key, name, limiter=limiter)
        except NDSynapseError as error:
            log.error("%s", error)  # noqa: TRY400 - the volume or its server, no defect
            return PlainTextResponse(f"{error}\n", 503)
        if body is None:
            return Response(status_code=404)
        return Response(body, media_type="application/octet-stream", headers={"Cache-Control": "max-age=3600"})

    return [Route("/{layer}/info", info), Route("/{layer}/{key}/{name}", chunk)]


class _Events:
    """The connections on which pages wait for a state, which shows also that the server is there.

    A state in the address would be lost where a machine is slow: the client (2.41) writes the address anew while it
    restores the first layer, which fails as long as a layer of points is not restored. Browsers open six connections
    to a server, and keep those of pages that were left: the oldest are closed, and a page that is looked at asks anew.
    """

    def __init__(self, state_of: Callable[[str], dict[str, Any] | None]) -> None:
        self._state_of = state_of
        self._open: deque[asyncio.Event] = deque()

    async def answer(self, request: Request) -> Response:
        """Send the state to a page that has none yet, and keep the connection."""
        try:
            is_new = request.query_params.get("gs") == ""
            state = self._state_of(request.path_params["place"]) if is_new else None
        except NDSynapseError:
            state = None
        closing = asyncio.Event()
        self._open.append(closing)
        if len(self._open) > _MOST_EVENTS:
            self._open.popleft().set()

        async def sent() -> AsyncIterator[str]:
            if state is not None:
                yield f"data: {json.dumps({'k': 's', 's': state, 'g': _GENERATION})}\n\n"
            while not closing.is_set():
                yield ": \n\n"
                with suppress(TimeoutError):
                    await asyncio.wait_for(closing.wait(), _IDLE_S)

        return StreamingResponse(sent(), media_type="text/event-stream")


def bound(port: int) -> socket.socket:
    """Return a socket on loopback that listens; port 0 is any free one."""
    try:
        listener = socket.create_server((_HOST, port))
    except OSError as error:
        raise UsageError(f"--port {port}", str(error.strerror).lower(), "Give a free one, or leave it out") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(opened: OpenRun, listener: socket.socket, at: int | None) -> None:
    """Serve a run until SIGINT or SIGTERM, which end the process with exit code 0; print the URL when ready."""
    base = f"http://{_HOST}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        application(opened, base, at),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
    )
    _Announced(config, base).run(sockets=[listener])


class _Announced(uvicorn.Server):
    """A server that prints its address once it accepts connections, and ends at once: it holds nothing to be saved."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; connections of browsers would stay open."""
        del sig, frame
        os._exit(os.EX_OK)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the URL."""
        await super().startup(sockets=sockets)
        app.write_stdout(f"{self._url}/\n")
        log.info("open the address above in a browser; Ctrl-C ends the view")
