"""Requests to the local BOSS: paths, queries, headers and bodies, sent to its application in this process."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from nd_synapse.local_boss import ingest, server, tokens
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.responses import BossError, Code
from nd_synapse.local_boss.stacks import stack_of_array
from tests.fuzz.cases import (
    ABSENT,
    counts,
    mutated_json,
    mutated_text,
    names,
    numbers,
    one_wrong,
    sometimes,
    words,
)
from tests.fuzz.judge import Target
from tests.fuzz.targets.jobs import bad_names
from tests.fuzz.targets.local_server import CHANNEL, COLLECTION, EXPERIMENT, FRAME, bad_field
from tests.fuzz.targets.replies import bad_buffers, buffers

OWNER, READER = "owner-token", "reader-token"
BEARERS = {
    OWNER: tokens.Rights("owner", "admin", "all", "all"),
    READER: tokens.Rights("reader", "none", frozenset({"col"}), frozenset()),
}
SHAPE = (3, 10, 12)


@cache
def template() -> Path:
    """A data folder with a collection, and in it an experiment of an image and an annotation."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-boss-"))
    boss = Boss(folder)
    voxels = np.arange(360).reshape(SHAPE) % 200
    for name, dtype in (("image", np.uint8), ("labels", np.uint64)):
        ingest.ingest(
            boss, "col", "exp", name, stack_of_array(voxels.astype(dtype), name), (70.0, 100.0, 100.0), public=True
        )
    boss.close()
    return folder


def _span(most: int) -> st.SearchStrategy[str]:
    return st.tuples(st.integers(0, most - 1), st.integers(1, most)).map(lambda p: f"{p[0]}:{min(most, p[0] + p[1])}")


spans = [_span(SHAPE[2]), _span(SHAPE[1]), _span(SHAPE[0])]
bad_span = st.sampled_from(["0:0", "3:2", "0:9999999999999999999999", "0:13", ":", "-1:2", "a:b", "0:1:2"]) | words
frame_name = "col_exp"
EXISTING = {"col": "col", "exp": "exp", "chan": "image", "labels": "labels", "frame": frame_name, "new": "new"}


@st.composite
def segments(draw: st.DrawFn, *parts: str) -> str:
    """A path of which one segment is odd in a third of the cases."""
    drawn = []
    odd = draw(st.integers(0, len(parts) - 1)) if draw(st.sampled_from([False, False, False, True])) else None
    for number, part in enumerate(parts):
        good = st.just(EXISTING.get(part, part))
        if part in ("x", "y", "z"):
            good = spans["xyz".index(part)]
        elif part == "number":
            good = counts.map(str)
        drawn.append(draw(bad_span | bad_names | numbers.map(str) | st.just("") if number == odd else good))
    return f"/v1/{'/'.join(drawn)}{draw(st.sampled_from(['', '/'] if odd is None else ['', '/', '//']))}"


