"""Collections, coordinate frames, experiments and channels of the local BOSS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import requests
from intern.resource.boss.resource import (
    ChannelResource,
    CollectionResource,
    CoordinateFrameResource,
    ExperimentResource,
)

from tests.fixtures_boss import BossServer, Place, make_place, new_name
from tests.local_boss.verdicts import verdict

FRAME = {
    **{f"{axis}_{end}": number for axis in "xyz" for end, number in (("start", 0), ("stop", 100))},
    **{f"{axis}_voxel_size": 4.5 for axis in "xyz"},
    "voxel_unit": "nanometers",
}
CHANNEL = {"type": "image", "datatype": "uint8"}


def experiment_path(place: Place) -> str:
    return f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}"


def test_the_client_makes_finds_lists_and_deletes_every_kind(boss_server: BossServer) -> None:
    remote = boss_server.remote()
    col, frame, exp = new_name("life"), new_name("life"), "exp"
    remote.create_project(CollectionResource(col, "words"))
    remote.create_project(CoordinateFrameResource(frame, "", 0, 50, 0, 60, 0, 70, 4, 5, 30.5, "micrometers"))
    made = remote.create_project(
        ExperimentResource(exp, col, frame, "about", 3, "isotropic", num_time_samples=2, time_step=5)
    )
    assert (made.num_hierarchy_levels, made.hierarchy_method, made.num_time_samples) == (3, "isotropic", 2)
    remote.create_project(ChannelResource("img", col, exp, "image", "raw", 1, "uint16"))
    remote.create_project(
        ChannelResource("ids", col, exp, "annotation", datatype="uint64", sources=["img"], related=[])
    )
    assert col in remote.list_collections()
    assert frame in remote.list_coordinate_frames()
    assert remote.list_experiments(col) == [exp]
    assert remote.list_channels(col, exp) == ["img", "ids"]
    assert remote.get_project(CollectionResource(col)).description == "words"
    assert remote.get_coordinate_frame(frame).z_voxel_size == 30.5
    assert remote.get_extents(remote.get_experiment(col, exp)) == [[0, 50], [0, 60], [0, 70]]
    image = remote.get_channel("img", col, exp)
    assert (image.datatype, image.type, image.default_time_sample, image.cutout_ready) == ("uint16", "image", 1, True)
    assert remote.get_channel("ids", col, exp).sources == ["img"]
    for channel in ("ids", "img"):
        remote.delete_project(remote.get_channel(channel, col, exp))
    remote.delete_project(remote.get_experiment(col, exp))
    remote.delete_project(remote.get_coordinate_frame(frame))
    remote.delete_project(CollectionResource(col))
    assert col not in remote.list_collections()
    assert frame not in remote.list_coordinate_frames()


def test_the_client_updates_every_kind(place: Place) -> None:
    remote = place.server.remote()
    place.channel("a")
    place.channel("b")
    channel = place.channel("c", sources=["a"])
    col, frame, exp = place.collection, place.frame, place.experiment
    channel.description, channel.related, channel.base_resolution = "new", ["b"], 1
    changed = remote.update_project("c", channel)
    assert (changed.description, changed.sources, changed.related, changed.base_resolution) == ("new", ["a"], ["b"], 1)
    assert remote.get_channel("b", col.name, exp.name).related == ["c"], "related goes both ways"
    exp.num_hierarchy_levels = 5
    assert remote.update_project(exp.name, exp).num_hierarchy_levels == 5
    frame.description = "frame"
    assert remote.update_project(frame.name, frame).description == "frame"
    old = col.name
    col.name, col.description = new_name("renamed"), "moved"
    assert remote.update_project(old, col).description == "moved"
    assert remote.list_channels(col.name, exp.name) == ["a", "b", "c"]
    assert verdict(place.server.ask("GET", f"/v1/collection/{old}")) == (404, 4000)


def test_a_renamed_channel_keeps_its_voxels(place: Place) -> None:
    remote = place.server.remote()
    channel = place.channel("before")
    remote.create_cutout(channel, 0, [0, 2], [0, 1], [0, 1], np.array([[[3, 4]]], np.uint8))
    channel.name = "after"
    renamed = remote.update_project("before", channel)
    assert remote.get_cutout(renamed, 0, [0, 2], [0, 1], [0, 1]).tolist() == [[[3, 4]]]


def test_public_visibility_of_a_channel_takes_its_sources_away(place: Place) -> None:
    """As in BOSS: an update that names no sources erases them."""
    place.channel("a")
    channel = place.channel("b", sources=["a"])
    place.server.remote().set_project_public_visibility(channel, True)
    found = place.server.ask("GET", f"{experiment_path(place)}/channel/b").json()
    assert (found["public"], found["sources"]) == (True, [])


def test_replies_have_every_field_of_boss(place: Place) -> None:
    place.channel("ch")
    ask = place.server.ask
    assert set(ask("GET", f"/v1/collection/{place.collection.name}").json()) == {
        *("name", "public", "description", "experiments", "creator")
    }
    assert set(ask("GET", f"/v1/coord/{place.frame.name}").json()) == {
        *("name", "description", "x_start", "x_stop", "y_start", "y_stop", "z_start", "z_stop"),
        *("x_voxel_size", "y_voxel_size", "z_voxel_size", "voxel_unit"),
    }
    assert set(ask("GET", experiment_path(place)).json()) == {
        *("channels", "name", "public", "description", "collection", "coord_frame", "num_hierarchy_levels"),
        *("hierarchy_method", "num_time_samples", "time_step", "time_step_unit", "creator"),
    }
    assert ask("GET", f"{experiment_path(place)}/channel/ch").json() == {
        "name": "ch",
        "public": False,
        "description": "",
        "experiment": place.experiment.name,
        "default_time_sample": 0,
        "type": "image",
        "base_resolution": 0,
        "datatype": "uint8",
        "creator": "owner",
        "sources": [],
        "downsample_status": "NOT_DOWNSAMPLED",
        "related": [],
        "storage_type": "spdb",
        "bucket": None,
        "cv_path": None,
    }


@pytest.mark.parametrize("path", ["/v1/collection//", "/v1/collection/", "/v1/collection", "/v1/coord/", "/v1/coord"])
def test_lists_answer_with_any_number_of_slashes(boss_server: BossServer, path: str) -> None:
    assert boss_server.ask("GET", path).status_code == 200


@pytest.mark.parametrize("slash", ["", "/"])
def test_resources_answer_with_and_without_a_slash_at_the_end(place: Place, slash: str) -> None:
    place.channel("ch")
    for path in [f"/v1/coord/{place.frame.name}", experiment_path(place), f"{experiment_path(place)}/channel/ch"]:
        assert place.server.ask("GET", path + slash).status_code == 200
    assert place.server.ask("GET", f"{experiment_path(place)}/channel{slash}").json() == {"channels": ["ch"]}


def post_frame(server: BossServer, changes: dict[str, Any]) -> requests.Response:
    fields = {name: value for name, value in {**FRAME, **changes}.items() if value != "absent"}
    return server.ask("POST", f"/v1/coord/{new_name('f')}", json=fields)


BAD_FRAMES: dict[str, dict[str, Any]] = {
    "a bound is missing": {"x_start": "absent"},
    "a size is missing": {"z_voxel_size": "absent"},
    "the unit is missing": {"voxel_unit": "absent"},
    "a bound is a fraction": {"x_stop": 5.5},
    "a bound is a word": {"x_stop": "five"},
    "a bound is true": {"x_stop": True},
    "a bound is null": {"x_stop": None},
    "a bound is a list": {"x_stop": [1]},
    "a bound is astronomic": {"x_stop": 10**30},
    "a size is a word": {"x_voxel_size": "wide"},
    "a size is not finite": {"x_voxel_size": "nan"},
    "an unknown unit": {"voxel_unit": "parsec"},
    "a unit in capitals": {"voxel_unit": "Nanometers"},
    "a unit that is a list": {"voxel_unit": ["nanometers"]},
    "a description that is too long": {"description": "x" * 4097},
    "a description that is half a character": {"description": "\ud800"},
}


@pytest.mark.parametrize("changes", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_a_frame_that_breaks_a_rule_is_refused(boss_server: BossServer, changes: dict[str, Any]) -> None:
    assert verdict(post_frame(boss_server, changes)) == (400, 1003)


@pytest.mark.parametrize(
    "changes", [{"x_start": 100, "x_stop": 10}, {"x_start": -5}, {"x_stop": "12"}, {"description": ""}, {"odd": 1}]
)
def test_a_frame_that_boss_accepts_is_made(boss_server: BossServer, changes: dict[str, Any]) -> None:
    assert post_frame(boss_server, changes).status_code == 201


BAD_EXPERIMENTS: dict[str, tuple[dict[str, Any], int, int]] = {
    "no frame": ({"coord_frame": None}, 400, 1003),
    "a frame that does not exist": ({"coord_frame": "nope"}, 404, 4000),
    "no levels": ({"num_hierarchy_levels": 0}, 400, 1003),
    "an unknown method": ({"hierarchy_method": "diagonal"}, 400, 1003),
    "no time samples": ({"num_time_samples": 0}, 400, 1003),
    "an unknown time unit": ({"time_step_unit": "years"}, 400, 1003),
    "a flag that is none": ({"public": "perhaps"}, 400, 1003),
}


@pytest.mark.parametrize(("changes", "status", "code"), BAD_EXPERIMENTS.values(), ids=BAD_EXPERIMENTS.keys())
def test_an_experiment_that_breaks_a_rule_is_refused(
    place: Place, changes: dict[str, Any], status: int, code: int
) -> None:
    fields = {"coord_frame": place.frame.name, **changes}
    reply = place.server.ask("POST", f"/v1/collection/{place.collection.name}/experiment/new", json=fields)
    assert verdict(reply) == (status, code)


BAD_CHANNELS: dict[str, dict[str, Any]] = {
    "no type": {"datatype": "uint8"},
    "no datatype": {"type": "image"},
    "an unknown type": {**CHANNEL, "type": "layer"},
    "a float datatype": {**CHANNEL, "datatype": "float32"},
    "a datatype in capitals": {**CHANNEL, "datatype": "UINT8"},
    "a default sample that does not exist": {**CHANNEL, "default_time_sample": 1},
    "a source that does not exist": {**CHANNEL, "sources": ["nope"]},
    "a related channel that does not exist": {**CHANNEL, "related": ["nope"]},
    "itself as a source": {**CHANNEL, "sources": ["new"]},
    "a source that is related too": {**CHANNEL, "sources": ["ch"], "related": ["ch"]},
    "sources that are no list": {**CHANNEL, "sources": "ch"},
    "sources that are no names": {**CHANNEL, "sources": [1]},
}


@pytest.mark.parametrize("fields", BAD_CHANNELS.values(), ids=BAD_CHANNELS.keys())
def test_a_channel_that_breaks_a_rule_is_refused_and_not_made(place: Place, fields: dict[str, Any]) -> None:
    place.channel("ch")
    path = f"{experiment_path(place)}/channel/new"
    assert verdict(place.server.ask("POST", path, json=fields)) == (400, 1003)
    assert verdict(place.server.ask("GET", path)) == (404, 4000)


def test_an_annotation_needs_no_source_and_a_base_resolution_no_level(place: Place) -> None:
    fields = {"type": "annotation", "datatype": "uint64", "base_resolution": 7}
    assert place.server.ask("POST", f"{experiment_path(place)}/channel/new", json=fields).status_code == 201


@pytest.mark.parametrize("name", ["dot.name", "a b", "ümlaut", "x" * 256, "a%2Eb", "new%0A"])
def test_illegal_names_are_refused(place: Place, name: str) -> None:
    """BOSS would cut them at the first illegal character and make another resource."""
    for path in ["/v1/collection/", "/v1/coord/", f"{experiment_path(place)}/channel/"]:
        fields = {**FRAME, **CHANNEL}
        assert verdict(place.server.ask("POST", path + name, json=fields)) == (400, 1003)
        assert verdict(place.server.ask("GET", path + name)) == (404, 4000)
    assert verdict(place.server.ask("PUT", experiment_path(place), json={"name": name.split("%")[0] + "."})) == (
        400,
        1003,
    )


def test_the_name_of_the_url_wins_over_that_of_the_body(place: Place) -> None:
    reply = place.server.ask("POST", f"{experiment_path(place)}/channel/url", json={**CHANNEL, "name": "body"})
    assert reply.json()["name"] == "url"


def test_names_that_are_too_long_together_are_refused(place: Place) -> None:
    """BOSS makes such a channel and then fails on each use of it."""
    room = 255 - len(place.collection.name) - len(place.experiment.name) - 2
    longest = f"{experiment_path(place)}/channel/{'x' * room}"
    assert verdict(place.server.ask("POST", longest + "x", json=CHANNEL)) == (400, 1003)
    assert place.server.ask("POST", longest, json=CHANNEL).status_code == 201
    for path, name in [(longest, "y" * (room + 1)), (experiment_path(place), place.experiment.name + "y")]:
        assert verdict(place.server.ask("PUT", path, json={"name": name})) == (400, 1003)


def test_what_exists_cannot_be_made_again(place: Place) -> None:
    place.channel("ch")
    paths = {
        f"/v1/collection/{place.collection.name}": {},
        f"/v1/coord/{place.frame.name}": FRAME,
        experiment_path(place): {"coord_frame": place.frame.name},
        f"{experiment_path(place)}/channel/ch": CHANNEL,
    }
    for path, fields in paths.items():
        assert verdict(place.server.ask("POST", path, json=fields)) == (400, 1003)
    message = place.server.ask("POST", path, json=CHANNEL).json()["message"]
    assert "The fields experiment, name must make a unique set." in message


def test_a_name_that_is_taken_cannot_be_given(place: Place) -> None:
    place.channel("a")
    place.channel("b")
    assert verdict(place.server.ask("PUT", f"{experiment_path(place)}/channel/a", json={"name": "b"})) == (400, 1003)
    assert place.server.ask("PUT", f"{experiment_path(place)}/channel/a", json={"name": "a"}).status_code == 200


@pytest.mark.parametrize("fields", [{"datatype": "uint16"}, {"type": "annotation"}])
def test_type_and_datatype_of_a_channel_are_for_ever(place: Place, fields: dict[str, str]) -> None:
    place.channel("ch")
    reply = place.server.ask("PUT", f"{experiment_path(place)}/channel/ch", json=fields)
    assert verdict(reply) == (400, 1003)
    assert reply.json()["message"].startswith("Cannot update the following readonly fields")


def test_deletion_is_soft_and_keeps_the_name_taken(place: Place) -> None:
    place.channel("ch")
    path = f"{experiment_path(place)}/channel/ch"
    for _ in range(2):
        reply = place.server.ask("DELETE", path)
        assert (reply.status_code, reply.content) == (204, b"")
    assert verdict(place.server.ask("GET", path)) == (404, 4005)
    assert verdict(place.server.ask("GET", f"/v1/cutout/{place.path('ch')}/0/0:1/0:1/0:1/")) == (404, 4005)
    assert verdict(place.server.ask("POST", path, json=CHANNEL)) == (400, 1003)
    assert place.server.ask("GET", f"{experiment_path(place)}/channel/").json() == {"channels": []}
    assert place.server.ask("GET", experiment_path(place)).json()["channels"] == []


def test_what_others_need_cannot_be_deleted(place: Place) -> None:
    place.channel("source")
    place.channel("derived", sources=["source"])
    collection, frame = f"/v1/collection/{place.collection.name}", f"/v1/coord/{place.frame.name}"
    source = f"{experiment_path(place)}/channel/source"
    for path in [collection, frame, experiment_path(place), source]:
        assert verdict(place.server.ask("DELETE", path)) == (400, 4003)
    for path in [f"{experiment_path(place)}/channel/derived", source, experiment_path(place), frame, collection]:
        assert place.server.ask("DELETE", path).status_code == 204


def test_what_does_not_exist_is_not_found(place: Place) -> None:
    for path in [
        "/v1/collection/nope",
        "/v1/coord/nope",
        f"/v1/collection/{place.collection.name}/experiment/nope",
        f"{experiment_path(place)}/channel/nope",
    ]:
        for method in ("GET", "PUT", "DELETE"):
            reply = place.server.ask(method, path, json={})
            assert verdict(reply) == (404, 4000)
            assert reply.json()["message"] == "nope does not exist."
    for path in ["/v1/collection/nope/experiment/", "/v1/collection/nope/experiment/x/channel/"]:
        assert verdict(place.server.ask("GET", path)) == (404, 4000)
    parentless = place.server.ask("POST", "/v1/collection/nope/experiment/x", json={"coord_frame": place.frame.name})
    assert verdict(parentless) == (404, 4000)


BAD_BODIES = {
    "no JSON": (b"{", 400, "application/json"),
    "deeply nested": (b"[" * 100_000, 400, "application/json"),
    "no text": (b"\xff\xfe\x00", 400, "application/json"),
    "a list": (b"[1]", 400, 1003),
    "a number": (b"1", 400, 1003),
    "too large": (b'"' + b"x" * 2**21 + b'"', 413, "text/html"),
}


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_no_description_is_refused(
    boss_server: BossServer, body: bytes, status: int, code: int | str
) -> None:
    path = f"/v1/collection/{new_name('body')}"
    assert verdict(boss_server.ask("POST", path, data=body)) == (status, code)
    assert verdict(boss_server.ask("GET", path)) == (404, 4000)


def test_an_unknown_method_is_not_allowed(place: Place) -> None:
    reply = place.server.ask("PATCH", experiment_path(place), json={})
    assert (reply.status_code, reply.json()) == (405, {"detail": 'Method "PATCH" not allowed.'})


@pytest.mark.parametrize("path", ["/", "/v1/", "/v1/nonsense", "/v1/groups/", "/v2x"])
def test_an_unknown_path_is_a_page_not_found(boss_server: BossServer, path: str) -> None:
    assert verdict(boss_server.ask("GET", path)) == (404, "text/html")


def test_other_versions_are_not_served_and_ping_is(boss_server: BossServer) -> None:
    assert verdict(boss_server.ask("GET", "/v0.8/collection/")) == (400, 9003)
    assert boss_server.ask("GET", "/ping/", token=None).json() == {"ip": "127.0.0.1"}


def test_the_downsample_status_describes_the_levels(boss_server: BossServer) -> None:
    place = make_place(boss_server, stop=(10, 701, 600), levels=2)
    place.channel("ch")
    found = boss_server.ask("GET", f"/v1/downsample/{place.path('ch')}/").json()
    assert found == {
        "status": "NOT_DOWNSAMPLED",
        "num_hierarchy_levels": 2,
        "voxel_size": {"0": [100.0, 100.0, 70.0], "1": [200.0, 200.0, 70.0]},
        "extent": {"0": [600, 701, 10], "1": [300, 351, 10]},
        "cuboid_size": {"0": [512, 512, 16], "1": [512, 512, 16]},
    }
