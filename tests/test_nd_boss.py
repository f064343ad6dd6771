"""After a push, the channel equals the mask, whatever it held before and whatever failed meanwhile."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intern.resource.boss.resource import ChannelResource, CollectionResource, CoordinateFrameResource

from nd_boss import (
    Destination,
    Patience,
    boss_push,
    check_destination,
    connect,
    create_boss_remote,
    historical_link,
    neuroglancer_link,
    push_mask,
)
from nd_synapse.boss import cutouts as boss_voxels
from nd_synapse.boss import push
from nd_synapse.boss.catalog import find_channel, read_frame
from nd_synapse.boss.connection import patience_of
from nd_synapse.boss.cutouts import write_block
from nd_synapse.errors import (
    DataError,
    PermissionDeniedError,
    RangeError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.geometry import Box, Frame
from NeuroDataResource import NeuroDataResource
from tests.faulty_boss import HTML, Handler, boss_error, faulty_boss, resets, says
from tests.fixtures_boss import Place, make_place, new_name

BRISK = Patience(connect_s=5, read_s=20, attempts=3, pause_s=0.02, longest_pause_s=0.05)
STOP = (20, 540, 530)
FRAME = Frame("given-frame", Box.of_shape(STOP), (70.0, 100.0, 100.0))
BOX = Box((3, 19), (100, 530), (50, 520))  # across borders of cuboids, aligned with none


def masks(box: Box, seed: int, density: float = 0.05) -> np.ndarray:
    """Draw a mask of clumps, much of which is empty."""
    rng = np.random.default_rng(seed)
    mask = rng.random(box.shape) < density
    mask[:, : box.shape[1] // 3] &= rng.random((box.shape[0], 1, box.shape[2])) < 0.3
    mask[: box.shape[0] // 4] = False
    return mask


def remote_of(server, url=None):
    return connect(url or server.url, server.token, patience=BRISK)


def read_all(server, destination: Destination) -> np.ndarray:
    """Read a whole channel by way of the plain client."""
    remote = server.remote()
    channel = remote.get_channel(destination.channel, destination.collection, destination.experiment)
    assert (channel.type, channel.datatype, channel.base_resolution) == ("image", "uint8", 0)
    (z, y, x) = STOP
    return remote.get_cutout(channel, 0, [0, x], [0, y], [0, z], parallel=False)


def expected(*pushes: tuple[Box, np.ndarray], before: np.ndarray | None = None) -> np.ndarray:
    volume = np.zeros(STOP, np.uint8) if before is None else before.copy()
    for box, mask in pushes:
        volume[box.slices()] = np.where(mask, 255, 0)
    return volume


@pytest.fixture(scope="module")
def place(boss_server) -> Place:
    return make_place(boss_server, STOP)


@pytest.fixture
def destination(place) -> Destination:
    return Destination(place.collection.name, place.experiment.name, new_name("mask"))


def test_the_historical_client_has_our_limits_and_lists_collections(boss_server, place):
    protocol, _, host = boss_server.url.partition("://")
    remote = create_boss_remote({"protocol": protocol, "host": host, "token": boss_server.token})
    assert place.collection.name in remote.list_collections()
    assert patience_of(remote) == Patience()
    assert boss_server.token not in repr(vars(remote))
    with pytest.raises(UsageError, match="no token"):
        create_boss_remote({"host": host})


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


def test_a_channel_of_another_maker_is_left_alone_unless_it_may_be_overwritten(boss_server, place):
    """And the run that made it, repeated, may write again; after the overwriting the other one may."""
    box = Box.of_shape(STOP)
    first, second = masks(box, 4), masks(box, 5)
    names = (place.collection.name, place.experiment.name, new_name("mask"))
    remote = remote_of(boss_server)
    push_mask(remote, Destination(*names, "one"), box, first, None)
    push_mask(remote, Destination(*names, "one"), box, first, None)
    for refused in (check_destination, lambda *a: push_mask(remote, a[1], box, second, None)):
        with pytest.raises(UsageError, match=r"made by one.*--overwrite"):
            refused(remote, Destination(*names, "two"), box, None)
    np.testing.assert_array_equal(read_all(boss_server, Destination(*names)), expected((box, first)))
    push_mask(remote, Destination(*names, "two", overwrite=True), box, second, None)
    push_mask(remote, Destination(*names, "two"), box, second, None)
    np.testing.assert_array_equal(read_all(boss_server, Destination(*names)), expected((box, second)))
    with pytest.raises(UsageError, match="made by two"):
        push_mask(remote, Destination(*names, "one"), box, first, None)


@pytest.mark.parametrize("moment", ["refuse_taken", "read_cutout"])
def test_a_channel_that_another_job_takes_over_during_the_push_is_left_to_it(boss_server, place, monkeypatch, moment):
    """Before the first block is written, and before it is read back."""
    box = Box.of_shape(STOP)
    first, second = masks(box, 4), masks(box, 5)
    names = (place.collection.name, place.experiment.name, new_name("mask"))
    original = getattr(push, moment)

    def overtaken(*arguments):
        monkeypatch.undo()
        push_mask(remote_of(boss_server), Destination(*names, "two", overwrite=True), box, second, None)
        return original(*arguments)

    monkeypatch.setattr(push, moment, overtaken)
    with pytest.raises(UsageError, match=r"another job took it over during this push.*made by two"):
        push_mask(remote_of(boss_server), Destination(*names, "one"), box, first, None)
    np.testing.assert_array_equal(read_all(boss_server, Destination(*names)), expected((box, second)))


def test_overwriting_a_channel_keeps_its_links_to_others(boss_server, place):
    """BOSS forgets the links that an update does not name."""
    source = place.channel(new_name("image"))
    channel = place.channel(new_name("mask"), sources=[source.name])
    destination = Destination(place.collection.name, place.experiment.name, channel.name, "one", overwrite=True)
    box = Box.of_shape(STOP)
    push_mask(remote_of(boss_server), destination, box, masks(box, 4), None)
    held = boss_server.remote().get_channel(channel.name, place.collection.name, place.experiment.name)
    assert (held.sources, held.description) == ([source.name], destination.description)


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


@pytest.mark.parametrize(
    ("names", "option"),
    [
        (("a.b", "e", "m"), "--out-col"),
        (("", "e", "m"), "--out-col"),
        (("c", "e f", "m"), "--out-exp"),
        (("c", "e/f", "m"), "--out-exp"),
        (("c", "e", "m\u00fc"), "names of pipeline"),
        (("c", "e", "m\n"), "names of pipeline"),
        (("c" * 84, "e" * 84, "m" * 86), "--out-col"),
    ],
)
def test_a_name_that_boss_would_not_keep_is_refused_with_the_option_to_use(names, option):
    with pytest.raises(UsageError, match=option):
        Destination(*names)


def test_missing_collection_and_experiment_are_created_like_the_source(boss_server):
    destination = Destination(new_name("out"), new_name("exp"), "mask")
    box = Box((0, 2), (0, 3), (0, 4))
    remote = remote_of(boss_server)
    push_mask(remote, destination, box, np.ones(box.shape, bool), FRAME)
    experiment = remote.get_experiment(destination.collection, destination.experiment)
    frame = read_frame(remote, experiment.coord_frame)
    assert frame.extent == FRAME.extent
    assert frame.same_voxels(FRAME)
    assert frame.name == f"{destination.collection}_{destination.experiment}"


def test_a_frame_of_the_name_that_does_not_fit_is_refused_before_an_experiment_is_made_with_it(boss_server):
    destination = Destination(new_name("out"), new_name("exp"), "mask")
    remote = boss_server.remote()
    name = f"{destination.collection}_{destination.experiment}"
    remote.create_project(CoordinateFrameResource(name, "", 0, 530, 0, 540, 0, 20, 1, 1, 1, "micrometers"))
    box = Box((0, 2), (0, 3), (0, 4))
    with pytest.raises(DataError, match=r"its voxels are z 1000 .* --out-exp NAME"):
        push_mask(remote_of(boss_server), destination, box, np.ones(box.shape, bool), FRAME)
    assert remote.list_experiments(destination.collection) == []


def test_the_frame_of_the_source_is_shared_when_boss_has_it(boss_server, place):
    source = NeuroDataResource(
        boss_server.url, boss_server.token, place.collection.name, place.experiment.name, [], (0, 4), (0, 3), (0, 2)
    )
    col, exp = new_name("out"), new_name("exp")
    ones = np.ones(source.box.shape, bool)
    links = boss_push(
        boss_server.token, col, exp, *source.box.ranges, {"All": ones}, "key", host=boss_server.url, source=source
    )
    assert links == {"All": f"http://ndwt.neurodata.io/channel_detail/{col}/{exp}/key_All/"}
    assert boss_server.remote().get_experiment(col, exp).coord_frame == place.frame.name
    assert read_all(boss_server, Destination(col, exp, "key_All")).sum() == 255 * ones.size


def test_the_historical_call_pushes_each_mask_to_a_channel_of_its_own(boss_server, place):
    box = Box((0, 2), (0, 3), (0, 4))
    data = {"Ex": masks(box, 1, 0.5), "In": masks(box, 2, 0.5)}
    names, key = (place.collection.name, place.experiment.name), new_name("key")
    lists: list[Any] = [[0, 2], [0, 3], [0, 4]]
    links = boss_push(boss_server.token, *names, lists[0], lists[1], lists[2], data, key, host=boss_server.url)
    assert list(links) == ["Ex", "In"]
    for key, link in links.items():
        col, exp, channel = link.strip("/").split("/")[-3:]
        held = read_all(boss_server, Destination(col, exp, channel))
        np.testing.assert_array_equal(held, expected((box, data[key])))


def test_the_historical_call_replaces_no_other_mask_unless_it_may(boss_server, place):
    """The channel says which mask it is of; what an interrupted call left is part of the mask, and is completed."""
    box = Box((0, 2), (0, 3), (0, 4))
    first, second = np.zeros(box.shape, bool), np.zeros(box.shape, bool)
    first[0], second[1] = True, True
    key, names = new_name("key"), (place.collection.name, place.experiment.name)

    def push(mask, **more):
        boss_push(boss_server.token, *names, *box.ranges, {"a": mask}, key, host=boss_server.url, **more)
        np.testing.assert_array_equal(read_all(boss_server, held), expected((box, mask)))

    held = Destination(*names, f"{key}_a")
    push(first)
    push(first.astype(np.int64) * 7)  # the same mask
    for other in (second, first | second):
        with pytest.raises(UsageError, match=r"made by nd_boss.boss_push of a mask.*overwrite=True"):
            push(other)
    np.testing.assert_array_equal(read_all(boss_server, held), expected((box, first)))
    push(second, overwrite=True)
    channel = find_channel(boss_server.remote(), *names, held.channel)
    write_block(boss_server.remote(), channel, Box((0, 1), (0, 1), (0, 1)), np.full((1, 1, 1), 255, np.uint8))
    with pytest.raises(UsageError, match=r"not in this mask.*overwrite=True"):
        push(second)


def test_the_historical_call_leaves_a_channel_without_a_digest_alone_unless_it_may_overwrite(boss_server, place):
    """Earlier versions described all masks alike."""
    box = Box((0, 2), (0, 3), (0, 4))
    mask, key = np.ones(box.shape, bool), new_name("key")
    held = Destination(place.collection.name, place.experiment.name, f"{key}_a")
    push_mask(remote_of(boss_server), held, box, mask, None)
    args = [boss_server.token, held.collection, held.experiment, *box.ranges, {"a": mask}, key]
    with pytest.raises(UsageError, match="its description: Mask: 255 where something was found, 0 elsewhere"):
        boss_push(*args, host=boss_server.url)
    boss_push(*args, host=boss_server.url, overwrite=True)
    boss_push(*args, host=boss_server.url)


def test_of_two_simultaneous_historical_calls_one_gets_the_channel(boss_server, place, monkeypatch):
    """Both have looked, and found no channel, before either creates it."""
    box = Box((0, 2), (0, 3), (0, 4))
    both_looked = threading.Barrier(2, timeout=60)

    def wait_and_push(*args, **more):
        both_looked.wait()
        return push_mask(*args, **more)

    monkeypatch.setattr(push, "push_mask", wait_and_push)
    drawn, key, refused = [masks(box, seed, 0.5) for seed in (1, 2)], new_name("key"), []
    names = (place.collection.name, place.experiment.name)

    def call(number):
        try:
            boss_push(boss_server.token, *names, *box.ranges, {"a": drawn[number]}, key, host=boss_server.url)
        except UsageError:
            refused.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (loser,) = refused
    held = read_all(boss_server, Destination(*names, f"{key}_a"))
    np.testing.assert_array_equal(held, expected((box, drawn[1 - loser])))


def test_all_channels_are_checked_before_the_first_is_created(boss_server, place):
    box, key = Box((0, 2), (0, 3), (0, 4)), new_name("key")
    place.channel(f"{key}_b", "uint16")
    mask = np.ones(box.shape, bool)
    names = (place.collection.name, place.experiment.name)
    for may in (False, True):
        with pytest.raises(DataError, match="uint16"):
            boss_push(
                *(boss_server.token, *names, *box.ranges, {"a": mask, "b": mask}, key),
                host=boss_server.url,
                overwrite=may,
            )
    assert f"{key}_a" not in boss_server.remote().list_channels(*names)


def test_no_mask_is_sent_when_one_of_them_is_wrong():
    with faulty_boss() as boss:
        good, bad = np.ones((1, 2, 3), bool), np.ones((1, 2, 4), bool)
        with pytest.raises(DataError, match="mask In"):
            boss_push("0123456789", "c", "e", (0, 1), (0, 2), (0, 3), {"Ex": good, "In": bad}, "key", host=boss.url)
        with pytest.raises(UsageError, match="key_I n"):
            boss_push("0123456789", "c", "e", (0, 1), (0, 2), (0, 3), {"Ex": good, "I n": good}, "key", host=boss.url)
        with pytest.raises(RangeError):
            boss_push("0123456789", "c", "e", (1, 0), (0, 2), (0, 3), {"Ex": good}, "key", host=boss.url)
        assert not boss.seen


def test_without_a_source_a_missing_experiment_is_not_created(boss_server):
    box = Box((0, 2), (0, 3), (0, 4))
    destination = Destination(new_name("out"), "exp", "mask")
    with pytest.raises(UnknownNameError, match="pass the source"):
        push_mask(remote_of(boss_server), destination, box, np.ones(box.shape, bool), None)
    assert destination.collection not in boss_server.remote().list_collections()


@pytest.mark.parametrize(
    ("box", "frame", "said"),
    [
        (Box((0, 21), (0, 1), (0, 1)), FRAME, "holds z 0:20 y 0:540 x 0:530, the mask is z 0:21"),
        (Box((0, 1), (0, 1), (0, 1)), Frame("f", FRAME.extent, (70.0, 100.0, 100.2)), "y 100 x 100 nm, those of f are"),
        (Box((0, 1), (0, 1), (0, 1)), Frame("f", FRAME.extent, (100.0, 100.0, 70.0)), "those of f are z 100"),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused_with_the_option_to_use(boss_server, destination, box, frame, said):
    for refuse in (
        lambda: check_destination(remote_of(boss_server), destination, box, frame),
        lambda: push_mask(remote_of(boss_server), destination, box, np.ones(box.shape, bool), frame),
    ):
        with pytest.raises(DataError) as caught:
            refuse()
        assert said in str(caught.value)
        assert "--out-exp NAME" in str(caught.value)
    remote = boss_server.remote()
    assert destination.channel not in remote.list_channels(destination.collection, destination.experiment)


def test_checking_a_destination_creates_nothing(boss_server, destination):
    box = Box((0, 1), (0, 1), (0, 1))
    fresh = Destination(new_name("out"), "exp", "mask")
    with faulty_boss(boss_server.url) as between:
        check_destination(remote_of(boss_server, between.url), destination, box, FRAME)
        check_destination(remote_of(boss_server, between.url), fresh, box, FRAME)
        with pytest.raises(UnknownNameError, match="pass the source"):
            check_destination(remote_of(boss_server, between.url), fresh, box, None)
        assert between.count("^(POST|PUT|DELETE)") == 0


@pytest.mark.parametrize(("kind", "datatype"), [("image", "uint16"), ("annotation", "uint64"), ("annotation", "uint8")])
def test_a_channel_of_another_kind_is_not_written_to(boss_server, place, kind, datatype):
    channel = place.channel(new_name("other"), datatype, kind)
    box = Box((0, 1), (0, 1), (0, 1))
    destination = Destination(place.collection.name, place.experiment.name, channel.name)
    with pytest.raises(DataError, match=f"type {kind} and {datatype}"):
        check_destination(remote_of(boss_server), destination, box, FRAME)
    with pytest.raises(DataError, match=f"type {kind} and {datatype}"):
        push_mask(remote_of(boss_server), destination, box, np.ones(box.shape, bool), FRAME)


def test_a_deleted_channel_is_reported_as_deleted(boss_server, place, destination):
    box = Box((0, 1), (0, 1), (0, 1))
    push_mask(remote_of(boss_server), destination, box, np.ones(box.shape, bool), FRAME)
    boss_server.remote().delete_project(
        ChannelResource(destination.channel, destination.collection, destination.experiment)
    )
    with pytest.raises(UnknownNameError, match="it was deleted, and BOSS keeps its name taken"):
        push_mask(remote_of(boss_server), destination, box, np.ones(box.shape, bool), FRAME)


def test_a_deleted_collection_is_reported_as_deleted(boss_server):
    name = new_name("gone")
    remote = boss_server.remote()
    remote.create_project(CollectionResource(name))
    remote.delete_project(CollectionResource(name))
    box = Box((0, 1), (0, 1), (0, 1))
    with pytest.raises(UnknownNameError, match="was deleted"):
        check_destination(remote_of(boss_server), Destination(name, "exp", "mask"), box, FRAME)
    with pytest.raises(UnknownNameError, match="was deleted"):
        push_mask(remote_of(boss_server), Destination(name, "exp", "mask"), box, np.ones(box.shape, bool), FRAME)


def test_a_channel_that_another_job_creates_meanwhile_is_used(boss_server, place, destination):
    box = Box((0, 1), (0, 2), (0, 2))
    other = np.array([[[1, 0], [0, 0]]], bool)
    mine = np.array([[[0, 0], [0, 1]]], bool)
    push_mask(remote_of(boss_server), destination, box, other, FRAME)
    with faulty_boss(boss_server.url) as between:
        # The channel is not there when it is looked up, and is when it is created.
        between.add(f"GET /v1/collection/.*/channel/{destination.channel}", boss_error(404, 4000, "not yet"))
        push_mask(remote_of(boss_server, between.url), destination, box, mine, FRAME)
    np.testing.assert_array_equal(read_all(boss_server, destination), expected((box, mine)))


def test_a_token_without_the_right_is_refused_before_anything_is_created(boss_server):
    destination = Destination(new_name("out"), "exp", "mask")
    box = Box((0, 1), (0, 1), (0, 1))
    remote = connect(boss_server.url, "public", patience=BRISK)
    with pytest.raises(PermissionDeniedError):
        push_mask(remote, destination, box, np.ones(box.shape, bool), FRAME)
    assert destination.collection not in boss_server.remote().list_collections()


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


def test_links_show_the_mask_over_its_images_and_no_token(boss_server):
    remote = remote_of(boss_server)
    link = neuroglancer_link(
        remote,
        [("collman", "exp", "PSD95"), ("collman", "exp", "synapsin")],
        Destination("out", "exp", "mask"),
        Box((0, 10), (0, 20), (10, 40)),
        (70, 100, 3.72),
    )
    address, _, state = link.partition("#!")
    state = json.loads(unquote(state))
    assert address == "https://neuroglancer.bossdb.io/"
    assert [layer["source"] for layer in state["layers"]] == [
        f"boss://{boss_server.url}/collman/exp/PSD95",
        f"boss://{boss_server.url}/collman/exp/synapsin",
        f"boss://{boss_server.url}/out/exp/mask",
    ]
    assert state["position"] == [25.0, 10.0, 5.0]
    assert state["dimensions"]["x"] == [pytest.approx(3.72e-9), "m"]
    assert list(state["dimensions"]) == ["x", "y", "z"]
    assert boss_server.token not in link
    assert not set(link) & set(' "<>{}|\\^`')


@pytest.mark.parametrize(
    "voxels",
    [np.ones((2, 1, 1), np.uint8), np.ones((1, 1, 2), np.uint16), np.ones((1, 2), np.uint8)],
)
def test_a_block_of_the_wrong_form_is_never_sent(voxels):
    channel = ChannelResource("m", "c", "e", datatype="uint8")
    with faulty_boss() as boss, pytest.raises(DataError, match="the block is"):
        write_block(connect(boss.url, "0123456789"), channel, Box((0, 1), (0, 1), (0, 2)), voxels)
    assert not boss.seen
