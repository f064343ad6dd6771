"""The one retry policy: what passes, how often, how long; as decisions, and against a server over HTTP."""

from __future__ import annotations

import contextlib
import logging
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import blosc
import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import ChannelResource, CollectionResource

from nd_synapse.boss.connection import connect, describe_resource
from nd_synapse.boss.cutouts import read_cutout
from nd_synapse.boss.errors import DamagedError, OversizedError, UntrustedError
from nd_synapse.boss.retry import UNREADABLE_ATTEMPTS, Mishap, Patience, mishap_of_answer, mishap_of_error, pause_before
from nd_synapse.errors import NDSynapseError, UnavailableError
from nd_synapse.geometry import Box
from nd_synapse.local_boss.responses import digest
from tests.faulty_boss import boss_error, faulty_boss, says

BRISK = Patience(connect_s=2, read_s=0.5, total_s=5, attempts=4, pause_s=0.01, longest_pause_s=0.02)
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOX = Box((0, 2), (0, 3), (0, 4))
VOXELS = np.arange(24, dtype=np.uint8)
PACKED = blosc.compress(VOXELS.tobytes(), typesize=1)
CHANNEL = ChannelResource("c", "col", "exp", datatype="uint8")
COLLECTION = {"name": "col", "description": "", "creator": "me", "public": False, "experiments": []}


def answer(status: int, body: bytes = b"<html>", **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code, response._content = status, body
    response.headers.update(headers)
    return response


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_what_a_proxy_or_a_busy_server_answers_passes(status):
    mishap = mishap_of_answer(answer(status), NOW)
    assert mishap is not None
    assert mishap.passes
    assert str(status) in mishap.reason


@pytest.mark.parametrize("status", [200, 201, 301, 400, 401, 403, 404, 409, 413, 418, 501, 505])
def test_what_would_be_answered_again_counts(status):
    assert mishap_of_answer(answer(status), NOW) is None


def test_a_monthly_quota_is_no_busy_server():
    """It ends with the month: asking again spends patience on it, and more of what is counted."""
    body = b'{"status": 429, "code": 3004, "message": "User is throttled. Expected available tomorrow."}'
    assert mishap_of_answer(answer(429, body), NOW) is None
    assert mishap_of_answer(answer(429, body, **{"Retry-After": "1"}), NOW) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        (format_datetime(NOW + timedelta(seconds=90)), 90),
        (format_datetime(NOW - timedelta(seconds=90)), 0),
        ((NOW + timedelta(seconds=5)).strftime("%a, %d %b %Y %H:%M:%S"), 5),
        *[("-3", 0), ("soon", 0), ("", 0), ("1.5", 0), ("٣", 0)],
        ("9" * 400, 999999999),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
    ],
)
def test_a_server_is_left_alone_as_long_as_it_asks(header, seconds):
    mishap = mishap_of_answer(answer(503, **{"Retry-After": header}), NOW)
    assert mishap is not None
    assert mishap.wait_s == seconds


