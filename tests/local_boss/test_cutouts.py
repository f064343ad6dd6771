"""Cutouts of the local BOSS, through the real client and as raw requests."""

from __future__ import annotations

import struct

import blosc
import numpy as np
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import ChannelResource

from tests.fixtures_boss import BossServer, Place, make_place, packed
from tests.local_boss.verdicts import verdict

BLOSC = {"Content-Type": "application/blosc"}
CUBE = "/0/0:4/0:3/0:2/"
BODY = packed(np.ones((2, 3, 4), np.uint8))


def post(
    place: Place, channel: str, ranges: str = CUBE, body: bytes = BODY, headers: dict[str, str] | None = None
) -> requests.Response:
    headers = BLOSC if headers is None else headers
    return place.server.ask("POST", f"/v1/cutout/{place.path(channel)}{ranges}", headers=headers, data=body)


def get(place: Place, channel: str, ranges: str = CUBE, headers: dict[str, str] | None = None) -> requests.Response:
    return place.server.ask("GET", f"/v1/cutout/{place.path(channel)}{ranges}", headers=headers)


@pytest.mark.parametrize(
    ("datatype", "kind"), [("uint8", "image"), ("uint16", "image"), ("uint8", "annotation"), ("uint64", "annotation")]
)
def test_what_is_written_is_read_back(place: Place, datatype: str, kind: str) -> None:
    remote = place.server.remote()
    channel = place.channel("ch", datatype, kind)
    data = np.random.default_rng(1).integers(0, np.iinfo(datatype).max, (20, 130, 90), datatype, endpoint=True)
    remote.create_cutout(channel, 0, [500, 590], [410, 540], [15, 35], data)
    np.testing.assert_array_equal(remote.get_cutout(channel, 0, [500, 590], [410, 540], [15, 35]), data)
    around = remote.get_cutout(channel, 0, [400, 600], [400, 560], [0, 40])
    assert around.dtype == np.dtype(datatype)
    assert np.count_nonzero(around) == np.count_nonzero(data), "nothing is written outside of the box"


def test_unwritten_voxels_are_zero(place: Place) -> None:
    channel = place.channel("ch")
    assert not place.server.remote().get_cutout(channel, 0, [0, 600], [0, 700], [0, 40]).any()


def test_zeros_never_erase_and_to_black_does(place: Place) -> None:
    """A second push of a smaller mask leaves the union: BOSS merges."""
    remote = place.server.remote()
    channel = place.channel("ch")
    first, second = np.zeros((2, 1, 4), np.uint8), np.zeros((2, 1, 4), np.uint8)
    first[0], second[1] = 7, 9
    second[0, 0, 0] = 5
    remote.create_cutout(channel, 0, [510, 514], [0, 1], [15, 17], first)
    remote.create_cutout(channel, 0, [510, 514], [0, 1], [15, 17], second)
    merged = remote.get_cutout(channel, 0, [510, 514], [0, 1], [15, 17])
    assert merged.tolist() == [[[5, 7, 7, 7]], [[9, 9, 9, 9]]]
    remote.create_cutout_to_black(channel, 0, [511, 513], [0, 1], [15, 17])
    assert remote.get_cutout(channel, 0, [510, 514], [0, 1], [15, 17]).tolist() == [[[5, 0, 0, 7]], [[9, 0, 0, 9]]]


def test_time_samples_are_apart(boss_server: BossServer) -> None:
    place = make_place(boss_server, samples=4)
    remote = boss_server.remote()
    channel = place.channel("ch", default_time_sample=2)
    data = np.arange(1, 2 * 2 * 3 * 4 + 1, dtype=np.uint8).reshape(2, 2, 3, 4)
    remote.create_cutout(channel, 0, [0, 4], [0, 3], [0, 2], data, time_range=[1, 3])
    np.testing.assert_array_equal(remote.get_cutout(channel, 0, [0, 4], [0, 3], [0, 2], time_range=[1, 3]), data)
    assert not remote.get_cutout(channel, 0, [0, 4], [0, 3], [0, 2], time_range=[0, 1]).any()
    # without a time range the default sample is meant
    np.testing.assert_array_equal(remote.get_cutout(channel, 0, [0, 4], [0, 3], [0, 2]), data[1])


