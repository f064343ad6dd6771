"""After a push, the channel equals the mask, whatever it held before and whatever failed meanwhile."""

from __future__ import annotations

import http.client
import logging
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import ChannelResource

from nd_boss import Destination, Patience, connect, historical_link, push_mask
from nd_synapse.boss import cutouts as boss_voxels
from nd_synapse.boss.cutouts import write_block
from nd_synapse.errors import DataError, UnavailableError
from nd_synapse.geometry import Box
from tests.faulty_boss import HTML, Handler, faulty_boss, resets, says
from tests.fixtures_boss import new_name
from tests.pushed_masks import BOX, FRAME, STOP, destination, expected, masks, place, read_all, remote_of

__all__ = ["destination", "place"]


def test_a_pushed_mask_is_what_boss_holds(boss_server, destination):
    mask = masks(BOX, 1)
    report = push_mask(remote_of(boss_server), destination, BOX, mask, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((BOX, mask)))
    assert report.voxels_found == np.count_nonzero(mask)
    assert (report.blocks_erased, report.blocks_repaired) == (0, 0)
    assert report.blocks_written > 0
    assert report.link == historical_link(destination)
    assert report.box == BOX
    assert report.seconds > 0


def test_a_second_mask_replaces_the_first(boss_server, destination):
    first, second = masks(BOX, 1), masks(BOX, 2)
    remote = remote_of(boss_server)
    push_mask(remote, destination, BOX, first, FRAME)
    report = push_mask(remote, destination, BOX, second, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((BOX, second)))
    assert report.blocks_erased > 0


def test_an_empty_mask_erases_and_still_makes_the_channel(boss_server, destination):
    remote = remote_of(boss_server)
    empty = np.zeros(BOX.shape, bool)
    report = push_mask(remote, destination, BOX, empty, FRAME)
    assert (report.blocks_written, report.bytes_sent, report.voxels_found) == (0, 0, 0)
    push_mask(remote, destination, BOX, masks(BOX, 1), FRAME)
    push_mask(remote, destination, BOX, empty, FRAME)
    assert not read_all(boss_server, destination).any()


def test_the_same_mask_again_is_written_again_and_nothing_is_erased(boss_server, destination):
    """The voxels that BOSS shows may be about to be erased."""
    mask = masks(BOX, 1)
    with faulty_boss(boss_server.url) as between:
        remote = remote_of(boss_server, between.url)
        first = push_mask(remote, destination, BOX, mask, FRAME)
        between.clear()
        again = push_mask(remote, destination, BOX, mask, FRAME)
        assert between.count("^PUT") == 0
    assert (again.blocks_erased, again.blocks_written, again.bytes_sent) == (0, first.blocks_written, first.bytes_sent)


def test_a_mask_that_became_empty_is_erased_and_zeros_are_written_that_reads_wait_for(boss_server, destination):
    empty = np.zeros(BOX.shape, bool)
    with faulty_boss(boss_server.url) as between:
        remote = remote_of(boss_server, between.url)
        push_mask(remote, destination, BOX, masks(BOX, 1), FRAME)
        between.clear()
        report = push_mask(remote, destination, BOX, empty, FRAME)
        changes = [seen.method for seen in between.seen if seen.method in ("PUT", "POST")]
        assert changes == ["POST", *["PUT", "POST"] * report.blocks_erased]
        between.clear()
        report = push_mask(remote, destination, BOX, empty, FRAME)
        assert between.count("^PUT|^POST") == 1, "a zero, to try out the rights"
    assert (report.blocks_erased, report.blocks_written, report.bytes_sent) == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [(0, 1, 2), (2, 0, 1)])
def test_voxels_outside_of_the_box_stay_as_they_are(boss_server, place, offset):
    channel = place.channel(new_name("mask"))
    before = np.random.default_rng(3).integers(1, 255, STOP, np.uint8)
    write_block(boss_server.remote(), channel, Box.of_shape(STOP), before)
    box = Box.of_shape(tuple(n - 2 for n in STOP), offset)
    mask = masks(box, 4)
    destination = Destination(place.collection.name, place.experiment.name, channel.name, overwrite=True)
    push_mask(remote_of(boss_server), destination, box, mask, None)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((box, mask), before=before))


def ranges(stop):
    return st.lists(st.integers(0, stop), min_size=2, max_size=2, unique=True).map(sorted).map(tuple)


