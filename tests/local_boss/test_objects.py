"""Object ids, bounding boxes and reserved ids of the local BOSS."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from intern.resource.boss.resource import ChannelResource

from tests.fixtures_boss import BossServer, Place, make_place
from tests.local_boss.verdicts import verdict


@pytest.fixture
def objects(place: Place) -> ChannelResource:
    """Return a channel with object 3 across four chunks and object 2**63 in one voxel."""
    channel = place.channel("ids", "uint64", "annotation")
    data = np.zeros((6, 30, 20), np.uint64)
    data[1:5, 2:28, 3:17] = 3
    data[5, 29, 19] = 2**63
    place.server.remote().create_cutout(channel, 0, [500, 520], [490, 520], [12, 18], data)
    return channel


@pytest.mark.slow
def test_ids_in_a_region_are_sorted_and_without_zero(place: Place, objects: ChannelResource) -> None:
    remote = place.server.remote()
    assert remote.get_ids_in_region(objects, 0, [0, 600], [0, 700], [0, 40]) == [3, 2**63]
    assert remote.get_ids_in_region(objects, 0, [0, 503], [0, 700], [0, 40]) == []
    reply = place.server.ask("GET", f"/v1/ids/{place.path('ids')}/0/500:520/490:520/12:18/")
    assert reply.json() == {"ids": ["3", str(2**63)]}


def test_a_tight_box_is_exact_and_a_loose_one_in_whole_chunks(place: Place, objects: ChannelResource) -> None:
    remote = place.server.remote()
    tight = remote.get_bounding_box(objects, 0, 3, "tight")
    assert tight == {"x_range": [503, 517], "y_range": [492, 518], "z_range": [13, 17], "t_range": [0, 1]}
    loose = remote.get_bounding_box(objects, 0, 3, "loose")
    assert loose == {"x_range": [0, 1024], "y_range": [0, 1024], "z_range": [0, 32], "t_range": [0, 1]}
    assert remote.get_bounding_box(objects, 0, 2**63, "tight")["x_range"] == [519, 520]


def test_a_box_spans_the_time_samples(boss_server: BossServer) -> None:
    place = make_place(boss_server, samples=5)
    channel = place.channel("ids", "uint64", "annotation")
    data = np.full((2, 1, 1, 1), 7, np.uint64)
    boss_server.remote().create_cutout(channel, 0, [5, 6], [6, 7], [8, 9], data, time_range=[2, 4])
    box = boss_server.remote().get_bounding_box(channel, 0, 7, "tight")
    assert box == {"x_range": [5, 6], "y_range": [6, 7], "z_range": [8, 9], "t_range": [2, 4]}


REFUSED = {
    "an object that is nowhere": ("boundingbox", "/0/99/", 404, 4004),
    "an object beyond any id": ("boundingbox", f"/0/{10**30}/", 404, 4004),
    "an unknown type of box": ("boundingbox", "/0/3/?type=round", 400, 1005),
    "a resolution that is not there": ("boundingbox", "/3/3/", 400, 1002),
    "a resolution that nobody computed": ("boundingbox", "/1/3/", 500, "text/html"),
    "an id that is none": ("boundingbox", "/0/three/", 404, "text/html"),
    "an empty range": ("ids", "/0/4:4/0:1/0:1/", 400, 1001),
    "ids at a resolution that nobody computed": ("ids", "/1/0:4/0:1/0:1/", 500, "text/html"),
    "too many ids": ("reserve", f"/{10**19}", 400, 1005),
    "a negative count": ("reserve", "/-1", 404, "text/html"),
}


@pytest.mark.parametrize(("service", "rest", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_meant_is_refused(
    place: Place, objects: ChannelResource, service: str, rest: str, status: int, code: int | str
) -> None:
    assert verdict(place.server.ask("GET", f"/v1/{service}/{place.path('ids')}{rest}")) == (status, code)


def test_an_image_has_no_objects(place: Place) -> None:
    place.channel("img")
    assert verdict(place.server.ask("GET", f"/v1/ids/{place.path('img')}/0/0:1/0:1/0:1/")) == (400, 2003)
    assert verdict(place.server.ask("GET", f"/v1/boundingbox/{place.path('img')}/0/1/")) == (400, 2003)
    assert verdict(place.server.ask("GET", f"/v1/reserve/{place.path('img')}/1")) == (500, "text/html")


def test_reserved_ids_are_handed_out_once(place: Place) -> None:
    channel = place.channel("ids", "uint64", "annotation")
    assert place.server.ask("GET", f"/v1/reserve/{place.path('ids')}/5").json() == {"start_id": 1, "count": "5"}
    with ThreadPoolExecutor(4) as pool:
        firsts = list(pool.map(lambda _: place.server.remote().reserve_ids(channel, 10), range(12)))
    assert sorted(firsts) == list(range(6, 126, 10))