def test_one_time_sample_beyond_the_last_is_let_through(boss_server: BossServer) -> None:
    place = make_place(boss_server, samples=4)
    place.channel("ch")
    assert post(place, "ch", "/0/0:4/0:3/0:2/4:5/").status_code == 201
    assert blosc.decompress(get(place, "ch", "/0/0:4/0:3/0:2/4:5/").content) == bytes([1] * 24)
    empty = get(place, "ch", "/0/0:4/0:3/0:2/2:2/")
    assert (empty.status_code, blosc.decompress(empty.content)) == (200, b"")


def test_more_time_samples_can_be_added_later(boss_server: BossServer) -> None:
    place = make_place(boss_server)
    place.channel("ch")
    assert post(place, "ch").status_code == 201
    path = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}"
    assert boss_server.ask("PUT", path, json={"num_time_samples": 9}).json()["num_time_samples"] == 9
    assert post(place, "ch", CUBE + "7:8/").status_code == 201
    times = blosc.decompress(get(place, "ch", CUBE + "0:9/").content)
    assert [times[24 * t] for t in range(9)] == [1, 0, 0, 0, 0, 0, 0, 1, 0]


def test_filter_keeps_the_objects_that_are_named(place: Place) -> None:
    remote = place.server.remote()
    channel = place.channel("ids", "uint64", "annotation")
    data = np.array([[[1, 2, 3, 2**63]]], np.uint64)
    remote.create_cutout(channel, 0, [0, 4], [0, 1], [0, 1], data)
    kept = remote.get_cutout(channel, 0, [0, 4], [0, 1], [0, 1], id_list=[3, 1, 77])
    assert kept.tolist() == [[[1, 0, 3, 0]]]
    assert get(place, "ids", "/0/0:4/0:1/0:1/?filter=zebra,-2").status_code == 200


def test_a_frame_that_starts_elsewhere_bounds_the_cutouts(boss_server: BossServer) -> None:
    place = make_place(boss_server, start=(5, 100, 200), stop=(20, 300, 400))
    place.channel("ch")
    assert post(place, "ch", "/0/396:400/297:300/18:20/").status_code == 201
    assert get(place, "ch", "/0/200:400/100:300/5:20/").status_code == 200
    for outside in ["/0/199:204/100:103/5:7/", "/0/200:204/99:102/5:7/", "/0/200:204/100:103/4:6/"]:
        assert verdict(get(place, "ch", outside)) == (400, 1001)


def test_ranges_are_checked_against_the_frame_at_every_resolution(place: Place) -> None:
    """As in BOSS: at resolution 1 one may read twice as far as there is anything."""
    place.channel("ch")
    assert get(place, "ch", "/1/590:600/0:1/0:1/").status_code == 200
    assert verdict(get(place, "ch", "/1/590:601/0:1/0:1/")) == (400, 1001)


