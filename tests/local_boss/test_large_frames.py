"""The local BOSS where a frame is as large as one can be: what a request takes depends on what is stored.

The server may have 3 GB of addresses, of which it takes one when it starts, so that a test that fails harms nobody.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from nd_synapse.local_boss.cutouts import LARGEST_CUTOUT_CUBOIDS
from tests.fixtures_boss import BossServer, packed, start_boss
from tests.local_boss.verdicts import verdict

END = 2**31 - 1
LIMIT_S = 10.0
MOST_GROWTH_BYTES = 100 * 2**20
HEADERS = {"Content-Type": "application/blosc"}


@pytest.fixture(scope="module")
def vast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """Return a server with an experiment of 2^31 - 1 voxels and time samples, with three objects in its channels."""
    with start_boss(tmp_path_factory.mktemp("vast"), limits="-v 3000000") as server:
        ends = {f"{axis}_{end}": n for axis in "xyz" for end, n in (("start", 0), ("stop", END), ("voxel_size", 1))}
        make(server, "/v1/coord/vast", {**ends, "voxel_unit": "nanometers"})
        make(server, "/v1/collection/lab", {})
        fields = {"coord_frame": "vast", "num_time_samples": END}
        make(server, "/v1/collection/lab/experiment/pilot", fields)
        channels = "/v1/collection/lab/experiment/pilot/channel"
        make(server, f"{channels}/ann", {"type": "annotation", "datatype": "uint64"})
        make(server, f"{channels}/img", {"type": "image", "datatype": "uint8"})
        for number, place in [(7, "0:4/0:1/0:1/0:1"), (9, "2000000000:2000000004/5:6/5:6/0:1"), (8, "0:4/0:1/0:1/3:4")]:
            body = packed(np.full((1, 1, 1, 4), number, np.uint64))
            path = f"/v1/cutout/lab/pilot/ann/0/{place}/"
            assert server.ask("POST", path, headers=HEADERS, data=body).status_code == 201
        yield server


def make(server: BossServer, path: str, fields: dict[str, object]) -> None:
    assert server.ask("POST", path, json=fields).status_code == 201


def requested(server: BossServer, method: str, path: str) -> requests.Response:
    """Ask within a time and a growth that no request over chunks that are not there would keep."""
    process = psutil.Process(server.process.pid)
    before, began = process.memory_info().rss, time.monotonic()
    reply = server.ask(method, path, headers=HEADERS if "cutout" in path else {})
    assert time.monotonic() - began < LIMIT_S
    assert process.memory_info().rss < before + MOST_GROWTH_BYTES
    return reply


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranges", "ids"),
    [
        (f"0:{END}/0:{END}/0:{END}", ["7", "9"]),
        (f"0:{END}/0:{END}/0:{END}/0:{END}", ["7", "8", "9"]),
        (f"0:1/0:1/0:1/0:{END}", ["7", "8"]),
        (f"4:{END}/0:{END}/0:{END}/0:{END}", ["9"]),
        (f"4:2000000000/0:{END}/0:{END}/0:{END}", []),
        (f"0:1/0:1/0:{END}/1:3", []),
    ],
)
def test_ids_are_looked_for_where_something_is_stored(vast: BossServer, ranges: str, ids: list[str]) -> None:
    assert requested(vast, "GET", f"/v1/ids/lab/pilot/ann/0/{ranges}/").json() == {"ids": ids}


def test_time_samples_that_the_experiment_does_not_have_are_no_range_of_ids(vast: BossServer) -> None:
    assert verdict(requested(vast, "GET", f"/v1/ids/lab/pilot/ann/0/0:1/0:1/0:1/0:{END + 2}/")) == (400, 1000)


def test_a_bounding_box_is_looked_for_where_something_is_stored(vast: BossServer) -> None:
    box = requested(vast, "GET", "/v1/boundingbox/lab/pilot/ann/0/9/?type=tight").json()
    assert box["x_range"] == [2000000000, 2000000004]


@pytest.mark.parametrize("ranges", ["0:60000000/0:1/0:1", "0:1/0:1/0:1/0:60000000", "511:513/0:1/0:2100000"])
@pytest.mark.parametrize(("method", "kind"), [("GET", "cutout"), ("POST", "cutout"), ("PUT", "cutout/to_black")])
def test_a_cutout_in_very_many_cuboids_is_refused(vast: BossServer, method: str, kind: str, ranges: str) -> None:
    """It holds no more voxels than others, and would take hours and gigabytes."""
    options: dict[str, Any] = {"data": packed(np.ones(4, np.uint8))} if method == "POST" else {}
    path = f"/v1/{kind}/lab/pilot/img/0/{ranges}/"
    assert verdict(vast.ask(method, path, headers=HEADERS, **options)) == (413, 2000)


def test_a_cutout_in_as_many_cuboids_as_may_be_is_answered(vast: BossServer) -> None:
    path = f"/v1/cutout/lab/pilot/img/0/0:1/0:1/0:{LARGEST_CUTOUT_CUBOIDS * 16}/"
    assert requested(vast, "GET", path).status_code == 200
    assert requested(vast, "PUT", path.replace("cutout", "cutout/to_black")).status_code == 200


@pytest.mark.slow
def test_a_region_of_too_many_objects_is_refused(vast: BossServer) -> None:
    """Nothing else bounds the reply: the box of a request for ids is as large as anybody likes."""
    channels = "/v1/collection/lab/experiment/pilot/channel"
    make(vast, f"{channels}/crowd", {"type": "annotation", "datatype": "uint64"})
    voxels = np.arange(1, 5 * 2**18 + 1, dtype=np.uint64).reshape(5, 512, 512)
    path = "/lab/pilot/crowd/0/0:512/0:512"
    assert vast.ask("POST", f"/v1/cutout{path}/0:5/", headers=HEADERS, data=packed(voxels)).status_code == 201
    assert verdict(vast.ask("GET", f"/v1/ids{path}/0:5/")) == (413, 2000)
    assert len(vast.ask("GET", f"/v1/ids{path}/0:4/").json()["ids"]) == 2**20


@pytest.mark.parametrize("levels", [{"num_hierarchy_levels": END}, {"num_hierarchy_levels": 65}])
def test_levels_without_end_are_refused(vast: BossServer, levels: dict[str, int]) -> None:
    """A downsample status has a line for each."""
    path = "/v1/collection/lab/experiment/deep"
    assert verdict(vast.ask("POST", path, json={"coord_frame": "vast", **levels})) == (400, 1003)
    fields = {"type": "image", "datatype": "uint8", "base_resolution": END}
    assert verdict(vast.ask("POST", "/v1/collection/lab/experiment/pilot/channel/deep", json=fields)) == (400, 1003)


def test_levels_of_an_older_catalog_are_listed_up_to_the_last_possible_one(vast: BossServer) -> None:
    make(vast, "/v1/collection/lab/experiment/older", {"coord_frame": "vast", "num_hierarchy_levels": 64})
    make(vast, "/v1/collection/lab/experiment/older/channel/c", {"type": "image", "datatype": "uint8"})
    with closing(sqlite3.connect(vast.data / "catalog.sqlite")) as db, db:
        db.execute("UPDATE experiments SET num_hierarchy_levels = ? WHERE name = 'older'", [END])
    status = requested(vast, "GET", "/v1/downsample/lab/older/c").json()
    assert len(status["voxel_size"]) == 64
    assert status["extent"]["63"] == [1, 1, END]
