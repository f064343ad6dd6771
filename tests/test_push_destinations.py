"""A push writes to a channel of its own, or to one that it may overwrite; all else is refused untouched."""

from __future__ import annotations

import numpy as np
import pytest
from intern.resource.boss.resource import ChannelResource, CollectionResource, CoordinateFrameResource

from nd_boss import Destination, check_destination, connect, push_mask
from nd_synapse.boss import push
from nd_synapse.boss.catalog import read_frame
from nd_synapse.errors import DataError, PermissionDeniedError, UnknownNameError, UsageError
from nd_synapse.geometry import Box, Frame
from tests.faulty_boss import boss_error, faulty_boss
from tests.fixtures_boss import new_name
from tests.pushed_masks import BRISK, FRAME, STOP, destination, expected, masks, place, read_all, remote_of

__all__ = ["destination", "place"]


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
