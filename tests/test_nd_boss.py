"""The historical calls of `nd_boss` push each mask to a channel of its own, and replace no other's."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from nd_boss import Destination, Patience, boss_push, create_boss_remote, neuroglancer_link, push_mask
from nd_synapse.boss import push
from nd_synapse.boss.catalog import find_channel
from nd_synapse.boss.connection import patience_of
from nd_synapse.boss.cutouts import write_block
from nd_synapse.errors import DataError, RangeError, UsageError
from nd_synapse.geometry import Box
from NeuroDataResource import NeuroDataResource
from tests.faulty_boss import faulty_boss
from tests.fixtures_boss import new_name
from tests.pushed_masks import expected, masks, place, read_all, remote_of

__all__ = ["place"]


def test_the_historical_client_has_our_limits_and_lists_collections(boss_server, place):
    protocol, _, host = boss_server.url.partition("://")
    remote = create_boss_remote({"protocol": protocol, "host": host, "token": boss_server.token})
    assert place.collection.name in remote.list_collections()
    assert patience_of(remote) == Patience()
    assert boss_server.token not in repr(vars(remote))
    with pytest.raises(UsageError, match="no token"):
        create_boss_remote({"host": host})


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
