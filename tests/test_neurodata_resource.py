"""An experiment is read as it is stored; errors are reported before the first voxel is read."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import stat
import traceback
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nd_synapse.boss import cutouts as boss_voxels
from nd_synapse.boss.connection import Patience
from nd_synapse.boss.cutouts import CUBOID, REQUEST_VOXELS, read_cutout, request_size, write_block
from nd_synapse.boss.destination import Destination
from nd_synapse.credentials import Token
from nd_synapse.errors import (
    DataError,
    NDSynapseError,
    PermissionDeniedError,
    RangeError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
)
from nd_synapse.geometry import Box
from nd_synapse.volumes import Source
from NeuroDataResource import NeuroDataResource, get_boss_config, get_boss_resource
from tests.faulty_boss import boss_error, faulty_boss, says
from tests.fixtures_boss import BossServer, Place, make_place, new_name

BRISK = Patience(connect_s=5, read_s=20, attempts=3, pause_s=0.02)
STOP = (20, 540, 530)  # beyond one cuboid along each axis, and no multiple of it
DTYPES = ("uint8", "uint16", "uint64")
EXAMPLE = Path(__file__).resolve().parent.parent / "neurodata.cfg.example"


@dataclass(frozen=True)
class Volume:
    """An experiment on the shared server, and what is in it."""

    place: Place
    voxels: dict[str, np.ndarray]

    @property
    def server(self) -> BossServer:
        return self.place.server

    def open(self, channels=(), z=(0, STOP[0]), y=(0, STOP[1]), x=(0, STOP[2]), **changed) -> NeuroDataResource:
        place = {"collection": self.place.collection.name, "experiment": self.place.experiment.name}
        where = {"host": self.server.url, "token": self.server.token, **place, **changed}
        return NeuroDataResource(**where, requested_channels=channels, x_range=x, y_range=y, z_range=z, patience=BRISK)


@pytest.fixture(scope="module")
def volume(boss_server) -> Volume:
    place = make_place(boss_server, STOP)
    rng = np.random.default_rng(5)
    voxels = {}
    for dtype in DTYPES:
        channel = place.channel(f"chan-{dtype}", dtype, "annotation" if dtype == "uint64" else "image")
        voxels[channel.name] = rng.integers(0, np.iinfo(dtype).max, STOP, dtype, endpoint=True)
        write_block(boss_server.remote(), channel, Box.of_shape(STOP), voxels[channel.name])
    return Volume(place, voxels)


@pytest.fixture(scope="module")
def resource(volume) -> NeuroDataResource:
    return volume.open()


def ranges(stop):
    return st.lists(st.integers(0, stop), min_size=2, max_size=2, unique=True).map(sorted).map(tuple)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(z=ranges(STOP[0]), y=ranges(STOP[1]), x=ranges(STOP[2]), dtype=st.sampled_from(DTYPES))
def test_any_box_is_read_with_the_stored_voxels(volume, resource, z, y, x, dtype):
    name = f"chan-{dtype}"
    cutout = resource.get_cutout(name, z, y, x)
    assert cutout.dtype == np.dtype(dtype) == resource.dtype(name)
    assert cutout.flags.c_contiguous
    assert cutout.flags.writeable
    np.testing.assert_array_equal(cutout, volume.voxels[name][slice(*z), slice(*y), slice(*x)])


@settings(max_examples=10, deadline=None)
@given(z=ranges(STOP[0]), y=ranges(STOP[1]), x=ranges(STOP[2]), limit=st.integers(1, 2))
def test_any_box_read_in_several_requests_has_the_same_voxels(volume, z, y, x, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boss_voxels, "CUBOID", (16, 128, 128))
        patch.setattr(boss_voxels, "REQUEST_VOXELS", limit * 16 * 128 * 128)
        resource = volume.open()
        cutout = resource.get_cutout("chan-uint16", z, y, x)
    np.testing.assert_array_equal(cutout, volume.voxels["chan-uint16"][slice(*z), slice(*y), slice(*x)])


@given(shape=st.tuples(*[st.integers(1, 20_000)] * 3), start=st.tuples(*[st.integers(0, 2000)] * 3))
def test_a_request_for_any_box_is_within_the_limits_of_boss(shape, start):
    size = request_size(shape)
    assert all(extent % cuboid == 0 for extent, cuboid in zip(size, CUBOID, strict=True))
    largest = next(
        iter(Box.of_shape(shape, start).grown((0, 0, 0), Box.of_shape((10**6,) * 3)).tiles(size, aligned=True))
    )
    assert largest.voxels <= REQUEST_VOXELS < 1.2 * 512 * 512 * 192
    assert np.prod(np.minimum(size, shape), dtype=np.int64) <= REQUEST_VOXELS


def test_a_range_may_end_at_the_last_voxel(volume):
    resource = volume.open(z=(19, 20), y=(539, 540), x=(529, 530))
    assert resource.get_cutout("chan-uint8", *resource.box.ranges) == volume.voxels["chan-uint8"][-1, -1, -1]
    assert resource.correct_range((19, 20), (539, 540), (529, 530))
    assert not resource.correct_range((19, 21), (539, 540), (529, 530))


@pytest.mark.parametrize("bad", [(-1, 5), (5, 5), (0, 10**6), ("a", 5), None])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_invalid_range_is_refused(resource, bad, axis):
    requested = [(0, 2), (0, 2), (0, 2)]
    requested[axis] = bad
    assert resource.correct_range(*requested) is False
    with pytest.raises(RangeError) as caught:
        resource.get_cutout("chan-uint8", *requested)
    assert caught.value.requested.startswith(f"{'zyx'[axis]} range")


def test_without_ranges_a_resource_is_of_the_whole_volume(volume):
    where = (volume.server.url, volume.server.token, volume.place.collection.name, volume.place.experiment.name)
    resource = NeuroDataResource(*where)
    assert resource.box == Box.of_shape(STOP)
    assert resource.requested_channels == resource.channels
    assert NeuroDataResource(*where, z_range=(2, 3)).box.shape == (1, *STOP[1:])


def test_the_attributes_of_an_experiment_are_in_the_order_z_y_x(resource, volume):
    assert resource.channels == sorted(volume.voxels)
    assert resource.requested_channels == resource.channels
    assert resource.max_dimensions == STOP
    assert resource.voxel_size == (70.0, 100.0, 100.0)
    assert resource.frame.extent == resource.box == Box.of_shape(STOP)
    assert (resource.z_range, resource.y_range, resource.x_range) == resource.box.ranges
    assert resource.assert_channel_exists("chan-uint8") is True


@pytest.mark.parametrize(
    ("unit", "factor"), [("nanometers", 1), ("micrometers", 1e3), ("millimeters", 1e6), ("centimeters", 1e7)]
)
def test_the_voxel_size_is_in_nanometres_whatever_the_unit(boss_server, unit, factor):
    server = boss_server
    names = [new_name("unit") for _ in range(3)]
    frame = {
        **{f"{axis}_{end}": stop for axis in "xyz" for end, stop in (("start", 0), ("stop", 8))},
        "x_voxel_size": 0.5,
        "y_voxel_size": 2,
        "z_voxel_size": 3,
        "voxel_unit": unit,
    }
    for path, fields in [
        (f"/v1/collection/{names[0]}", {}),
        (f"/v1/coord/{names[1]}", frame),
        # Without a time unit BOSS answers null, which the client cannot read.
        (f"/v1/collection/{names[0]}/experiment/{names[2]}", {"coord_frame": names[1], "time_step_unit": None}),
    ]:
        answer = server.ask("POST", path, json=fields)
        assert answer.status_code == 201, answer.text
    resource = NeuroDataResource(server.url, server.token, names[0], names[2], [], (0, 8), (0, 8), (0, 8))
    assert resource.voxel_size == pytest.approx((3 * factor, 2 * factor, 0.5 * factor), rel=1e-12)
    assert resource.channels == resource.requested_channels == []


@pytest.mark.parametrize("requested", [[], [""], (), ("",)])
def test_no_requested_channels_means_all_channels(volume, requested):
    assert volume.open(requested).requested_channels == sorted(volume.voxels)


def test_requested_channels_keep_their_order(volume):
    assert volume.open(["chan-uint8", "chan-uint16"]).requested_channels == ["chan-uint8", "chan-uint16"]


@pytest.mark.parametrize(
    ("changed", "expected", "said"),
    [
        pytest.param({"channels": ["chan-uint61"]}, UnknownNameError, "there are chan-uint16, chan-uint", id="channel"),
        pytest.param({"channels": ["chan-uint8", "CHAN"]}, UnknownNameError, "'CHAN'", id="second channel"),
        pytest.param({"collection": "no-such"}, UnknownNameError, "no such collection; there are", id="collection"),
        pytest.param({"experiment": "exq"}, UnknownNameError, "no such experiment; there are exp-", id="experiment"),
        pytest.param({"experiment": "dot.name"}, UsageError, "letters, digits, _ and -", id="illegal name"),
        pytest.param({"collection": "a/b"}, UsageError, "letters, digits, _ and -", id="illegal collection"),
        pytest.param({"collection": ""}, UsageError, "at least one", id="no collection"),
        pytest.param({"x": (0, 531)}, RangeError, "the volume has x 0,530", id="beyond the end"),
        pytest.param({"y": (-1, 5)}, RangeError, "the volume has y 0,540", id="below zero"),
        pytest.param({"z": (5, 5)}, RangeError, "it holds no voxel", id="empty"),
        pytest.param({"z": (6, 5)}, RangeError, "it ends before it starts", id="reversed"),
        pytest.param({"z": ("a", "b")}, RangeError, "not two whole numbers", id="no numbers"),
        pytest.param({"token": "no-such-token-0123456789"}, PermissionDeniedError, "does not accept", id="token"),
        pytest.param({"token": ""}, UsageError, "empty", id="no token"),
        pytest.param({"token": "public"}, PermissionDeniedError, "may not do this", id="no right"),
        pytest.param({"host": "http://127.0.0.1:9"}, UnavailableError, "cannot be reached", id="host"),
        pytest.param({"host": "ftp://127.0.0.1"}, UsageError, "ftp://", id="scheme"),
    ],
)
def test_a_wrong_name_range_or_token_is_reported_in_one_line(volume, changed, expected, said):
    with pytest.raises(NDSynapseError) as caught:
        volume.open(**changed)
    assert type(caught.value) is expected
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert volume.server.token not in str(caught.value)


def test_the_error_for_an_unknown_channel_lists_the_closest_names_first(resource):
    with pytest.raises(UnknownNameError, match=r"there are chan-uint8, "):
        resource.get_cutout("chan_uint8", (0, 1), (0, 1), (0, 1))
    with pytest.raises(UnknownNameError, match=r"there are chan-uint64, "):
        resource.assert_channel_exists("uint64")


def test_a_channel_of_an_unreadable_type_is_refused_when_it_is_requested(boss_server):
    place = make_place(boss_server)
    path = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}/channel/wide"
    assert boss_server.ask("POST", path, json={"type": "image", "datatype": "uint32"}).status_code == 201
    volume = Volume(place, {})
    with pytest.raises(DataError, match="its voxels are uint32"):
        volume.open(["wide"])
    everything = volume.open()
    with pytest.raises(DataError, match="uint32"):
        everything.dtype("wide")


def test_channels_that_cannot_be_read_are_left_out_and_logged_once(boss_server, caplog):
    """One channel of another user, or of another type, must not end a job that does not need it."""
    caplog.set_level(logging.INFO)
    place = make_place(boss_server)
    for name, datatype in (("mine", "uint8"), ("yours", "uint8"), ("ids", "uint64")):
        place.channel(name, datatype, "annotation" if datatype == "uint64" else "image")
    experiment = f"/v1/collection/{place.collection.name}/experiment/{place.experiment.name}"
    wide = {"type": "image", "datatype": "uint32"}
    assert boss_server.ask("POST", f"{experiment}/channel/wide", json=wide).status_code == 201
    with faulty_boss(boss_server.url) as between:
        between.add("GET .*/channel/yours", *[boss_error(403, 3001, "no right to read")] * 2)
        resource = Volume(place, {}).open(host=between.url)
        assert resource.channels == ["ids", "mine", "wide", "yours"]
        assert resource.readable_channels == ["ids", "mine"]
        assert resource.image_channels == ["mine"]
        assert resource.forbidden_channels == ["yours"]
        assert pickle.loads(ForkingPickler.dumps(resource)).readable_channels == ["ids", "mine"]
        assert between.count("/channel/") == 4
        with pytest.raises(PermissionDeniedError, match="yours"):
            resource.dtype("yours")
    left_out = [record for record in caplog.records if record.getMessage().startswith("left out: ")]
    assert [record.levelname for record in left_out] == ["INFO", "WARNING"], "a missing right is a warning"
    assert "wide: its voxels are uint32" in left_out[0].getMessage()
    assert "yours: the token may not do this" in left_out[1].getMessage()


def test_a_mask_of_ours_is_an_image_only_if_it_is_requested_by_name(boss_server):
    place = make_place(boss_server)
    mask = Destination(place.collection.name, place.experiment.name, "mask", "a run")
    place.channel("photons")
    place.channel("mask", description=mask.description)
    assert Volume(place, {}).open().image_channels == ["photons"]
    assert Volume(place, {}).open().readable_channels == ["mask", "photons"]
    assert Volume(place, {}).open(["mask"]).image_channels == ["mask", "photons"]


def test_a_channel_without_the_native_resolution_is_refused(boss_server):
    place = make_place(boss_server)
    place.channel("coarse", base_resolution=1)
    with pytest.raises(DataError, match="its finest resolution is 1"):
        Volume(place, {}).open(["coarse"])


def test_a_deleted_experiment_is_said_to_be_deleted(boss_server):
    place = make_place(boss_server)
    boss_server.remote().delete_project(place.experiment)
    with pytest.raises(UnknownNameError):
        Volume(place, {}).open()


def test_a_frame_that_holds_no_voxel_is_refused():
    with faulty_boss() as boss:
        frame = {f"{axis}_{end}": {"start": 100, "stop": 10}[end] for axis in "xyz" for end in ("start", "stop")}
        sizes = {f"{axis}_voxel_size": 1.0 for axis in "xyz"}
        boss.add("GET /v1/collection/c/experiment/e", says(200, {"name": "e", "channels": [], "coord_frame": "f"}))
        boss.add("GET /v1/coord/f", says(200, {"name": "f", **frame, **sizes, "voxel_unit": "nanometers"}))
        with pytest.raises(DataError, match="it holds no voxel"):
            NeuroDataResource(boss.url, "0123456789", "c", "e", [], (0, 1), (0, 1), (0, 1))


def test_voxels_are_requested_only_after_all_checks(volume):
    with faulty_boss(volume.server.url) as between:
        volume.open(["chan-uint8"], host=between.url)
        assert between.count("/cutout/") == 0
        assert between.count("GET") == 3


def test_a_large_cutout_starts_no_process(boss_server, monkeypatch):
    place = make_place(boss_server, (100, 2048, 512))
    channel = place.channel("large")
    monkeypatch.setattr(multiprocessing, "Pool", None)
    cutout = read_cutout(boss_server.remote(), channel, Box((1, 99), (3, 2045), (5, 507)))
    assert cutout.shape == (98, 2042, 502)
    assert not cutout.any()


def in_worker(resource, pid):
    assert os.getpid() != pid
    return resource.get_cutout("chan-uint16", (18, 20), (530, 540), (520, 530)), repr(resource)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_resource_reads_in_a_worker_process(volume, resource, method):
    if method == "fork":
        resource.get_cutout("chan-uint16", (0, 1), (0, 1), (0, 1))  # a connection is open when the worker inherits it
    with multiprocessing.get_context(method).Pool(1) as pool:
        cutout, shown = pool.apply_async(in_worker, (resource, os.getpid())).get(60)
    np.testing.assert_array_equal(cutout, volume.voxels["chan-uint16"][18:, 530:, 520:])
    assert volume.server.token not in shown


def test_a_failure_in_a_worker_process_comes_back_as_it_is_and_without_the_token(volume):
    with faulty_boss(volume.server.url) as between:
        resource = volume.open(host=between.url)
        between.add("/cutout/", boss_error(403, 3001, f"Token {volume.server.token} may not read"))
        with (
            multiprocessing.get_context("spawn").Pool(1) as pool,
            pytest.raises(PermissionDeniedError, match="may not read") as caught,
        ):
            pool.apply_async(in_worker, (resource, os.getpid())).get(60)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in worker" in shown.replace("_", " ")
    assert volume.server.token not in shown


def test_no_representation_of_the_resource_shows_the_token(volume, resource):
    resource.get_cutout("chan-uint8", (0, 1), (0, 1), (0, 1))
    for shown in (repr(resource), str(resource), repr(vars(resource)), json.dumps(resource.describe())):
        assert volume.server.token not in shown
    with pytest.raises(TypeError, match="only by multiprocessing"):
        pickle.dumps(resource)


def test_a_resource_is_a_source(resource):
    source: Source = resource
    assert source.frame.voxel_size_nm == resource.voxel_size


WHOLE = """[Default]
token = percent%sign-0123456789
host = http://127.0.0.1:1