@given(header=st.text(max_size=30))
def test_for_any_text_as_retry_after_the_wait_is_a_time(header):
    with contextlib.suppress(requests.exceptions.InvalidHeader):
        mishap = mishap_of_answer(answer(503, **{"Retry-After": header}), NOW)
        assert mishap is not None
        assert mishap.wait_s >= 0


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (requests.ConnectionError(), True),
        (requests.ConnectTimeout(), True),
        (requests.ReadTimeout(), True),
        (requests.exceptions.ChunkedEncodingError(), True),
        (DamagedError(), True),
        (OversizedError(), False),
        (requests.exceptions.SSLError(ssl.SSLEOFError()), True),
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError()), False),
        (UntrustedError(), False),
        (requests.exceptions.InvalidURL(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_passes_or_does_not(error, passes):
    assert mishap_of_error(error).passes is passes


times = st.floats(0, 1e6)


@given(
    attempt=st.integers(2, 30),
    elapsed=times,
    chance=st.floats(0, 1, exclude_max=True),
    mishap=st.builds(Mishap, st.just("so"), st.booleans(), times),
)
def test_for_any_mishap_an_attempt_begins_within_the_limits_or_not_at_all(attempt, elapsed, chance, mishap):
    patience = Patience()
    pause = pause_before(attempt, elapsed, chance, mishap, patience)
    if pause is None:
        slowest = mishap.wait_s + patience.pause_before(attempt, chance)
        assert not mishap.passes or attempt > patience.attempts or elapsed + slowest >= patience.total_s
    else:
        assert mishap.passes
        assert attempt <= patience.attempts
        assert mishap.wait_s <= pause <= mishap.wait_s + patience.longest_pause_s
        assert elapsed + pause < patience.total_s


def test_the_pauses_grow_and_are_spread():
    bounds = [Patience().pause_before(attempt, 1.0) for attempt in range(2, 9)]
    assert bounds == [1, 2, 4, 8, 16, 30, 30]
    assert Patience().pause_before(3, 0.25) == 0.5


@pytest.fixture
def boss():
    with faulty_boss() as plan:
        yield plan


def read(boss):
    return read_cutout(connect(boss.url, "public", patience=BRISK), CHANNEL, BOX)


def ask(boss):
    return describe_resource(connect(boss.url, "public", patience=BRISK), "collection col", CollectionResource("col"))


def test_a_busy_proxy_is_asked_again_when_it_says(boss, caplog):
    boss.add("GET", says(429, **{"Retry-After": "1"}), says(200, COLLECTION))
    assert ask(boss) == COLLECTION
    assert "HTTP status 429; trying again in 1.0 s" in caplog.text


def test_a_wait_beyond_the_limit_of_a_request_is_not_waited_for(boss):
    boss.add("GET", says(503, **{"Retry-After": "3600"}))
    with pytest.raises(UnavailableError, match="503"):
        ask(boss)
    assert boss.count("GET") == 1


def test_a_proxy_that_stays_busy_is_not_taken_for_a_quota(boss):
    boss.add("GET", *[says(429)] * 9)
    with pytest.raises(UnavailableError, match=r"no more requests for now .*after the retries.*--pulls"):
        ask(boss)
    assert boss.count("GET") == BRISK.attempts


def test_a_quota_is_asked_about_once(boss):
    boss.add("GET", *[boss_error(429, 3004, "User is throttled. Expected available tomorrow.")] * 9)
    with pytest.raises(UnavailableError, match="quota"):
        ask(boss)
    assert boss.count("GET") == 1


def flipped(body: bytes, place: int) -> bytes:
    return body[:place] + bytes([body[place] ^ 0x55]) + body[place + 1 :]


SPOILED = {
    "empty": b"",
    "no voxels": b"<html>welcome, please sign in to this network first</html>",
    "short": PACKED[:-1],
    "long": PACKED + b"\0",
    "half of the voxels": blosc.compress(VOXELS[:12].tobytes(), typesize=1),
    "none": blosc.compress(b"", typesize=1),
}


@pytest.mark.parametrize("body", SPOILED.values(), ids=SPOILED)
def test_voxels_of_another_length_are_asked_for_again_and_never_taken(boss, body):
    boss.add("GET", says(200, body), says(200, PACKED))
    np.testing.assert_array_equal(read(boss).ravel(), VOXELS)
    boss.add("GET", *[says(200, body)] * 9)
    with pytest.raises(UnavailableError, match=r"does not make sense: it .*after the retries"):
        read(boss)
    assert boss.count("GET") == 2 + BRISK.attempts


def test_voxels_of_another_type_are_refused(boss):
    boss.add("GET", says(200, blosc.compress(VOXELS.astype(np.uint16).tobytes(), typesize=2)))
    with pytest.raises(UnavailableError, match="48 bytes of voxels, unpacked, for the 24"):
        read(boss)
    assert boss.count("GET") == 1


@settings(max_examples=12, deadline=None)
@given(place=st.integers(0, len(PACKED) - 1))
def test_for_any_damaged_byte_voxels_with_a_digest_are_asked_for_again(place):
    with faulty_boss() as boss:
        sound = {"Content-Digest": digest(PACKED)}
        boss.add("GET", says(200, flipped(PACKED, place), **sound), says(200, PACKED, **sound))
        np.testing.assert_array_equal(read(boss).ravel(), VOXELS)
        assert boss.count("GET") == 2


@pytest.mark.parametrize("value", ["sha-512=:AAAA:", "sha-256=AAAA", "nonsense", ""])
def test_a_digest_of_another_kind_is_not_compared(boss, value):
    boss.add("GET", says(200, PACKED, **{"Content-Digest": value}))
    np.testing.assert_array_equal(read(boss).ravel(), VOXELS)


def test_a_digest_among_others_is_compared(boss):
    both = {"Content-Digest": f"sha-512=:AAAA:, {digest(PACKED)}"}
    boss.add("GET", *[says(200, flipped(PACKED, 20), **both)] * 9)
    with pytest.raises(UnavailableError, match="differs from the digest"):
        read(boss)


def damaged_inside() -> bytes:
    """Return packed voxels of the right lengths that cannot be unpacked."""
    noise = np.random.default_rng(0).integers(0, 4, BOX.voxels * 1000, np.uint8).tobytes()
    body = bytearray(blosc.compress(noise, typesize=1, cname="zstd"))
    body[16 : len(body) // 2] = bytes(len(body) // 2 - 16)
    return bytes(body)


def test_voxels_that_cannot_be_unpacked_are_asked_for_again_and_not_for_ever(boss, caplog):
    caplog.set_level(logging.WARNING)
    box = Box((0, 2), (0, 30), (0, 400))
    spoiled = damaged_inside()
    sound = blosc.compress(bytes(range(240)) * 100, typesize=1)
    remote = connect(boss.url, "public", patience=BRISK)
    boss.add("GET", *[says(200, spoiled)] * (UNREADABLE_ATTEMPTS - 1), says(200, sound))
    assert read_cutout(remote, CHANNEL, box).tobytes() == bytes(range(240)) * 100
    assert caplog.text.count("cannot be unpacked; asking again") == UNREADABLE_ATTEMPTS - 1
    boss.clear()
    boss.add("GET", *[says(200, spoiled)] * 9)
    with pytest.raises(NDSynapseError, match="does not make sense"):
        read_cutout(remote, CHANNEL, box)
    assert boss.count("GET") == UNREADABLE_ATTEMPTS