boxes = st.builds(Box, ranges(STOP[0]), ranges(STOP[1]), ranges(STOP[2]))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=boxes, second=boxes, seed=st.integers(0, 99), density=st.sampled_from([0.0, 0.001, 0.5, 1.0]))
def test_any_second_push_replaces_the_first_inside_its_box_only(boss_server, place, first, second, seed, density):
    destination = Destination(place.collection.name, place.experiment.name, new_name("any"))
    remote = remote_of(boss_server)
    pushes = [(first, masks(first, seed, 0.3)), (second, masks(second, seed + 1, density))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boss_voxels, "CUBOID", (16, 256, 256))
        patch.setattr(boss_voxels, "REQUEST_VOXELS", 16 * 256 * 256)
        for box, mask in pushes:
            push_mask(remote, destination, box, mask, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected(*pushes))


@pytest.mark.parametrize("dtype", ["bool", "int8", ">u4"], ids=str)
def test_nonzero_voxels_become_255(boss_server, destination, dtype):
    box = Box((0, 2), (0, 3), (0, 4))
    mask = np.arange(24).reshape(box.shape).astype(dtype)
    mask[1, 2, 3] = np.iinfo(dtype).max if dtype != "bool" else True
    if mask.dtype.kind == "i":
        mask[0, 0, 1] = -1
    push_mask(remote_of(boss_server), destination, box, mask, FRAME)
    held = read_all(boss_server, destination)
    np.testing.assert_array_equal(held[box.slices()], np.where(mask != 0, 255, 0))


def test_a_memory_map_is_pushed_and_not_written_to(boss_server, destination, tmp_path):
    mask = masks(BOX, 6).astype(np.uint8)
    np.save(tmp_path / "mask.npy", mask)
    mapped = np.load(tmp_path / "mask.npy", mmap_mode="r")
    push_mask(remote_of(boss_server), destination, BOX, mapped, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((BOX, mask)))
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), mask)


def test_progress_counts_to_its_end(boss_server, destination):
    steps = []
    push_mask(remote_of(boss_server), destination, BOX, masks(BOX, 1), FRAME, progress=lambda *step: steps.append(step))
    total = steps[0][1]
    assert steps == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        pytest.param(np.zeros((5, 4, 3), bool), r"shape is \(5, 4, 3\)", id="x, y, z"),
        pytest.param(np.zeros((3, 4), bool), "shape is", id="flat"),
        pytest.param(np.zeros((3, 4, 5), float), "float64", id="float"),
        pytest.param(np.zeros((3, 4, 5), complex), "complex", id="complex"),
        pytest.param(np.zeros((3, 4, 5), "U1"), "<U1", id="text"),
    ],
)
def test_an_invalid_mask_is_refused_before_anything_is_sent(mask, said):
    box = Box((0, 3), (0, 4), (0, 5))
    with faulty_boss() as boss:
        remote = connect(boss.url, "0123456789")
        with pytest.raises(DataError, match=said):
            push_mask(remote, Destination("c", "e", "m"), box, mask, FRAME)
        assert not boss.seen


def test_transient_faults_do_not_change_the_result(boss_server, destination):
    first, second = masks(BOX, 1), masks(BOX, 2)
    push_mask(remote_of(boss_server), destination, BOX, first, FRAME)
    with faulty_boss(boss_server.url) as between:
        between.add("^GET /v1/cutout", says(503), resets)
        between.add("^PUT", says(504), says(500))
        between.add("^POST", resets, says(502))
        push_mask(remote_of(boss_server, between.url), destination, BOX, second, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((BOX, second)))


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["^POST /v1/cutout/.*/50:520/", "^PUT /v1/cutout"])
def test_a_write_that_boss_loses_is_noticed_and_sent_again(boss_server, destination, lost):
    first, second = masks(BOX, 1), masks(BOX, 2)
    push_mask(remote_of(boss_server), destination, BOX, first, FRAME)
    with faulty_boss(boss_server.url) as between:
        between.add(lost, says(201 if "POST" in lost else 200, b""))
        report = push_mask(remote_of(boss_server, between.url), destination, BOX, second, FRAME)
    assert report.blocks_repaired == 1
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((BOX, second)))