REFUSED = {
    "empty range": ("/0/4:4/0:3/0:2/", 400, 1001),
    "reversed range": ("/0/4:0/0:3/0:2/", 400, 1001),
    "beyond the frame": ("/0/597:601/0:3/0:2/", 400, 1001),
    "far beyond any number": (f"/0/0:4/0:{'9' * 40}/0:2/", 400, 1001),
    "resolution above the last": ("/3/0:4/0:3/0:2/", 400, 1002),
    "resolution before ranges": ("/3/4:0/0:3/0:2/", 400, 1002),
    "resolution of two digits": ("/10/0:4/0:3/0:2/", 404, "text/html"),
    "negative resolution": ("/-1/0:4/0:3/0:2/", 404, "text/html"),
    "float resolution": ("/0.5/0:4/0:3/0:2/", 404, "text/html"),
    "negative range": ("/0/-1:4/0:3/0:2/", 404, "text/html"),
    "float range": ("/0/0.0:4.0/0:3/0:2/", 404, "text/html"),
    "time start beyond": ("/0/0:4/0:3/0:2/2:2/", 400, 1000),
    "time stop beyond": ("/0/0:4/0:3/0:2/0:3/", 400, 1000),
    "time reversed": ("/0/0:4/0:3/0:2/1:0/", 400, 1000),
    "time before resolution": ("/3/0:4/0:3/0:2/1:0/", 400, 1000),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("ranges", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_ranges_that_cannot_be_meant_are_refused(
    place: Place, method: str, ranges: str, status: int, code: int | str
) -> None:
    place.channel("ch")
    assert verdict(get(place, "ch", ranges) if method == "GET" else post(place, "ch", ranges)) == (status, code)
    black = place.server.ask("PUT", f"/v1/cutout/to_black/{place.path('ch')}{ranges}")
    assert verdict(black) == (status, code)


def test_the_refusals_say_what_boss_says(place: Place) -> None:
    place.channel("ch")
    assert get(place, "ch", "/0/4:4/0:3/0:2/").json()["message"] == "Incorrect cutout arguments 0/4:4/0:3/0:2"
    expected = "Invalid resolution 3. The resolution has to be within 0 and 3"
    assert get(place, "ch", "/3/0:4/0:3/0:2/").json()["message"] == expected
    assert get(place, "nope").json()["message"] == "Channel nope not found"


MISSING = {"collection": "nope/e/c", "experiment": "{col}/nope/c", "channel": "{col}/{exp}/nope"}


@pytest.mark.parametrize("path", MISSING.values(), ids=MISSING.keys())
def test_what_does_not_exist_is_not_found(place: Place, path: str) -> None:
    path = path.format(col=place.collection.name, exp=place.experiment.name)
    for method, url in [("GET", "/v1/cutout/"), ("POST", "/v1/cutout/"), ("PUT", "/v1/cutout/to_black/")]:
        reply = place.server.ask(method, f"{url}{path}{CUBE}", headers=BLOSC, data=BODY)
        assert verdict(reply) == (404, 4000)
        assert reply.json()["message"].endswith("nope not found")


BAD_BODIES = {
    "no Blosc": (b"these are not the voxels", 400, 2001),
    "shorter than a header": (b"\x02\x01", 400, 2001),
    "cut in the middle": (packed(np.arange(24, dtype=np.uint8))[:-3], 400, 2001),
    "followed by rubbish": (BODY + b"rubbish", 400, 2001),
    "too few voxels": (packed(np.ones((2, 3, 3), np.uint8)), 400, 2002),
    "wrong datatype": (packed(np.ones((2, 3, 4), np.float64)), 400, 2002),
    "a bomb": (blosc.compress(bytes(2**28), typesize=1), 400, 2002),
    "a header that lies about its size": (BODY[:4] + struct.pack("<I", 2**31 - 1) + BODY[8:], 400, 2001),
    "empty": (b"", 500, "text/html"),
}


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_not_the_voxels_is_refused(place: Place, body: bytes, status: int, code: int | str) -> None:
    place.channel("ch")
    assert verdict(post(place, "ch", body=body)) == (status, code)
    assert not any(blosc.decompress(get(place, "ch").content)), "nothing was stored"


def test_an_image_has_no_objects_to_filter_by(place: Place) -> None:
    place.channel("ch")
    assert verdict(get(place, "ch", CUBE + "?filter=1,2")) == (400, 2003)


@pytest.mark.parametrize("mode", ["cache", "no-cache", "raw"])
def test_every_access_mode_is_served(place: Place, mode: str) -> None:
    place.channel("ch")
    assert get(place, "ch", f"{CUBE}?access-mode={mode}").status_code == 200
    assert get(place, "ch", f"{CUBE}?no-cache=true").status_code == 200


@pytest.mark.parametrize("query", ["?access-mode=fast", "?access-mode=raw&no-cache=true"])
def test_an_access_mode_that_does_not_exist_is_refused(place: Place, query: str) -> None:
    place.channel("ch")
    assert verdict(get(place, "ch", CUBE + query)) == (400, 1001)


UNFIT = {
    "wrong method": ("PUT", "/v1/cutout/", {}),
    "other content type": ("POST", "/v1/cutout/", {"Content-Type": "application/json"}),
    "other accept": ("GET", "/v1/cutout/", {"Accept": "image/png"}),
}


@pytest.mark.parametrize(("method", "path", "headers"), UNFIT.values(), ids=UNFIT.keys())
def test_what_blosc_cannot_say_breaks_down_as_in_boss(
    place: Place, method: str, path: str, headers: dict[str, str]
) -> None:
    place.channel("ch")
    reply = place.server.ask(method, f"{path}{place.path('ch')}{CUBE}", headers=headers, data=BODY)
    assert verdict(reply) == (500, "text/html")


def test_writing_far_from_the_base_resolution_is_refused(place: Place) -> None:
    place.channel("ch")
    assert post(place, "ch", "/1/0:4/0:3/0:2/").status_code == 201
    reply = post(place, "ch", "/2/0:4/0:3/0:2/")
    assert verdict(reply) == (400, 9001)
    assert "RESOLUTION_MISMATCH" in reply.json()["message"]


def test_a_base_resolution_moves_the_range_of_resolutions(place: Place) -> None:
    place.channel("ch", base_resolution=1)
    assert verdict(get(place, "ch", "/0/0:4/0:3/0:2/")) == (400, 1002)
    assert post(place, "ch", "/1/0:4/0:3/0:2/").status_code == 201
    assert get(place, "ch", "/3/0:4/0:3/0:2/").status_code == 200


UNSERVED = {"uint32": ("uint32", "image", "/0"), "uint64 image": ("uint64", "image", "/0")}


@pytest.mark.parametrize(("datatype", "kind", "resolution"), UNSERVED.values(), ids=UNSERVED.keys())
def test_channels_that_boss_cannot_serve_are_made_and_fail(
    place: Place, datatype: str, kind: str, resolution: str
) -> None:
    path = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}/channel/odd"
    assert place.server.ask("POST", path, json={"type": kind, "datatype": datatype}).status_code == 201
    assert verdict(get(place, "odd")) == (500, "text/html")
    assert verdict(post(place, "odd")) == (500, "text/html")


def test_annotations_at_a_resolution_that_nobody_computed_fail(place: Place) -> None:
    place.channel("ids", "uint64", "annotation")
    assert verdict(get(place, "ids", "/1/0:4/0:3/0:2/")) == (500, "text/html")


def test_a_cutout_over_520_mib_is_refused_before_anything_is_read(boss_server: BossServer) -> None:
    place = make_place(boss_server, stop=(1000, 100_000, 100_000))
    place.channel("small", "uint8")
    place.channel("middle", "uint16")
    place.channel("large", "uint64", "annotation")
    inside, beyond = "/0/0:1024/0:1024/0:520/", "/0/0:1024/0:1024/0:521/"
    wide = "/0/0:100000/0:100000/0:1000/"
    assert verdict(get(place, "small", beyond)) == (413, 2000)
    assert verdict(get(place, "small", wide)) == (413, 2000)
    assert verdict(post(place, "small", beyond)) == (413, 2000)
    assert verdict(place.server.ask("PUT", f"/v1/cutout/to_black/{place.path('small')}{beyond}")) == (413, 2000)
    assert verdict(get(place, "middle", "/0/0:1024/0:1024/0:261/")) == (413, 2000)
    # a voxel of uint64 counts two bytes, but no Blosc buffer holds more than 2 GiB
    assert verdict(get(place, "large", "/0/0:1024/0:1024/0:261/")) == (413, 2000)
    assert verdict(get(place, "large", "/0/0:1024/0:1024/0:256/")) == (413, 2000)
    assert verdict(place.server.ask("PUT", f"/v1/cutout/to_black/{place.path('small')}{inside}"))[0] == 200
    message = "Cutout request is over 500MB when uncompressed. Reduce cutout dimensions."
    assert get(place, "small", beyond).json()["message"] == message


def test_a_body_that_the_proxy_would_stop_is_stopped(place: Place) -> None:
    """The announced length is enough; nothing of it is read."""
    place.channel("ch")
    prepared = requests.Request(
        "POST",
        f"{place.server.url}/v1/cutout/{place.path('ch')}{CUBE}",
        headers={**BLOSC, "Authorization": f"Token {place.server.token}"},
        data=b"start",
    ).prepare()
    prepared.headers["Content-Length"] = str(551 * 2**20)
    with requests.Session() as session:
        reply = session.send(prepared, timeout=20)
    assert verdict(reply) == (413, "text/html")


@pytest.mark.slow
def test_the_client_cuts_a_large_upload_and_reads_it_back(boss_server: BossServer) -> None:
    place = make_place(boss_server, stop=(80, 1100, 1100))
    remote = boss_server.remote()
    channel = place.channel("ch")
    data = np.zeros((70, 1000, 1000), np.uint8)  # more than 67 Mvoxel: the client sends several requests
    data[::7, ::11, ::13] = 200
    remote.create_cutout(channel, 0, [50, 1050], [60, 1060], [5, 75], data)
    for z in (5, 40):
        part = remote.get_cutout(channel, 0, [50, 1050], [60, 1060], [z, z + 35], parallel=False)
        np.testing.assert_array_equal(part, data[z - 5 : z + 30])


def test_replies_to_writes_are_empty(place: Place) -> None:
    place.channel("ch")
    assert post(place, "ch").content == b""
    assert place.server.ask("PUT", f"/v1/cutout/to_black/{place.path('ch')}{CUBE}").content == b""


EXTENT = (36, 540, 530)
axis = [st.tuples(st.integers(0, n - 1), st.integers(1, 40)).map(lambda p, n=n: (p[0], min(sum(p), n))) for n in EXTENT]  # type: ignore[misc] # a default binds n


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(*axis, st.integers(0, 2**32), st.booleans()), min_size=1, max_size=5))
def test_for_any_writes_the_channel_equals_the_model(boss_server: BossServer, steps: list) -> None:
    """For any sequence of overlapping writes and erasures, non-zero voxels win and nothing else changes."""
    place = make_place(boss_server, stop=EXTENT)
    remote = boss_server.remote()
    channel: ChannelResource = place.channel("ch", "uint16")
    model = np.zeros(EXTENT, np.uint16)
    for z, y, x, seed, black in steps:
        target = model[slice(*z), slice(*y), slice(*x)]
        if black:
            remote.create_cutout_to_black(channel, 0, list(x), list(y), list(z))
            target[...] = 0
            continue
        data = np.random.default_rng(seed).integers(0, 3, target.shape, np.uint16) * 300
        remote.create_cutout(channel, 0, list(x), list(y), list(z), data)
        np.copyto(target, data, where=data != 0)
    whole = remote.get_cutout(channel, 0, [0, EXTENT[2]], [0, EXTENT[1]], [0, EXTENT[0]])
    np.testing.assert_array_equal(whole, model)
    z, y, x, *_ = steps[0]
    part = remote.get_cutout(channel, 0, list(x), list(y), list(z))
    np.testing.assert_array_equal(part, model[slice(*z), slice(*y), slice(*x)])