def _body(right: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[bytes]:
    """Draw the JSON of a form."""
    return (
        one_wrong(right, dict.fromkeys(right, bad_field)).map(lambda fields: json.dumps(fields).encode())
        | mutated_json([{"description": "d"}]).map(lambda fields: json.dumps(fields).encode())
        | st.binary(max_size=9)
    )


NEW_FRAME = {**FRAME, **{f"{axis}_{end}": st.just(10 * (end == "stop")) for axis in "xyz" for end in ("start", "stop")}}
NEW_EXPERIMENT = {**EXPERIMENT, "coord_frame": st.just(frame_name)}
DATA = ("col", "exp", "chan", "0", "x", "y", "z")
LABELS = ("col", "exp", "labels", "0", "x", "y", "z")
none = st.just(b"")
whole_cutout = st.just("/v1/cutout/col/exp/image/0/0:4/0:3/0:2/")
keys = st.fixed_dictionaries({"key": names}) | st.fixed_dictionaries({"key": words, "value": words}) | st.just({})
ROUTES: list[tuple[list[str], st.SearchStrategy[str], st.SearchStrategy[dict[str, str]], st.SearchStrategy[bytes]]] = [
    (["GET", "PUT", "DELETE"], segments("collection", "col"), st.just({}), _body(COLLECTION)),
    (["GET", "PUT", "DELETE"], segments("collection", "col", "experiment", "exp"), st.just({}), _body(NEW_EXPERIMENT)),
    (
        ["GET", "PUT", "DELETE"],
        segments("collection", "col", "experiment", "exp", "channel", "chan"),
        st.just({}),
        _body(CHANNEL),
    ),
    (["GET", "PUT", "DELETE"], segments("coord", "frame"), st.just({}), _body(FRAME)),
    (["POST"], segments("collection", "new"), st.just({}), _body(COLLECTION)),
    (["POST"], segments("coord", "new"), st.just({}), _body(NEW_FRAME)),
    (["POST"], segments("collection", "col", "experiment", "new"), st.just({}), _body(NEW_EXPERIMENT)),
    (["POST"], segments("collection", "col", "experiment", "exp", "channel", "new"), st.just({}), _body(CHANNEL)),
    (
        ["GET"],
        segments("cutout", *DATA),
        st.dictionaries(st.sampled_from(["access-mode", "no-cache", "filter"]), words),
        none,
    ),
    (["GET"], segments("cutout", *LABELS), st.fixed_dictionaries({"filter": words | st.just("1,2")}), none),
    (["POST"], segments("cutout", *DATA), st.just({}), buffers),
    (["POST"], whole_cutout, st.just({}), buffers | buffers | bad_buffers),
    (["PUT"], segments("cutout", "to_black", *DATA), st.just({}), none),
    (["GET", "POST", "PUT", "DELETE"], segments("meta", "col", "exp", "chan"), keys, none),
    (["GET"], segments("reserve", "col", "exp", "labels", "number"), st.just({}), none),
    (
        ["GET"],
        segments("boundingbox", "col", "exp", "labels", "0", "number"),
        st.fixed_dictionaries({"type": st.just("tight") | words}),
        none,
    ),
    (["GET"], segments("ids", *LABELS), st.just({}), none),
    (["GET"], segments("downsample", "col", "exp", "chan"), st.just({}), none),
    (
        ["GET", "POST"],
        segments("collection") | segments("coord") | words.map(lambda text: f"/{text}"),
        st.just({}),
        none,
    ),
]
HEADERS: dict[str, st.SearchStrategy[Any]] = {
    "authorization": st.sampled_from([f"Token {OWNER}"] * 4 + [f"Token {READER}"]),
    "accept": sometimes(st.sampled_from(["application/blosc", "*/*", "application/json, */*"])),
    "content-type": st.just("application/blosc"),
}
WRONG_HEADERS: dict[str, st.SearchStrategy[Any]] = {
    "authorization": words | st.just(ABSENT) | mutated_text([f"Token {OWNER}"]),
    "accept": words,
    "content-type": words,
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request: method, path, query, headers and body."""
    methods, path, query, body = draw(st.sampled_from(ROUTES))
    odd = draw(st.integers(0, 4)) == 3
    sent = draw(body)
    given = draw(one_wrong(HEADERS, WRONG_HEADERS if odd else {"accept": HEADERS["accept"]}))
    given["content-length"] = draw(words | numbers.map(str)) if draw(st.integers(0, 20)) == 7 else str(len(sent))
    return {
        "method": draw(st.sampled_from([*methods, *methods, *methods, *server.METHODS] if odd else methods)),
        "path": draw(path),
        "query": draw(query),
        "headers": given,
        "body": sent,
    }


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """Return the scope of a request, as a server of ASGI gives it."""
    from urllib.parse import quote, urlencode

    path = request["path"].encode("utf-8", "replace").decode()
    return {
        "type": "http",
        "http_version": "1.1",
        "method": request["method"],
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": urlencode(request["query"], errors="replace").encode(),
        "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in request["headers"].items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "root_path": "",
    }


async def _send(application: Any, request: dict[str, Any]) -> tuple[int, bytes]:
    parts = [{"type": "http.request", "body": request["body"], "more_body": False}, {"type": "http.disconnect"}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0) if len(parts) > 1 else copy.copy(parts[0])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(_asked(request), receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def ask_server(case: tuple[list[dict[str, Any]], bool], folder: Path) -> None:
    """Send some requests to a data folder of their own; the last decides what it is counted as."""
    sent, strict = case
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(template(), data)
    boss, refused = Boss(data, strict), []

    def noted(error: BossError) -> Any:
        refused.append(error)
        return refusal(error)

    refusal = server.refusal
    try:
        with mock.patch.object(server, "refusal", noted):
            for request in sent:
                status, body = asyncio.run(_send(server.application(boss, BEARERS), request))
    finally:
        boss.close()
    assert 200 <= status < 600
    if status == 500:
        # only what the real server answers so: cutouts that it has no words for
        assert request["path"].startswith("/v1/cutout") or strict or b"<h1>" in body
    if status < 400:
        return
    if refused:
        raise refused[-1]
    raise BossError(
        status if status < 500 else 400, Code.BOSS_SYSTEM_ERROR, body.decode("utf-8", "replace") or "no words"
    )


one_request = requests().map(lambda request: [request])
several_requests = st.lists(requests(), min_size=2, max_size=3)

TARGETS = [
    Target(
        "requests to the local BOSS",
        st.tuples(one_request | one_request | one_request | several_requests, st.booleans()),
        ask_server,
        6,
        results=0.35,
        places=12,
    ),
]
