"""The fault plan of the local BOSS: a client meets exactly what was planned, and nothing without a plan."""

from __future__ import annotations

import json
import signal
import time

import blosc
import numpy as np
import pytest
import requests

from tests.faults.boss_plan import OF_VOXELS
from tests.fixtures_boss import fill, start_boss

VOXELS = np.random.default_rng(1).integers(0, 200, (2, 30, 40), np.uint8)
CUTOUT = "/v1/cutout/col/exp/chan/0/0:40/0:30/0:2"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with one channel."""
    folder = tmp_path_factory.mktemp("faults")
    fill(folder, "col", "exp", {"chan": VOXELS})
    return folder


def plan(*rules, **more):
    return ["--faults", json.dumps({"rules": list(rules), **more})]


def voxels(reply):
    return np.frombuffer(blosc.decompress(reply.content), np.uint8)


# fault | what the client meets at the first cutout
SAID = {
    "429": (429, "text/html"),
    "429-retry-after": (429, "text/html"),
    "quota": (429, "application/json"),
    "500": (500, "text/html"),
    "502": (502, "text/html"),
    "503": (503, "text/html"),
    "504": (504, "text/html"),
    "forbidden": (403, "application/json"),
}


@pytest.mark.slow
def test_each_fault_is_met_where_it_was_planned_and_passes(data):
    """One server for all: each fault has a rule of its own, for one request, one after the other."""
    others = [*sorted(OF_VOXELS - {"stale"}), "truncated", "reset", "slow", "stall"]
    rules = [
        {"fault": fault, "on": "cutout-get", "first": number, "seconds": 0.5}
        for number, fault in enumerate([*SAID, *others], start=1)
    ]
    with start_boss(data, *plan(*rules)) as server:
        for fault, (status, kind) in SAID.items():
            reply = server.ask("GET", CUTOUT)
            assert (reply.status_code, reply.headers["Content-Type"].split(";")[0]) == (status, kind), fault
            assert reply.headers.get("Retry-After") == ("1" if fault == "429-retry-after" else None)
            assert server.ask("GET", "/v1/collection/col").status_code == 200, "other requests are left alone"
            if fault in ("quota", "forbidden"):
                assert reply.json()["code"] == {"quota": 3004, "forbidden": 3001}[fault]
        damaged = server.ask("GET", CUTOUT)
        assert damaged.status_code == 200
        assert damaged.headers["Content-Digest"] != server_digest(damaged.content)
        wide, short = server.ask("GET", CUTOUT), server.ask("GET", CUTOUT)
        assert (voxels(wide).view(np.uint16).reshape(VOXELS.shape) == VOXELS).all()
        assert (voxels(short) == VOXELS.ravel()[: VOXELS.size // 2]).all()
        for honest in (wide, short):
            assert honest.headers["Content-Digest"] == server_digest(honest.content)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            server.ask("GET", CUTOUT)
        with pytest.raises(requests.ConnectionError):
            server.ask("GET", CUTOUT)
        for _ in ("slow", "stall"):
            began = time.monotonic()
            assert (voxels(server.ask("GET", CUTOUT)) == VOXELS.ravel()).all()
            assert time.monotonic() - began > 0.45
        again = server.ask("GET", CUTOUT)
        assert (voxels(again) == VOXELS.ravel()).all()
        assert again.headers["Content-Digest"] == server_digest(again.content)


def server_digest(content):
    from nd_synapse.local_boss.responses import digest

    return digest(content)


def test_reads_may_be_stale_and_answers_lost_whether_or_not_the_request_was_carried_out(data):
    """One server for all; a plan remembers what was read and written."""
    fill(data, "col", "exp", {"other": np.zeros_like(VOXELS)})
    other = CUTOUT.replace("chan", "other")
    body = blosc.compress(VOXELS, typesize=1)
    stale = {"fault": "stale", "on": "cutout-get", "times": 2}
    lost = [{"fault": "reset", "on": "metadata", "first": first, "done": first == 1} for first in (1, 3)]
    with start_boss(data, *plan(stale, *lost)) as server:
        assert (voxels(server.ask("GET", CUTOUT)) == VOXELS.ravel()).all(), "nobody wrote to that one"
        headers = {"Content-Type": "application/blosc"}
        assert server.ask("POST", other, data=body, headers=headers).status_code == 201
        for _ in range(2):
            assert not voxels(server.ask("GET", other)).any()
        assert (voxels(server.ask("GET", other)) == VOXELS.ravel()).all()
        for name, status in (("done", 200), ("not-done", 404)):
            with pytest.raises(requests.ConnectionError):
                server.ask("POST", f"/v1/collection/{name}", json={})
            assert server.ask("GET", f"/v1/collection/{name}").status_code == status


def test_a_server_that_restarts_is_killed_where_the_plan_in_a_file_says(data, tmp_path):
    (tmp_path / "plan.json").write_text('{"rules": [{"fault": "restart", "first": 3}]}')
    with start_boss(data, "--faults", f"@{tmp_path / 'plan.json'}") as server:
        for _ in range(2):
            assert server.ask("GET", CUTOUT).status_code == 200
        with pytest.raises(requests.ConnectionError):
            server.ask("GET", CUTOUT)
        assert server.process.wait(10) == -signal.SIGKILL
        with start_boss(data, port=int(server.host.rpartition(":")[2])) as again:
            assert (voxels(again.ask("GET", CUTOUT)) == VOXELS.ravel()).all()
