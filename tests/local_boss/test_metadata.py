"""Metadata of the local BOSS, through the real client and as raw requests."""

from __future__ import annotations

from typing import Any

import pytest
from intern.service.boss.httperrorlist import HTTPErrorList

from tests.fixtures_boss import Place
from tests.local_boss.verdicts import verdict


def kinds(place: Place) -> dict[str, Any]:
    return {
        f"/v1/meta/{place.collection.name}": place.collection,
        f"/v1/meta/{place.collection.name}/{place.experiment.name}": place.experiment,
        f"/v1/meta/{place.path('ch')}": place.channel("ch"),
    }


def test_the_client_keeps_metadata_of_every_kind_apart(place: Place) -> None:
    remote = place.server.remote()
    for number, resource in enumerate(kinds(place).values()):
        assert remote.list_metadata(resource) == []
        remote.create_metadata(resource, {"origin": f"place{number}", "k.2-x_y": "v"})
        assert sorted(remote.list_metadata(resource)) == ["k.2-x_y", "origin"]
        assert remote.get_metadata(resource, ["origin"]) == {"origin": f"place{number}"}
        remote.update_metadata(resource, {"origin": "moved"})
        assert remote.get_metadata(resource, ["origin", "k.2-x_y"]) == {"origin": "moved", "k.2-x_y": "v"}
        remote.delete_metadata(resource, ["origin"])
        assert remote.list_metadata(resource) == ["k.2-x_y"]


def test_the_client_reports_what_cannot_be_done(place: Place) -> None:
    remote = place.server.remote()
    remote.create_metadata(place.collection, {"k": "v"})
    for attempt in [
        lambda: remote.create_metadata(place.collection, {"k": "again"}),
        lambda: remote.update_metadata(place.collection, {"nope": "v"}),
        lambda: remote.get_metadata(place.collection, ["nope"]),
        lambda: remote.delete_metadata(place.collection, ["nope"]),
    ]:
        with pytest.raises(HTTPErrorList) as caught:
            attempt()
        assert [error.response.status_code for error in caught.value.http_errors] == [400]


REFUSED = {
    "a key that is taken": ("POST", "?key=k&value=w"),
    "no key to add": ("POST", "?value=v"),
    "an empty key": ("POST", "?key=&value=v"),
    "no value to add": ("POST", "?key=new"),
    "a missing key to read": ("GET", "?key=nope"),
    "a missing key to change": ("PUT", "?key=nope&value=v"),
    "no value to change": ("PUT", "?key=k"),
    "no key to change": ("PUT", "?value=v"),
    "a missing key to forget": ("DELETE", "?key=nope"),
    "no key to forget": ("DELETE", ""),
}


@pytest.mark.parametrize(("method", "query"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_refusal_is_a_bad_request(place: Place, method: str, query: str, slash: str) -> None:
    """A missing key is 400 and not 404."""
    for path in kinds(place):
        assert place.server.ask("POST", f"{path}/?key=k&value=v").status_code == 201
        assert verdict(place.server.ask(method, path + slash + query)) == (400, 1003)
        assert place.server.ask("GET", path).json() == {"keys": ["k"]}


def test_replies_are_those_of_boss(place: Place) -> None:
    path = f"/v1/meta/{place.collection.name}/"
    made = place.server.ask("POST", path + "?key=a%20b%26c&value=%C3%BC%2B1")
    assert (made.status_code, made.content) == (201, b"")
    assert place.server.ask("GET", path + "?key=a%20b%26c").json() == {"key": "a b&c", "value": "ü+1"}
    changed = place.server.ask("PUT", path + "?key=a%20b%26c&value=2")
    assert (changed.status_code, changed.content) == (200, b"")
    gone = place.server.ask("DELETE", path + "?key=a%20b%26c")
    assert (gone.status_code, gone.content) == (204, b"")


def test_metadata_of_what_does_not_exist_is_not_found(place: Place) -> None:
    for path in ["nope", f"{place.collection.name}/nope", place.path("nope")]:
        reply = place.server.ask("GET", f"/v1/meta/{path}")
        assert verdict(reply) == (404, 4000)
        assert reply.json()["message"].endswith("nope not found")


def test_metadata_stay_with_a_renamed_channel(place: Place) -> None:
    channel = place.channel("before")
    remote = place.server.remote()
    remote.create_metadata(channel, {"k": "v"})
    channel.name = "after"
    assert remote.get_metadata(remote.update_project("before", channel), ["k"]) == {"k": "v"}
