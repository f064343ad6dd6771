"""The strict server: each deliberate divergence of the local BOSS, undone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.fixtures_boss import BossServer, Place, make_place, new_name, packed, start_boss
from tests.local_boss.verdicts import verdict

CHANNEL = {"type": "image", "datatype": "uint8"}
BROKEN = (500, "text/html")
CUBE = "/0/0:4/0:1/0:1/"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    with start_boss(tmp_path_factory.mktemp("strict"), "--strict") as server:
        yield server


@pytest.fixture
def place(strict: BossServer) -> Place:
    # the client cannot read a null time step unit; it sends one of its own, so it can make the experiment
    return make_place(strict)


def test_illegal_names_are_cut_at_the_first_illegal_character(place: Place) -> None:
    path = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}/channel"
    made = place.server.ask("POST", f"{path}/dot.name", json=CHANNEL)
    assert (made.status_code, made.json()["name"]) == (201, "dot")
    assert place.server.ask("GET", f"{path}/dot/and/the/rest").json()["name"] == "dot"


def test_names_that_are_too_long_together_are_made_and_fail(place: Place) -> None:
    name = "x" * (255 - len(place.collection.name) - len(place.experiment.name) - 1)
    path = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}/channel/{name}"
    assert place.server.ask("POST", path, json=CHANNEL).status_code == 201
    assert place.server.ask("GET", path).status_code == 200
    assert verdict(place.server.ask("GET", f"/v1/cutout/{place.path(name)}{CUBE}")) == BROKEN
    assert verdict(place.server.ask("GET", f"/v1/meta/{place.path(name)}")) == BROKEN


def test_a_cutout_without_a_valid_token_breaks_down(place: Place) -> None:
    place.channel("ch")
    path = f"/v1/cutout/{place.path('ch')}{CUBE}"
    body = packed(np.ones((1, 1, 4), np.uint8))
    for token in ("wrong", None):
        assert verdict(place.server.ask("GET", path, token=token)) == BROKEN
        headers = {"Content-Type": "application/blosc"}
        assert verdict(place.server.ask("POST", path, token=token, headers=headers, data=body)) == BROKEN
    assert place.server.ask("GET", f"/v1/collection/{place.collection.name}", token="wrong").status_code == 401


def test_a_list_below_what_does_not_exist_breaks_down(strict: BossServer) -> None:
    assert verdict(strict.ask("GET", "/v1/collection/nope/experiment/")) == BROKEN
    assert verdict(strict.ask("GET", "/v1/collection/nope/experiment/nope/channel/")) == BROKEN


def test_an_unknown_access_mode_breaks_down(place: Place) -> None:
    place.channel("ch")
    for query in ["access-mode=fast", "access-mode=raw&no-cache=1"]:
        assert verdict(place.server.ask("GET", f"/v1/cutout/{place.path('ch')}{CUBE}?{query}")) == BROKEN


def test_a_time_step_unit_that_was_never_set_is_null(place: Place, boss_server: BossServer) -> None:
    for server, unit in [(place.server, None), (boss_server, "seconds")]:
        home = make_place(server)
        path = f"/v1/collection/{home.collection.name}/experiment/{new_name('e')}"
        assert server.ask("POST", path, json={"coord_frame": home.frame.name}).json()["time_step_unit"] == unit


def test_cutouts_go_on_as_ever(place: Place) -> None:
    remote = place.server.remote()
    channel = place.channel("ch")
    remote.create_cutout(channel, 0, [0, 2], [0, 1], [0, 1], np.array([[[3, 4]]], np.uint8))
    assert remote.get_cutout(channel, 0, [0, 2], [0, 1], [0, 1]).tolist() == [[[3, 4]]]