def late():
    """Return two faults: a request that a gateway gives up, and an answer just before which BOSS carries it out."""
    given_up = []

    def give_up(handler):
        given_up.append((handler.command, handler.path, handler.body, dict(handler.headers)))
        handler.reply(504, HTML)

    def carry_out(handler):
        reply = handler.reply

        def reply_late(*answer):
            upstream = http.client.HTTPConnection(urlsplit(handler.plan.upstream).netloc, timeout=30)
            upstream.request(*given_up.pop())
            assert upstream.getresponse().status == 200
            upstream.close()
            reply(*answer)

        handler.reply = reply_late
        handler.forward()
        handler.reply = reply

    return give_up, carry_out


def test_an_erase_that_boss_carries_out_late_removes_nothing_from_the_mask(boss_server, destination, caplog):
    """The gateway gives it up, the mask is written and verified, and then BOSS carries the erase out."""
    caplog.set_level(logging.INFO)
    box = Box((0, 4), (0, 512), (0, 512))
    first, second = masks(box, 1), masks(box, 2)
    give_up, carry_out = late()
    remote = remote_of(boss_server)
    push_mask(remote, destination, box, first, FRAME)
    with faulty_boss(boss_server.url) as between:
        between.add("PUT .*to_black", give_up)
        # the right to read is tried out, the block is compared, and verified
        between.add("GET /v1/cutout", Handler.forward, Handler.forward, carry_out)
        report = push_mask(remote_of(boss_server, between.url), destination, box, second, FRAME)
        assert between.count("GET /v1/cutout") == 4
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((box, second)))
    assert (report.blocks_written, report.blocks_repaired) == (2, 0)
    assert "1 blocks of" in caplog.text
    assert "needed several attempts" in caplog.text


def test_only_blocks_that_needed_several_attempts_are_read_once_more(boss_server, destination):
    mask = masks(BOX, 1, density=0.3)
    with faulty_boss(boss_server.url) as between:
        remote = remote_of(boss_server, between.url)
        push_mask(remote, destination, BOX, mask, FRAME)
        read = between.count("GET /v1/cutout")
        between.clear()
        between.add("POST /v1/cutout", says(503))
        push_mask(remote, replace(destination, channel=new_name("mask")), BOX, mask, FRAME)
        assert between.count("GET /v1/cutout") == read + 1


@given(repeats=st.integers(0, 10**6))
def test_the_wait_for_late_erases_is_bounded_for_any_number_of_attempts(repeats):
    waits = [Patience().settling_s(number) for number in (repeats, repeats + 1)]
    assert 0 <= waits[0] <= waits[1] <= Patience().read_s
    assert (waits[0] > 0) == (repeats > 0)


def test_a_mask_that_boss_does_not_keep_is_an_error_with_the_first_voxel(boss_server, destination):
    box = Box((1, 3), (2, 5), (3, 7))
    mask = np.zeros(box.shape, bool)
    mask[1, 2, 2:] = True
    with faulty_boss(boss_server.url) as between:
        between.add("^POST /v1/cutout", *[says(201, b"")] * 9)
        with pytest.raises(DataError, match=r"2 voxels read back differ, the first at z, y, x \(2, 4, 5\)"):
            push_mask(remote_of(boss_server, between.url), destination, box, mask, FRAME)


@pytest.mark.slow
def test_an_interrupted_push_is_completed_by_the_same_call(boss_server, destination):
    mask = masks(BOX, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boss_voxels, "CUBOID", (16, 256, 256))
        patch.setattr(boss_voxels, "REQUEST_VOXELS", 16 * 256 * 256)
        with faulty_boss(boss_server.url) as between:
            between.add("^POST /v1/cutout/.*/256:512/.*3:19", *[says(503)] * 9)
            remote = remote_of(boss_server, between.url)
            with pytest.raises(UnavailableError, match="503"):
                push_mask(remote, destination, BOX, mask, FRAME)
            between.clear()
            push_mask(remote, destination, BOX, mask, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((BOX, mask)))


@pytest.mark.parametrize(
    "voxels",
    [np.ones((2, 1, 1), np.uint8), np.ones((1, 1, 2), np.uint16), np.ones((1, 2), np.uint8)],
)
def test_a_block_of_the_wrong_form_is_never_sent(voxels):
    channel = ChannelResource("m", "c", "e", datatype="uint8")
    with faulty_boss() as boss, pytest.raises(DataError, match="the block is"):
        write_block(connect(boss.url, "0123456789"), channel, Box((0, 1), (0, 1), (0, 2)), voxels)
    assert not boss.seen