[shared]
collection = col
experiment = exp

[Parallel]
channels = PSD95, synapsin ,
x_range = 1,20
y_range = 2, 30
z_range = 3,4
resolution = 0
"""


def config(tmp_path, text):
    file = tmp_path / "neurodata.cfg"
    file.write_text(text)
    return file


def test_a_configuration_is_read_as_it_is_written(tmp_path):
    assert get_boss_config(config(tmp_path, WHOLE), environ={}) == {
        "token": Token("percent%sign-0123456789"),
        "host": "http://127.0.0.1:1",
        "collection": "col",
        "experiment": "exp",
        "channels": ["PSD95", "synapsin"],
        "x_range": (1, 20),
        "y_range": (2, 30),
        "z_range": (3, 4),
        "resolution": 0,
    }


def test_older_configurations_have_the_names_in_parallel(tmp_path):
    text = WHOLE.replace("[shared]\n", "").replace("[Default]", "[Parallel]", 1)
    text = text.replace("[Parallel]\ntoken", "[Default]\ntoken", 1).replace("collection", "[Parallel]\ncollection", 1)
    text = text.replace("\n[Parallel]\nchannels", "\nchannels")
    read = get_boss_config(config(tmp_path, text), environ={})
    assert (read["collection"], read["experiment"], read["channels"]) == ("col", "exp", ["PSD95", "synapsin"])


@pytest.mark.parametrize("line", ["", "channels =\n", "channels = ,\n"])
def test_a_configuration_without_channels_means_all(tmp_path, line):
    text = WHOLE.replace("channels = PSD95, synapsin ,\n", line)
    assert get_boss_config(config(tmp_path, text), environ={})["channels"] == []


def test_the_environment_comes_before_the_configuration(tmp_path):
    file = config(tmp_path, WHOLE)
    assert get_boss_config(file, environ={"BOSS_TOKEN": "from-environ"})["token"] == Token("from-environ")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("token = percent%sign-0123456789\n", "", "none was given"),
        ("host = http://127.0.0.1:1\n", "", "host in [Default]"),
        ("[Default]", "[default]", "none was given"),
        ("collection = col\n", "", "collection in [shared]"),
        ("experiment = exp\n", "experiment =\n", "experiment in [shared]"),
        ("z_range = 3,4\n", "", "z_range in [Parallel]"),
        ("z_range = 3,4\n", "z_range = 3\n", "z_range in [Parallel]"),
        ("z_range = 3,4\n", "z_range = 3,4,5\n", "not two whole numbers"),
        ("z_range = 3,4\n", "z_range = 3,x\n", "not two whole numbers"),
        ("z_range = 3,4\n", "z_range = 40,3\n", "it ends before it starts"),
        ("resolution = 0", "resolution = fine", "not a whole number"),
        ("[Default]\n", "", "line 1: a [section] must come first"),
        ("token = percent%", "token percent%", "line 2: it is no 'key = value'"),
        ("host = http://127.0.0.1:1\n", "host = a\nhost = b\n", "twice"),
        ("token = percent%sign", "token = percent% sign", "token in [Default]"),
    ],
)
def test_an_invalid_configuration_is_reported_with_section_and_key_and_without_the_token(tmp_path, old, new, said):
    assert old in WHOLE
    file = config(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(UsageError) as caught:
        get_boss_config(file, environ={})
    assert said in str(caught.value)
    assert "sign-0123456789" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * 70_000])
def test_a_file_that_is_not_a_configuration_is_refused(tmp_path, content):
    file = tmp_path / "neurodata.cfg"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"neurodata\.cfg"):
        get_boss_config(file)


def test_a_configuration_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "neurodata.cfg")
    with pytest.raises(StorageError, match="it is a pipe or a device"):
        get_boss_config(tmp_path / "neurodata.cfg")


def test_a_missing_configuration_is_reported(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        get_boss_resource(tmp_path / "neurodata.cfg")


def test_the_example_is_a_configuration():
    read = get_boss_config(EXAMPLE, environ={})
    assert read["token"] == Token("public")
    assert read["z_range"] == (0, 16)
    assert not EXAMPLE.stat().st_mode & stat.S_IXUSR


def test_a_configuration_opens_a_resource(volume, tmp_path, monkeypatch):
    monkeypatch.delenv("BOSS_TOKEN", raising=False)
    text = WHOLE.replace("percent%sign-0123456789", volume.server.token).replace(
        "http://127.0.0.1:1", volume.server.url
    )
    text = text.replace("= col\n", f"= {volume.place.collection.name}\n").replace(
        "= exp\n", f"= {volume.place.experiment.name}\n"
    )
    resource = get_boss_resource(config(tmp_path, text.replace("PSD95, synapsin ,", "chan-uint16")))
    assert resource.requested_channels == ["chan-uint16"]
    assert resource.box == Box((3, 4), (2, 30), (1, 20))
