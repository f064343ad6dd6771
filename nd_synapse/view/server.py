"""The server of the viewer: neuroglancer's client, the volumes chunk by chunk, the points; on loopback alone."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import FrameType

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
from nd_synapse.view.scene import ImageLayer, link

__all__ = ["application", "bound", "client_folder", "serve"]

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_PAGE = "/v/view/"
"""The client wants a path of this form, as the server of its own Python package has it."""
_AT_ONCE = 4
"""Chunks that are computed at a time: bounds the memory."""
_IDLE_S = 15


def client_folder() -> Path:
    """Return the folder of the client, which comes with a package that not every installation needs."""
    found = importlib.util.find_spec("neuroglancer")
    folder = Path(found.origin).parent / "static" / "client" if found and found.origin else Path()
    if not (folder / "index.html").is_file():
        requested, remedy = "the viewer", "Install it: pip install neuroglancer"
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
        try:
            wanted = request.query_params.get("at")
            state = opened.scene.state(images, base, at if wanted is None else int(wanted))
        except (NDSynapseError, ValueError) as error:
            return PlainTextResponse(f"{error}\n", 404)
        return RedirectResponse(link(base + _PAGE, state))

    return Starlette(
        routes=[
            Route("/", start),
            Route("/events/view", _events),
            Route("/favicon.ico", lambda _: Response(status_code=204)),
            Mount(_PAGE.rstrip("/"), StaticFiles(directory=client_folder(), html=True)),
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


async def _events(_request: Request) -> Response:
    """Answer what the client asks to be told by Python: nothing, as long as the server runs."""

    async def nothing() -> AsyncIterator[str]:
        while True:
            yield ": \n\n"
            await asyncio.sleep(_IDLE_S)

    return StreamingResponse(nothing(), media_type="text/event-stream")


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
    config = uvicorn.Config(application(opened, base, at), ws="none", lifespan="off", log_config=None, access_log=False)
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
