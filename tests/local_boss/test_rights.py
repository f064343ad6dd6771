"""Who may do what on the local BOSS: tokens, roles, rights and the public flag."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.fixtures_boss import BossServer, Place, make_place, packed, start_boss
from tests.local_boss.verdicts import verdict

TOKENS: dict[str, Any] = {
    "tokens": {
        "token-owner": {"user": "owner", "role": "admin", "read": "all", "write": "all"},
        "token-reader": {"user": "reader", "role": "none", "read": "all", "write": []},
        "token-writer": {"user": "writer", "role": "none", "read": "all", "write": "all"},
        "token-manager": {"user": "manager", "role": "resource-manager", "read": [], "write": []},
        "token-inner": {"user": "inner", "role": "none", "read": ["col-1/exp-3"], "write": ["col-1/exp-3"]},
        "token-outer": {"user": "outer", "role": "resource-manager", "read": ["col-1"], "write": ["col-1"]},
        "token-describer": {"user": "describer", "role": "none", "rights": {"read": "all", "update": "all"}},
        "token-filler": {"user": "filler", "role": "none", "rights": {"add_volumetric_data": "all"}},
        "token-viewer": {"user": "viewer", "role": "none", "rights": {"read_volumetric_data": "all"}},
        "token-noter": {"user": "noter", "role": "none", "rights": {"read": "all", "add": "all"}},
        "token-maker": {"user": "maker", "role": "resource-manager", "rights": {"add": "all"}},
        "token-channel": {"user": "channel", "role": "none", "rights": {}},
        "public": {"user": "public", "role": "none", "read": [], "write": []},
    }
}
BODY = packed(np.ones((1, 1, 4), np.uint8))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    data = tmp_path_factory.mktemp("rights")
    (data / "tokens.json").write_text(json.dumps(TOKENS))
    with start_boss(data) as running:
        yield running


@pytest.fixture(scope="module")
def place(server: BossServer) -> Place:
    place = make_place(server)
    place.channel("img")
    place.channel("open")
    place.channel("ids", "uint64", "annotation")
    path = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}/channel/open"
    assert server.ask("PUT", path, json={"public": True}).status_code == 200
    allowed = {"token-inner": f"{place.collection.name}/{place.experiment.name}", "token-outer": place.collection.name}
    for token, pattern in allowed.items():
        TOKENS["tokens"][token].update(read=[pattern], write=[pattern])
    TOKENS["tokens"]["token-channel"]["rights"] = {"read": [place.path("img")]}
    return place


@pytest.fixture(scope="module")
def governed(server: BossServer, place: Place) -> Iterator[Place]:
    """Return the place on a second server, started with the rights that name it."""
    (server.data / "tokens.json").write_text(json.dumps(TOKENS))
    with start_boss(server.data) as running:
        yield Place(running, place.collection, place.frame, place.experiment)


def ask(place: Place, token: str | None, method: str, what: str) -> requests.Response:
    col, exp = place.collection.name, place.experiment.name
    paths = {
        "collection": f"/v1/collection/{col}",
        "experiment": f"/v1/collection/{col}/experiment/{exp}",
        "channel": f"/v1/collection/{col}/experiment/{exp}/channel/img",
        "open channel": f"/v1/collection/{col}/experiment/{exp}/channel/open",
        "frame": f"/v1/coord/{place.frame.name}",
        "cutout": f"/v1/cutout/{col}/{exp}/img/0/0:4/0:1/0:1/",
        "open cutout": f"/v1/cutout/{col}/{exp}/open/0/0:4/0:1/0:1/",
        "black": f"/v1/cutout/to_black/{col}/{exp}/img/0/0:4/0:1/0:1/",
        "meta": f"/v1/meta/{col}/{exp}/img",
        "open meta": f"/v1/meta/{col}/{exp}/open",
        "new meta": f"/v1/meta/{col}/{exp}/img/?key=none&value=v",
        "box": f"/v1/boundingbox/{col}/{exp}/ids/0/1/",
        "ids": f"/v1/ids/{col}/{exp}/ids/0/0:4/0:1/0:1/",
        "reserve": f"/v1/reserve/{col}/{exp}/ids/1",
        "downsample": f"/v1/downsample/{col}/{exp}/img",
        "list": "/v1/collection//",
    }
    options: dict[str, Any] = {"json": {}} if method in ("POST", "PUT") else {}
    if "cutout" in what and method == "POST":
        options = {"data": BODY, "headers": {"Content-Type": "application/blosc"}}
    return place.server.ask(method, paths[what], token=token, **options)


OK, DENIED, ROLE = (200, None), (403, 3001), (403, 3000)
MATRIX: list[tuple[str | None, str, str, tuple[int, int | None]]] = [
    ("token-reader", "GET", "channel", OK),
    ("token-reader", "GET", "cutout", OK),
    ("token-reader", "GET", "meta", OK),
    ("token-reader", "POST", "cutout", DENIED),
    ("token-reader", "PUT", "black", DENIED),
    ("token-reader", "PUT", "channel", DENIED),
    ("token-reader", "PUT", "frame", DENIED),
    ("token-reader", "PUT", "new meta", DENIED),
    ("token-reader", "GET", "reserve", DENIED),
    ("token-reader", "DELETE", "channel", ROLE),
    ("token-reader", "POST", "collection", ROLE),
    ("token-writer", "POST", "cutout", (201, None)),
    ("token-writer", "PUT", "black", OK),
    ("token-writer", "GET", "reserve", OK),
    ("token-writer", "POST", "experiment", ROLE),
    ("token-manager", "GET", "collection", DENIED),
    ("token-manager", "GET", "cutout", DENIED),
    ("token-manager", "POST", "channel", DENIED),
    ("token-manager", "DELETE", "channel", DENIED),
    ("token-inner", "GET", "collection", DENIED),
    ("token-inner", "GET", "experiment", OK),
    ("token-inner", "GET", "cutout", OK),
    ("token-inner", "POST", "cutout", (201, None)),
    ("token-inner", "PUT", "collection", DENIED),
    ("token-inner", "POST", "channel", ROLE),
    ("token-outer", "PUT", "collection", OK),
    ("token-outer", "POST", "cutout", (201, None)),
    ("token-outer", "POST", "channel", (400, 1003)),
    ("token-outer", "PUT", "frame", DENIED),
    ("token-describer", "GET", "channel", OK),
    ("token-describer", "PUT", "frame", OK),
    ("token-describer", "GET", "downsample", DENIED),
    ("token-describer", "GET", "ids", DENIED),
    ("token-describer", "GET", "box", DENIED),
    ("token-describer", "GET", "meta", OK),
    ("token-describer", "POST", "new meta", DENIED),
    ("token-describer", "PUT", "new meta", (400, 1003)),
    ("token-describer", "DELETE", "new meta", DENIED),
    ("token-filler", "GET", "reserve", OK),
    ("token-viewer", "GET", "ids", OK),
    ("token-viewer", "GET", "box", (404, 4004)),
    ("token-viewer", "GET", "reserve", DENIED),
    ("token-noter", "POST", "channel", ROLE),
    ("token-maker", "POST", "channel", (400, 1003)),
    ("token-maker", "PUT", "channel", DENIED),
    ("token-maker", "DELETE", "channel", DENIED),
    ("token-channel", "GET", "open channel", OK),
    ("token-channel", "GET", "cutout", DENIED),
    *((token, "GET", "channel", DENIED) for token in ("public", None)),
    *((token, "GET", "cutout", DENIED) for token in ("public", None)),
    *((token, "GET", "downsample", DENIED) for token in ("public", None)),
    *((token, "GET", "meta", DENIED) for token in ("public", None)),
    *((token, "GET", "ids", DENIED) for token in ("public", None)),
    *((token, "GET", "open channel", OK) for token in ("public", None)),
    *((token, "GET", "open cutout", OK) for token in ("public", None)),
    *((token, "GET", "open meta", DENIED) for token in ("public", None)),
    *((token, "GET", "frame", OK) for token in ("public", None)),
    ("public", "POST", "open cutout", DENIED),
    ("public", "POST", "collection", ROLE),
    (None, "POST", "open cutout", (401, None)),
    (None, "PUT", "channel", (401, None)),
    (None, "DELETE", "channel", (401, None)),
    (None, "GET", "list", (500, None)),
    ("wrong", "GET", "open channel", (401, None)),
    ("wrong", "GET", "open cutout", (401, None)),
    ("wrong", "POST", "cutout", (401, None)),
    ("wrong", "GET", "list", (401, None)),
]


@pytest.mark.parametrize(
    ("token", "method", "what", "expected"), MATRIX, ids=[f"{t or 'nobody'} {m} {w}" for t, m, w, _ in MATRIX]
)
def test_everyone_may_do_what_the_token_file_says(
    governed: Place, token: str | None, method: str, what: str, expected: tuple[int, int | None]
) -> None:
    reply = ask(governed, token, method, what)
    status, code = expected
    assert (reply.status_code, reply.json().get("code") if code else None) == (status, code), reply.text


def test_refusals_say_what_boss_says(governed: Place) -> None:
    unknown = ask(governed, "wrong", "GET", "channel")
    assert (unknown.json(), unknown.headers["WWW-Authenticate"]) == ({"detail": "Invalid token."}, 'Bearer realm="api"')
    missing = ask(governed, None, "PUT", "channel")
    assert missing.json() == {"detail": "Authentication credentials were not provided."}
    message = ask(governed, "token-reader", "POST", "collection").json()["message"]
    assert message == "reader does not have the required role resource-manager"


def test_existence_is_checked_before_rights(governed: Place) -> None:
    reply = governed.server.ask("GET", f"/v1/cutout/{governed.path('nope')}/0/0:4/0:1/0:1/", token="public")
    assert verdict(reply) == (404, 4000)


def test_lists_show_what_the_caller_may_read(governed: Place) -> None:
    col, exp = governed.collection.name, governed.experiment.name
    channels = f"/v1/collection/{col}/experiment/{exp}/channel/"
    assert governed.server.ask("GET", channels, token="public").json() == {"channels": ["open"]}
    assert governed.server.ask("GET", "/v1/collection//", token="public").json() == {"collections": []}
    assert governed.server.ask("GET", "/v1/collection//", token="token-inner").json() == {"collections": []}
    assert governed.server.ask("GET", channels, token="token-reader").json() == {"channels": ["img", "open", "ids"]}


def test_who_makes_a_resource_may_do_everything_with_it(governed: Place) -> None:
    server = governed.server
    mine = "/v1/collection/managed"
    assert server.ask("POST", mine, token="token-manager", json={}).status_code == 201
    made = server.ask("POST", f"{mine}/experiment/e", token="token-manager", json={"coord_frame": governed.frame.name})
    assert made.json()["creator"] == "manager"
    fields = {"type": "image", "datatype": "uint8"}
    assert server.ask("POST", f"{mine}/experiment/e/channel/c", token="token-manager", json=fields).status_code == 201
    headers = {"Content-Type": "application/blosc"}
    path = "/v1/cutout/managed/e/c/0/0:4/0:1/0:1/"
    assert server.ask("POST", path, token="token-manager", headers=headers, data=BODY).status_code == 201
    assert server.ask("GET", path, token="token-manager").status_code == 200
    assert server.ask("DELETE", f"{mine}/experiment/e/channel/c", token="token-manager").status_code == 204


def test_a_header_of_another_scheme_is_no_token(governed: Place) -> None:
    path = f"/v1/collection/{governed.collection.name}"
    reply = governed.server.ask("GET", path, token=None, headers={"Authorization": "Basic dDpv"})
    assert verdict(reply) == (403, 3001)
    for header in ["Token", "Token ", "Token a b", "token wrong"]:
        reply = governed.server.ask("GET", path, token=None, headers={"Authorization": header})
        assert reply.status_code == 401


def test_the_first_start_makes_a_writing_token_and_public(boss_server: BossServer) -> None:
    path: Path = boss_server.data / "tokens.json"
    assert path.stat().st_mode & 0o777 == 0o600
    tokens = json.loads(path.read_text())["tokens"]
    assert list(tokens) == [boss_server.token, "public"]
    assert len(boss_server.token) == 40
    assert boss_server.ask("GET", "/v1/collection//", token="public").status_code == 200
