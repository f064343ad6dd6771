"""Requests to the local BOSS that the real BOSS answers otherwise, and data folders that are not sound."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from starlette.types import Message, Scope
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from nd_synapse.errors import NDSynapseError
from nd_synapse.local_boss import tokens
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.catalog import CHANNELS, COLLECTIONS, EXPERIMENTS, FRAMES
from nd_synapse.local_boss.codec import pack, unpack
from nd_synapse.local_boss.server import application
from tests.cases import Case

USERS: dict[str, dict[str, Any]] = {
    "owner-token": {"user": "owner", "role": "admin"},
    "describer": {"user": "describer", "rights": {"read": "all", "update": "all"}},
    "filler-token": {"user": "filler", "rights": {"add_volumetric_data": "all"}},
    "viewer-token": {"user": "viewer", "rights": {"read_volumetric_data": "all"}},
    "noter-token": {"user": "noter", "rights": {"add": "all"}},
    "channel-token": {"user": "of one channel", "rights": {"read": ["lab/pilot/img"]}},
    "stranger": {"user": "stranger"},
}
SHAPE = (2, 8, 16)
FRAME = {
    **{f"{axis}_start": 0 for axis in "xyz"},
    **{f"{axis}_stop": size for axis, size in zip("zyx", SHAPE, strict=True)},
    **{f"{axis}_voxel_size": 4 for axis in "xyz"},
    "voxel_unit": "nanometers",
}
EXPERIMENT = "/v1/collection/lab/experiment/pilot"
IMG = f"{EXPERIMENT}/channel/img"
DATA = "lab/pilot/img/0/0:16/0:8/0:2/"
CUTOUT, BLACK = f"/v1/cutout/{DATA}", f"/v1/cutout/to_black/{DATA}"
VOXELS = np.random.default_rng(0).integers(1, 256, SHAPE, np.uint8)


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        """Return the status, with BOSS's code if there is one."""
        code = self.json().get("code", "") if self.headers.get("content-type") == "application/json" else ""
        return f"{self.status} {code}".strip()

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Server:
    """The application of a data folder with the channels ``img`` and ``ab`` in ``lab/pilot``; it is called directly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens.json").write_text(json.dumps({"tokens": USERS}))
        (folder / "tokens.json").chmod(0o600)
        self.boss = Boss(folder)
        catalog = self.boss.catalog
        catalog.create(COLLECTIONS, "lab")
        catalog.create(FRAMES, "frame", fields=FRAME)
        catalog.create(FRAMES, "other", fields=FRAME)
        catalog.create(EXPERIMENTS, "lab", "pilot", fields={"coord_frame": "frame", "num_hierarchy_levels": 2})
        for name in ("img", "ab"):
            catalog.create(CHANNELS, "lab", "pilot", name, fields={"type": "image", "datatype": "uint8"})

    def ask(
        self, method: str, path: str, user: str | None = "owner-token", body: object = None, **headers: str
    ) -> Reply:
        """Send a request; `body` is voxels, or what is sent as JSON."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user is not None:
            sent["authorization"] = f"Token {user}"
        content = b""
        if isinstance(body, np.ndarray):
            content, sent["content-type"] = pack(body), "application/blosc"
        elif body is not None:
            content = json.dumps(body).encode()
        sent["content-length"] = str(len(content))
        return asyncio.run(self._called(method, path, sent, content))

    async def _called(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        got: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            got.append(message)

        where, _, query = path.partition("?")
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": where,
            "raw_path": where.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await application(self.boss, tokens.load(self.folder))(scope, receive, send)
        found = {name.decode(): value.decode() for name, value in got[0]["headers"]}
        return Reply(got[0]["status"], found, b"".join(message.get("body", b"") for message in got[1:]))


def _said(*asks: tuple[Any, ...], **headers: str) -> Callable[[Path], str]:
    """Return a case that sends these requests and gives their statuses and codes."""

    def observe(folder: Path) -> str:
        server = Server(folder)
        return ", ".join(str(server.ask(*ask, **headers)) for ask in asks)

    return observe


def _told(tell: Callable[[Server], object]) -> Callable[[Path], str]:
    """Return a case that gives what `tell` does of a server."""
    return lambda folder: str(tell(Server(folder)))


def _deleted(*asks: tuple[Any, ...]) -> Callable[[Path], str]:
    """Return a case that deletes ``img`` and then sends these requests."""

    def observe(folder: Path) -> str:
        server = Server(folder)
        server.ask("DELETE", IMG)
        return ", ".join(str(server.ask(*ask)) for ask in asks)

    return observe


def _damaged(asked: Callable[[Server], object]) -> Callable[[Path], str]:
    """Return a case in which a bit of the stored voxels of ``img`` is flipped before the request."""

    def observe(folder: Path) -> str:
        server = Server(folder)
        server.ask("POST", CUTOUT, body=VOXELS)
        chunk = folder / "voxels/1/0/c/0/0/0/0"
        stored = bytearray(chunk.read_bytes())
        stored[stored.index(VOXELS[1, 1, :8].tobytes())] ^= 1  # noise is stored as it is: this is the bit of a voxel
        chunk.write_bytes(stored)
        return str(asked(server))

    return observe


def _of_others(server: Server) -> str:
    """Store one section where the catalog has two, and read both."""
    array = zarr.create_array(
        LocalStore(server.folder / "voxels/1/0"), shape=(1, 1, *SHAPE[1:]), chunks=(1, 16, 512, 512), dtype=np.uint8
    )
    array[0] = VOXELS[:1]
    return _read(server)


def _with_catalog(harm: Callable[[Path, Path], object]) -> Callable[[Path], str]:
    """Return a case that does harm to the catalog of a folder with voxels, given one without channels, and opens it."""

    def observe(folder: Path) -> str:
        empty = folder / "empty"
        Boss(empty).close()
        server = Server(folder)
        server.ask("POST", CUTOUT, body=VOXELS)
        server.boss.close()
        catalog = folder / "catalog.sqlite"
        harm(catalog, empty / "catalog.sqlite")
        was_there = catalog.exists()
        try:
            Boss(folder).close()
            said = "it opens"
        except NDSynapseError as error:
            said = f"{type(error).__name__}: {error.found}"
        return said if catalog.exists() == was_there else f"{said}, with a new catalog"

    return observe


def _frame_extent(server: Server) -> str:
    changed = server.ask("PUT", "/v1/coord/frame", body={"x_stop": 5})
    return f"{changed}, x_stop {server.ask('GET', '/v1/coord/frame').json()['x_stop']}"


def _other_schemes(server: Server) -> str:
    server.ask("PUT", IMG, body={"public": True})
    return ", ".join(str(server.ask("GET", IMG, None, authorization=f"{scheme} x")) for scheme in ("Bearer", "Basic"))


def _levels(server: Server) -> list[str]:
    server.ask("PUT", IMG, body={"base_resolution": 1})
    return list(server.ask("GET", "/v1/downsample/lab/pilot/img").json()["voxel_size"])


def _read(server: Server) -> str:
    """Read ``img`` and compare it with what was stored."""
    reply = server.ask("GET", CUTOUT)
    if reply.status != 200:
        return str(reply)
    found = unpack(reply.body, SHAPE, "uint8")
    return f"200, {(found != VOXELS).sum()} voxels wrong"


def _older_store(folder: Path) -> str:
    """Read a channel whose chunks were stored without checksums."""
    server = Server(folder)
    array = zarr.create_array(
        LocalStore(folder / "voxels/1/0"),
        shape=(1, *SHAPE),
        chunks=(1, 16, 512, 512),
        dtype=np.uint8,
        compressors=BloscCodec(),
    )
    array[0] = VOXELS
    return _read(server)


CASES: tuple[Case, ...] = (
    Case(
        "right-to-describe",
        "a user with `read` and `update`: PUT a channel, POST a cutout, erase, GET a cutout",
        "`rights` was ignored: 403 3001 for all",
        "200, 403 3001, 403 3001, 403 3001",
        _said(
            ("PUT", IMG, "describer", {"description": "d"}),
            ("POST", CUTOUT, "describer", VOXELS),
            ("PUT", BLACK, "describer"),
            ("GET", CUTOUT, "describer"),
        ),
    ),
    Case(
        "right-to-fill",
        "a user with `add_volumetric_data`: POST a cutout, erase, GET a cutout, GET and PUT the channel",
        "`rights` was ignored: 403 3001 for all",
        "201, 200, 403 3001, 403 3001, 403 3001",
        _said(
            ("POST", CUTOUT, "filler-token", VOXELS),
            ("PUT", BLACK, "filler-token"),
            ("GET", CUTOUT, "filler-token"),
            ("GET", IMG, "filler-token"),
            ("PUT", IMG, "filler-token", {"description": "d"}),
        ),
    ),
    Case(
        "right-to-view",
        "a user with `read_volumetric_data`: GET a cutout and the downsample status, GET the channel and its metadata",
        "`rights` was ignored: 403 3001 for all",
        "200, 200, 403 3001, 403 3001",
        _said(
            ("GET", CUTOUT, "viewer-token"),
            ("GET", "/v1/downsample/lab/pilot/img", "viewer-token"),
            ("GET", IMG, "viewer-token"),
            ("GET", "/v1/meta/lab/pilot/img", "viewer-token"),
        ),
    ),
    Case(
        "right-to-note",
        "a user with `add`: POST, PUT and DELETE a metadata key",
        "`rights` was ignored: 403 3001 for all",
        "201, 403 3001, 403 3001",
        _said(
            *((method, "/v1/meta/lab/pilot/img/?key=k&value=v", "noter-token") for method in ("POST", "PUT", "DELETE"))
        ),
    ),
    Case(
        "right-on-a-channel",
        "a user with `read` on one channel: GET it, its neighbour, its experiment",
        "`rights` was ignored: 403 3001 for all",
        "200, 403 3001, 403 3001",
        _said(*(("GET", path, "channel-token") for path in (IMG, f"{EXPERIMENT}/channel/ab", EXPERIMENT))),
    ),
    Case(
        "refusal-names-the-right",
        "what a PUT without `update` is told",
        "This user does not have the required permissions",
        "Missing update permissions on the resource img",
        _told(lambda server: server.ask("PUT", IMG, "stranger", {}).json().get("message")),
    ),
    Case("latest", "GET /latest/coord/frame", "404", "200", _said(("GET", "/latest/coord/frame"))),
    Case(
        "lists-without-a-token",
        "GET the lists of collections, frames, experiments and channels without a token",
        "500, 200, 500, 500",
        "500, 200, 200, 200",
        _said(
            *(
                ("GET", path, None)
                for path in (
                    "/v1/collection/",
                    "/v1/coord/",
                    "/v1/collection/lab/experiment/",
                    f"{EXPERIMENT}/channel/",
                )
            )
        ),
    ),
    Case(
        "list-order",
        "the channels of an experiment, made as img, ab",
        "['ab', 'img']",
        "['img', 'ab']",
        _told(lambda server: server.ask("GET", f"{EXPERIMENT}/channel/").json()["channels"]),
    ),
    Case("erase-by-get", "GET and POST to_black", "500, 500", "405, 405", _said(("GET", BLACK), ("POST", BLACK))),
    Case(
        "erase-in-blosc",
        "PUT to_black with Accept: application/blosc",
        "200",
        "406",
        _said(("PUT", BLACK), accept="application/blosc"),
    ),
    Case(
        "frame-extent",
        "PUT the extent of a coordinate frame",
        "200, x_stop 16",
        "400 1003, x_stop 16",
        _told(_frame_extent),
    ),
    Case(
        "experiment-frame",
        "PUT the coordinate frame of an experiment",
        "200",
        "400 1003",
        _said(("PUT", EXPERIMENT, "owner-token", {"coord_frame": "other"})),
    ),
    Case(
        "fields-that-nobody-changes",
        "PUT the creator of a channel, of a collection (where BOSS ignores it), and what is no field",
        "200, 200, 200",
        "400 1003, 200, 400 1003",
        _said(
            ("PUT", IMG, "owner-token", {"creator": "me"}),
            ("PUT", "/v1/collection/lab", "owner-token", {"creator": "me"}),
            ("PUT", EXPERIMENT, "owner-token", {"voxels": 1}),
        ),
    ),
    Case(
        "deleted-to-a-stranger",
        "GET a deleted channel as a stranger, as the owner; GET its cutout as a stranger",
        "404 4005, 404 4005, 404 4005",
        "403 3001, 404 4005, 404 4005",
        _deleted(("GET", IMG, "stranger"), ("GET", IMG), ("GET", CUTOUT, "stranger")),
    ),
    Case(
        "bearer",
        "GET a public channel with Authorization: Bearer x, Basic x",
        "200, 200",
        "401, 200",
        _told(_other_schemes),
    ),
    Case(
        "unauthorized",
        "the scheme that a 401 asks for",
        "Token",
        'Bearer realm="api"',
        _told(lambda server: server.ask("GET", IMG, "wrong").headers.get("www-authenticate")),
    ),
    Case(
        "accept-json",
        "Accept: application/json: POST a cutout, GET it, GET that of a missing channel, with a wrong method",
        "500, 500, 500, 500",
        "201, 500, 404 4000, 405",
        _said(
            ("POST", CUTOUT, "owner-token", VOXELS),
            ("GET", CUTOUT),
            ("GET", CUTOUT.replace("img", "no")),
            ("DELETE", CUTOUT),
            accept="application/json",
        ),
    ),
    Case(
        "accept-jpeg",
        "GET a cutout with Accept: image/jpeg, POST one",
        "500, 500",
        "406, 201",
        _said(("GET", CUTOUT), ("POST", CUTOUT, "owner-token", VOXELS), accept="image/jpeg"),
    ),
    Case(
        "accept-npygz",
        "GET a cutout with Accept: application/npygz",
        "500",
        "406",
        _said(("GET", CUTOUT), accept="application/npygz"),
    ),
    Case(
        "accept-unknown",
        "Accept: text/csv: GET a cutout, a channel, a missing channel",
        "500, 200, 404 4000",
        "500, 406, 406",
        _said(("GET", CUTOUT), ("GET", IMG), ("GET", f"{IMG}no"), accept="text/csv"),
    ),
    Case(
        "long-url",
        "POST metadata with a value of 8,000 characters, of 9,000",
        "201, 201",
        "201, 414",
        _said(*(("POST", f"/v1/meta/lab?key={n}&value={'v' * n}") for n in (8000, 9000))),
    ),
    Case(
        "levels-of-a-coarse-channel",
        "the levels in the downsample status of a channel with base resolution 1, of two levels",
        "['1', '2']",
        "['0', '1']",
        _told(_levels),
    ),
    Case(
        "flipped-bit-read",
        "a bit of a stored chunk is flipped: GET the cutout",
        "200, 1 voxels wrong",
        "500 9002",
        _damaged(_read),
    ),
    Case(
        "flipped-bit-written",
        "a bit of a stored chunk is flipped: POST one voxel into it",
        "201",
        "400 9001",
        _damaged(lambda server: server.ask("POST", "/v1/cutout/lab/pilot/img/0/0:1/0:1/0:1/", body=VOXELS[:1, :1, :1])),
    ),
    Case(
        "store-without-checksums",
        "GET a cutout of chunks that were stored without checksums",
        "200, 0 voxels wrong",
        "200, 0 voxels wrong",
        _older_store,
    ),
    Case(
        "catalog-of-others",
        "voxels/ is that of another catalog, in which the channel has fewer sections: GET the cutout",
        "200, 128 voxels wrong",
        "500 9002",
        _told(_of_others),
    ),
    Case(
        "catalog-lost",
        "catalog.sqlite is gone, voxels/ is there",
        "it opens, with a new catalog",
        "StorageError: voxels/ has channels that catalog.sqlite has not: 1",
        _with_catalog(lambda catalog, _empty: catalog.unlink()),
    ),
    Case(
        "catalog-older",
        "catalog.sqlite is one from before the channel was made",
        "it opens",
        "StorageError: voxels/ has channels that catalog.sqlite has not: 1",
        _with_catalog(lambda catalog, empty: empty.replace(catalog)),
    ),
)
