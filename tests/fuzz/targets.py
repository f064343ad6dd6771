"""Everything that takes input, each as one function of a case."""

from __future__ import annotations

import io
import json
import math
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile
import urllib3
import zarr
from hypothesis import strategies as st
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

import command_line
import credentials
import driver
import job
import mask_files
import nd_boss
import neurodata_config
import pipelines
import pymeda_driver
import results
import run_file
import s3
import verification
from boss import catalog, connection, destination
from boss.voxels import read_cutout
from box import Box
from detection.in_memory import detect_arrays
from errors import NDSynapseError, UnknownNameError
from frame import Frame
from local_boss import forms, slabs, stacks, wire
from NeuroDataResource import NeuroDataResource, get_boss_config
from pipelines.contract import parse_parameters
from pipelines.evaluate import options as evaluate_options
from pipelines.evaluate import truth
from pipelines.query import Query, parse_markers, parse_query
from pymeda.table import SynapseTable, standardise
from tests.fuzz.cases import TOKEN, edits, json_values, mutated_bytes, mutated_json, mutated_text, numbers, plain, words
from tests.fuzz.judge import Target

ENVIRONMENT = {"BOSS_TOKEN": TOKEN}

# --- the command line ---------------------------------------------------------------------------------------------

GOOD = {
    "--host": ["api.bossdb.io", "http://127.0.0.1:8080"],
    "--col": ["collman"],
    "--exp": ["M247514"],
    "--z-range": ["0,8"],
    "--y-range": ["0,1024"],
    "--x-range": ["0:1344"],
    "--pipeline": [*pipelines.names(), "tests.pipelines.variants:bright"],
    "--param": ["min_voxels=30", "evidence=both"],
    "--channels": ["presynaptic=SYNAPSIN,postsynaptic=PSD95"],
    "--feature-channels": ["PSD95,SYNAPSIN"],
    "--cpus": ["2"],
    "--block-size": ["8,64,64"],
    "--pulls": ["4"],
    "--memory": ["1.5"],
    "--cache": ["2"],
    "--bucket": ["results"],
    "--acl": ["private"],
    "--out-col": ["out"],
    "--out-exp": ["exp"],
    "--path": ["results"],
    "--token": [TOKEN],
    "--token-file": ["nowhere"],
    "--config": ["nowhere.cfg"],
}
NEEDED = ("--host", "--col", "--exp", "--z-range", "--y-range", "--x-range")
FLAGS = ["--fresh", "--dry-run", "--no-push", "--no-plots", "--overwrite", "--verbose", "--quiet", "--list-pipelines"]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command line that was right, with a few words changed."""
    values = {option: draw(st.sampled_from(GOOD[option])) for option in NEEDED}
    for option in draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=4)):
        values[option] = draw(st.sampled_from(GOOD[option]))
    for option in draw(st.lists(st.sampled_from(sorted(values)), max_size=2)):
        values[option] = draw(mutated_text(GOOD[option]) | words)
    line = [word for pair in values.items() for word in pair]
    if draw(st.integers(0, 4)) == 0:
        # an option that is misspelt or none, with a token, in one word or in two
        option = draw(st.sampled_from(["--token", "--token-file", "--tok", "--tokn", "-t", "--quiet", "--cpus"]))
        line += draw(st.sampled_from([[option, TOKEN], [f"{option}={TOKEN}"], [f"{option}{TOKEN}"]]))
    line += draw(st.lists(st.sampled_from(FLAGS), max_size=2))
    if draw(st.integers(0, 4)) == 0:
        line.insert(draw(st.integers(0, len(line))), draw(words | st.just(TOKEN)))
    return line


def read_command_line(line: list[str], folder: Path) -> None:
    asked = job.job_from(driver._options(line), ENVIRONMENT)
    results.ResultFolder.named(asked.path, asked.results_key)
    json.dumps(asked.asked())
    assert TOKEN not in repr(asked)
    assert TOKEN not in json.dumps(asked.asked())


def read_evaluation(line: list[str], folder: Path) -> None:
    evaluate_options.request_of(evaluate_options.parser().parse_args(line))


RIGHT = [
    ["--detections", "a.csv", "--truth", "b.csv", "--voxel-size-nm", "70,100,100", "--max-distance-nm", "300"],
    ["--images", "a", "--truth", "b.tif", "--voxel-size-nm", "70,100,100", "--overlap", "0.5", "--threads", "2"],
    ["--synaptograms", "a.npz", "--seed", "1", "--resamples", "10", "--json"],
    ["--detections", "a.csv", "--truth", "b.csv", "--z-range", "0,8", "--y-range", "0,9", "--x-range", "0,9"],
]


@st.composite
def evaluations(draw: st.DrawFn) -> list[str]:
    """A command line of the evaluation that was right, with a few words changed."""
    line = list(draw(st.sampled_from(RIGHT)))
    for _ in range(draw(edits)):
        place = draw(st.integers(0, len(line) - 1))
        line[place] = draw(mutated_text([line[place]]) | words)
    return line


# --- neurodata.cfg ------------------------------------------------------------------------------------------------

CONFIG = (
    f"[Default]\ntoken = {TOKEN}\nhost = api.bossdb.io\n"
    "[shared]\ncollection = collman\nexperiment = M247514\n"
    "[Parallel]\nchannels = PSD95, SYNAPSIN\nx_range = 0,100\ny_range = 0,100\nz_range = 0,5\nresolution = 0\n"
)


def read_config(body: bytes, folder: Path) -> None:
    path = folder / "neurodata.cfg"
    path.write_bytes(body)
    neurodata_config.read_neurodata_config(path)
    get_boss_config(path, environ={})


def read_token(body: bytes, folder: Path) -> None:
    path = folder / "token"
    path.write_bytes(body)
    path.chmod(0o600)
    token = credentials.find_token(None, path, {}, None)
    assert token.reveal() not in repr(token)


# --- names, ranges, values ----------------------------------------------------------------------------------------

HOSTS = [
    "api.bossdb.io",
    "http://127.0.0.1:8080",
    "https://[::1]:443/",
    "user:secret@host",
    "ftp://a",
    "http://a/b?c#d",
]


def read_host(text: str, folder: Path) -> None:
    address = connection.address_of(text)
    assert connection.address_of(address.url) == address


def read_names(names: list[str], folder: Path) -> None:
    col, exp, channel = names
    destination.Destination(col, exp, channel)
    key = results.results_key("nomads-unsupervised", col, exp, Box((0, 1), (0, 1), (0, 1)))
    assert results.ResultFolder.named(folder, key).root.parent == folder


def read_range(case: tuple[str, Any], folder: Path) -> None:
    text, ends = case
    start, stop = job.parse_range("z", text)
    box = Box((start, stop), (0, 3), ends)
    assert box.voxels == math.prod(box.shape) > 0


def read_box(case: tuple[Any, Any, Any, list[int]], folder: Path) -> None:
    *ranges, size = case
    box = Box(*ranges)
    if math.prod(-(-n // max(s, 1)) for n, s in zip(box.shape, size, strict=True)) < 1000:
        assert sum(tile.voxels for tile in box.tiles(size)) == box.voxels


def read_values(case: tuple[str, str, str], folder: Path) -> None:
    size, gib, pairs = case
    for read in (
        lambda: command_line.block_size_of(size),
        lambda: command_line.gib_of("--memory", gib),
        lambda: command_line.pairs_of("--channels", pairs.split(","), empty=True),
    ):
        read()


# --- pipelines ----------------------------------------------------------------------------------------------------


@st.composite
def parameters(draw: st.DrawFn) -> tuple[str, dict[str, str], list[str], dict[str, str]]:
    """A pipeline with values for its parameters, the names of channels, and roles."""
    name = draw(st.sampled_from(pipelines.names()))
    declared = pipelines.parameters(name)
    some = draw(st.lists(st.sampled_from(declared), max_size=2))
    given = {p.name: draw(mutated_text([str(p.default)]) | words | numbers.map(str)) for p in some}
    if draw(st.integers(0, 9)) == 0:
        given[draw(words)] = draw(words)
    markers = [role.markers[0] for role in pipelines.build(name, {}).roles]
    channels = draw(st.just(markers) | st.just(markers) | st.lists(st.sampled_from(markers) | words, max_size=5))
    role = st.sampled_from(["presynaptic", "postsynaptic"])
    roles = draw(st.just({}) | st.just({}) | st.dictionaries(role | words, words, max_size=2))
    return name, given, channels, roles


def build_pipeline(case: tuple[str, dict[str, str], list[str], dict[str, str]], folder: Path) -> None:
    name, given, channels, roles = case
    parse_parameters(pipelines.parameters(name), given)
    pipeline = pipelines.build(name, given)
    halo = pipeline.halo((70.0, 100.0, 100.0))
    assert all(isinstance(n, int) and 0 <= n < 10**6 for n in halo), halo
    json.dumps(dict(pipeline.settings), allow_nan=False)
    chosen = pipeline.choose(channels, roles)
    assert set(chosen.values()) <= set(channels)


QUERY = {"presynaptic": "synapsin:2,vglut1:1", "postsynaptic": "psd95:3", "punctum": 4, "threshold": 0.9}
DEFAULTS = Query(parse_markers("a", "presynaptic"), (), 2, 0.9)


def read_query(text: str, folder: Path) -> None:
    query = parse_query(text, DEFAULTS)
    assert 0 <= query.threshold <= 1


queries = mutated_json([QUERY]).map(lambda v: json.dumps(v)) | mutated_text([json.dumps(QUERY)]) | words

# --- stacks -------------------------------------------------------------------------------------------------------


@cache
def tiffs() -> list[bytes]:
    """Small stacks of many kinds."""
    stack = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
    kinds: list[dict[str, Any]] = [
        {},
        {"bigtiff": True},
        {"imagej": True},
        {"ome": True},
        {"byteorder": ">"},
    ]
    bodies = []
    for kind in kinds:
        for options in ({}, {"compression": "zlib"}) if kind != {"imagej": True} else ({},):
            file = io.BytesIO()
            tifffile.imwrite(file, stack.astype(np.uint16), photometric="minisblack", **kind, **options)
            bodies.append(file.getvalue())
    return bodies


@cache
def npys() -> list[bytes]:
    bodies = []
    for array in (np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4), np.float32), np.array([None], object)):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        bodies.append(file.getvalue())
    return bodies


@contextmanager
def small_memory() -> Iterator[None]:
    """Let a slice have a megabyte: whatever a damaged header announces, a case may not take the machine's memory."""
    with mock.patch.object(slabs, "MAX_SLICE_BYTES", 2**20), mock.patch.object(stacks, "MAX_SLICE_BYTES", 2**20):
        yield


def open_stack(path: Path) -> None:
    with small_memory():
        stack = stacks.open_stack([path])
        for start in range(min(stack.shape[0], 8)):
            assert stack.read(start, start + 1).shape == (1, *stack.shape[1:])


def read_tiff(body: bytes, folder: Path) -> None:
    path = folder / "stack.tif"
    path.write_bytes(body)
    open_stack(path)


def read_npy(body: bytes, folder: Path) -> None:
    path = folder / "stack.npy"
    path.write_bytes(body)
    open_stack(path)


@cache
def zarr_files(form: int) -> dict[str, bytes]:
    """The files of a small Zarr array."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(folder, shape=(2, 3, 4), chunks=(1, 3, 4), dtype="uint8", zarr_format=form)  # type: ignore[arg-type]
        array[...] = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@st.composite
def zarrs(draw: st.DrawFn) -> dict[str, bytes]:
    """A Zarr array of which one file is changed."""
    files = dict(zarr_files(draw(st.sampled_from([2, 3]))))
    name = draw(st.sampled_from(sorted(files)))
    if name in ("zarr.json", ".zarray", ".zattrs"):
        files[name] = draw(mutated_json([json.loads(files[name])]).map(lambda v: json.dumps(v).encode()))
    else:
        files[name] = draw(mutated_bytes([files[name]]))
    if draw(st.integers(0, 9)) == 0:
        del files[name]
    return files


def read_zarr(files: dict[str, bytes], folder: Path) -> None:
    root = folder / "array.zarr"
    if root.exists():
        shutil.rmtree(root)
    for name, body in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
    root.mkdir(exist_ok=True)
    open_stack(root)


file_names = st.lists(mutated_text(["slice_001.tif", "slice_002.tif", "a-7.tif", "9.tif"]), min_size=2, max_size=5)


def order_files(names: list[str], folder: Path) -> None:
    ordered = stacks.natural_order([Path("stack") / name for name in names])
    assert len(ordered) == len(names)


# --- replies of BOSS ----------------------------------------------------------------------------------------------

EXPERIMENT = {"name": "exp", "collection": "col", "coord_frame": "frame", "channels": ["a"], "description": "d"}
FRAME = {
    "name": "frame",
    **{f"{axis}_start": 0 for axis in "xyz"},
    **{f"{axis}_stop": 10 for axis in "xyz"},
    **{f"{axis}_voxel_size": 4.5 for axis in "xyz"},
    "voxel_unit": "nanometers",
}
CHANNEL = {
    "name": "a",
    "type": "image",
    "datatype": "uint8",
    "base_resolution": 0,
    "description": "",
    "sources": [],
    "related": [],
    "downsample_status": "NOT_DOWNSAMPLED",
}
REFUSAL = {"status": 404, "code": 4000, "message": "nope"}
VOXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
SMALL = Box((0, 2), (0, 3), (0, 4))


DATES = ["Fri, 1 Jan", "Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"]


@st.composite
def replies(draw: st.DrawFn, base: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    status = draw(st.sampled_from([*[200] * 20, 201, 204, 301, 400, 401, 403, 404, 409, 413, 418, 429, 500, 503]))
    headers = draw(
        st.dictionaries(
            st.sampled_from(["Content-Type", "Content-Encoding", "Location", "Retry-After", "Content-Digest"]),
            st.sampled_from(["gzip", "deflate", "text/html", "http://x/", "1", "sha-256=:eA==:", "-1", *DATES]),
            max_size=2,
        )
    )
    document = mutated_json([base if status == 200 else REFUSAL]).map(lambda v: json.dumps(v).encode())
    return (
        status,
        headers,
        draw(document | document | document | mutated_bytes([b"<html>502</html>", b"", b"\x1f\x8b\x08", b"[" * 2000])),
    )


Reply = tuple[int, dict[str, str], bytes]


@contextmanager
def answering(reply: Reply, others: Mapping[str, Any]) -> Iterator[None]:
    """Answer requests below the part of the client that is ours: some as they should be, all others with a case."""

    def send(self: HTTPAdapter, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        known = [body for part, body in others.items() if part in str(request.url)]
        status, headers, body = (200, {}, json.dumps(known[0]).encode()) if known else reply
        raw = urllib3.HTTPResponse(io.BytesIO(body), headers=headers, status=status, preload_content=False)
        response: Response = self.build_response(request, raw)  # type: ignore[no-untyped-call]
        return response

    with mock.patch.object(HTTPAdapter, "send", send):
        yield


def asking(ask: Callable[[Any], object], others: Mapping[str, Any] | None = None) -> Callable[[Reply, Path], None]:
    """Return a target that asks a BOSS that answers with a case."""

    def run(reply: Reply, folder: Path) -> None:
        remote = connection.connect("boss.example", TOKEN, patience=IMPATIENT)
        try:
            with answering(reply, others or {}):
                ask(remote)
        except NDSynapseError as error:
            hidden = [str(error), repr(error.__cause__)]
            if any(TOKEN in text for text in hidden):
                raise AssertionError("the token shows") from error
            raise

    return run


IMPATIENT = connection.Patience(connect_s=1, read_s=1, total_s=2, attempts=1)


def ask_volume(remote: Any) -> None:
    ranges = [(0, 2), (0, 3), (0, 4)]
    volume = NeuroDataResource("boss.example", TOKEN, "col", "exp", [], *ranges, patience=IMPATIENT)
    json.dumps(volume.describe(), allow_nan=False)
    assert set(volume.image_channels) <= set(volume.channels)


def ask_channel(remote: Any) -> None:
    channel = catalog.find_channel(remote, "col", "exp", "a")
    assert channel.datatype in ("uint8", "uint16", "uint64")


def ask_destination(remote: Any) -> None:
    frame = Frame("frame", Box((0, 10), (0, 10), (0, 10)), (4.5, 4.5, 4.5))
    nd_boss.check_destination(remote, destination.Destination("col", "exp", "a", "me"), SMALL, frame)


def ask_voxels(remote: Any) -> None:
    channel = nd_boss.ChannelResource("a", "col", "exp", type="image", datatype="uint8")
    voxels = read_cutout(remote, channel, SMALL)
    assert (voxels.shape, voxels.dtype) == (SMALL.shape, np.uint8)


@st.composite
def cutouts(draw: st.DrawFn) -> tuple[int, dict[str, str], bytes]:
    """An answer to a cutout."""
    wrong = [wire.pack(VOXELS), wire.pack(VOXELS.astype(np.uint16)), wire.pack(np.zeros((9, 9, 9), np.uint8))]
    status = draw(st.sampled_from([200, 200, 200, 200, 200, 200, 404, 500]))
    return (
        status,
        {},
        draw(mutated_bytes([wrong[0]]) | mutated_bytes([*wrong, pickle.dumps(VOXELS)]) | st.binary(max_size=40)),
    )


# --- what the local BOSS takes ------------------------------------------------------------------------------------


def unpack_upload(body: bytes, folder: Path) -> None:
    assert wire.unpack(body, VOXELS.shape, "uint8").shape == VOXELS.shape


FORMS = [forms.COLLECTION, forms.COORDINATE_FRAME, forms.EXPERIMENT, forms.CHANNEL]


def fill_form(case: tuple[int, Any, bool], folder: Path) -> None:
    number, fields, update = case
    if isinstance(fields, dict):
        (FORMS[number].for_update if update else FORMS[number].for_creation)(fields)
        forms.check_name(fields.get("name"))


# --- S3, tables, files of results ---------------------------------------------------------------------------------


def name_objects(case: tuple[str, list[str], str, str | None], folder: Path) -> None:
    prefix, names, bucket, acl = case
    root = folder / "upload"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in names:
        if name and name not in (".", "..") and "/" not in name and "\0" not in name and "\ud800" not in name:
            (root / name).write_bytes(b"")
    s3.check_bucket(bucket, acl)
    for path, key in s3._keys(root, prefix).items():
        assert path.parent == root
        assert key.startswith(f"{prefix}/")
        assert ".." not in key.split("/")


TABLES = [
    b"id,voxels,mean_PSD95,class,in_Gaba\n1,30,1.5,Gaba,True\n2,40,,Glut,False\n",
    b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n",
    b"z,y,x,type\n1,2,3,inhibitory\n4,5,6,excitatory\n",
    b"a\n1e308\n-1e308\n",
    b'"a,b",c\n"1",2\n',
]


def read_table(body: bytes, folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(body)
    columns = pymeda_driver.read_table(path)
    table = SynapseTable(columns)
    brightness = np.stack([columns[name].astype(np.float64) for name in table.channels.values()] or [np.zeros(table.n)])
    found = standardise(list(table.channels) or ["none"], brightness.T)
    assert np.isfinite(found.values).all()
    assert set(table.groups) is not None


def read_points(body: bytes, folder: Path) -> None:
    path = folder / "truth.csv"
    path.write_bytes(body)
    truth.read_points(path, (70.0, 100.0, 100.0), scored=True)


RUN = {
    "schema": "nd-synapse/run/1",
    "asked": {
        "host": "http://127.0.0.1:8080",
        "collection": "c",
        "experiment": "e",
        "z_range": [0, 2],
        "y_range": [0, 3],
        "x_range": [0, 4],
        "pipeline": "nomads-unsupervised",
        "parameters": {"min_voxels": 30},
        "bucket": None,
        "push": True,
        "out_collection": "o",
        "out_experiment": "p",
    },
    "source": {"voxel_size_nm_zyx": [70.0, 100.0, 100.0]},
    "roles": {"presynaptic": "SYNAPSIN"},
    "finding": {"threshold": 1.5},
    "masks": {"All": "nomads-unsupervised-predictions"},
    "voxels": {"All": 3},
    "counts": {"synapses": 1},
    "holes": [{"box": "z 0:1 y 0:2 x 0:2"}],
    "files": {"synapses.csv": {"bytes": 3, "sha256": "00"}},
    "in_boss": {"All": "o/p/q, 3 voxels"},
}


def read_run(body: bytes, folder: Path) -> None:
    (folder / "run.json").write_bytes(body)
    run = run_file.read_run_file(folder)
    assert all("/" not in stem and not stem.startswith(".") for stem in run.masks.values())


RUN_SHAPE = (4, 24, 24)


class Arrays:
    """The volume of a run in place of BOSS."""

    frame = Frame("frame", Box((0, 99), (0, 99), (0, 99)), (70.0, 100.0, 100.0))

    def get_cutout(self, channel: str, *ranges: tuple[int, int]) -> np.ndarray[Any, Any]:
        try:
            voxels = run_channels()[channel]
        except KeyError as error:
            raise UnknownNameError(f"channel {channel!r}", "there is no such channel", "Correct the name") from error
        return voxels[tuple(slice(*extent) for extent in ranges)]


@cache
def run_channels() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    spots = rng.random(RUN_SHAPE) < 0.02
    spots[1:3, 8:14, 8:14] = True
    noise = rng.poisson(12, (2, *RUN_SHAPE))
    return {
        name: np.where(spots, 150, voxels).astype(np.uint8)
        for name, voxels in zip(("SYNAPSIN", "PSD95"), noise, strict=True)
    }


@cache
def run_files(pipeline: str) -> dict[str, bytes]:
    """The files of a small run, `run.json` among them, all as they should be."""
    import tempfile

    built = pipelines.build(pipeline, {"min_voxels": "1"})
    roles = dict(zip((role.name for role in built.roles), run_channels(), strict=True))
    found = detect_arrays(built, run_channels(), Arrays.frame.voxel_size_nm, chosen=roles)
    box = Box.of_shape(RUN_SHAPE)
    with tempfile.TemporaryDirectory() as path:
        folder = results.ResultFolder(Path(path), "run")
        stem = f"{pipeline}-predictions"
        folder.write_mask(stem, found.masks["All"], voxel_size_nm=(70, 100, 100), box=box, description="")
        folder.write_table("synapses.csv", found.table)
        run = {
            **RUN,
            "asked": {
                **RUN["asked"],  # type: ignore[dict-item]
                **{f"{axis}_range": list(extent) for axis, extent in zip("zyx", box.ranges, strict=True)},
                "pipeline": pipeline,
                "parameters": dict(built.settings),
            },
            "roles": roles,
            "finding": found.finding,
            "masks": {"All": stem},
            "voxels": {"All": int(np.count_nonzero(found.masks["All"]))},
            "counts": {"synapses": len(found.table["id"])},
            "holes": [],
            "files": results.sums(folder.root),
        }
        folder.write_json("run.json", run)
        return {path.name: path.read_bytes() for path in results.deliverables(folder.root)}


@st.composite
def runs(draw: st.DrawFn) -> dict[str, bytes]:
    """A result folder of which `run.json`, or another file, is changed."""
    files = dict(run_files(draw(st.sampled_from(["nomads-unsupervised", "probabilistic"]))))
    name = draw(st.sampled_from([*["run.json"] * 5, *sorted(files)]))
    if name == "run.json":
        files[name] = json.dumps(draw(mutated_json([json.loads(files[name])]))).encode()
    else:
        files[name] = draw(mutated_bytes([files[name]]))
    return files


def verify_run(files: dict[str, bytes], folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, body in files.items():
        (folder / name).write_bytes(body)
    request = verification.Request(folder=folder, token=credentials.Token("public"))
    with (
        mock.patch.object(verification, "NeuroDataResource", return_value=Arrays()),
        mock.patch.object(nd_boss, "held_blocks", return_value=()),
        mock.patch.object(s3, "compare_folder", return_value={}),
    ):
        made = list(verification.verify(request))
    assert all(check.found for check in made)
    if files == run_files("probabilistic") or files == run_files("nomads-unsupervised"):
        assert [check.name for check in made if not check.good] == ["S3"], made
    for error in (check.error for check in made if check.error is not None):
        raise error


@cache
def masks() -> tuple[list[bytes], list[bytes]]:
    """A mask in both of its forms."""
    mask = np.multiply(VOXELS % 2, 255, dtype=np.uint8)
    pickled, tiff = io.BytesIO(), io.BytesIO()
    digest = mask_files.write_pickle(pickled, "All", mask)
    mask_files.write_tiff(tiff, mask, mask_files.ome_xml("All", SMALL, (70, 100, 100), "", digest))
    return [pickled.getvalue()], [tiff.getvalue()]


def read_mask(case: tuple[bytes, bytes], folder: Path) -> None:
    for name, body in zip(("mask.pkl", "mask.ome.tiff"), case, strict=True):
        (folder / name).write_bytes(body)
    mapped = np.array(mask_files.map_pickle(folder / "mask.pkl", (2, 3, 4)))
    assert mapped.shape == (2, 3, 4)
    assert sum(1 for _ in mask_files.tiff_slices(folder / "mask.ome.tiff", (2, 3, 4))) == 2


def quietly(run: Callable[[Any, Path], object]) -> Callable[[Any, Path], None]:
    """Let a command line ask for help: it prints, and ends with 0."""

    def silent(case: Any, folder: Path) -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            try:
                run(case, folder)
            except SystemExit as end:
                if end.code != 0:
                    raise AssertionError(f"it exits with {end.code}") from end

    return silent


in_order = st.tuples(st.integers(-5, 40), st.integers(41, 90))
ranges = in_order | in_order | in_order | st.tuples(st.integers(), st.integers()) | st.tuples(plain, plain) | plain

TARGETS = [
    Target("command line", command_lines(), quietly(read_command_line), 12),
    Target("evaluation's command line", evaluations(), quietly(read_evaluation), 5),
    Target(
        "neurodata.cfg",
        mutated_bytes([CONFIG.encode()]) | mutated_text([CONFIG]).map(lambda t: t.encode("utf-8", "replace")),
        read_config,
        7,
    ),
    Target("token file", mutated_bytes([TOKEN.encode(), b"public\n"]), read_token, 3),
    Target("host", mutated_text(HOSTS), read_host, 4),
    Target("names", st.lists(mutated_text(["collman", "M247514", "e" * 250]), min_size=3, max_size=3), read_names, 4),
    Target("ranges", st.tuples(mutated_text(["0,8", "0:999999999"]), ranges), read_range, 4),
    Target(
        "boxes and blocks",
        st.tuples(ranges, ranges, ranges, st.lists(st.integers(-1, 9), min_size=3, max_size=3)),
        read_box,
        4,
    ),
    Target(
        "sizes and pairs",
        st.tuples(mutated_text(["8,64,64"]), mutated_text(["1.5"]) | words, mutated_text(["a=b,c=d"])),
        read_values,
        4,
    ),
    Target("parameters and roles", parameters(), build_pipeline, 6),
    Target("queries", queries, read_query, 6),
    Target("TIFF stacks", st.deferred(lambda: mutated_bytes(tiffs())), read_tiff, 5),
    Target(".npy stacks", st.deferred(lambda: mutated_bytes(npys())), read_npy, 3),
    Target("Zarr arrays", zarrs(), read_zarr, 2),
    Target("names of slices", file_names, order_files, 2),
    Target("replies: experiment", replies(EXPERIMENT), asking(lambda r: catalog.find_experiment(r, "col", "exp")), 3),
    Target("replies: frame", replies(FRAME), asking(lambda r: catalog.read_frame(r, "frame")), 3),
    Target("replies: channel", replies(CHANNEL), asking(ask_channel), 3),
    Target("replies: volume", replies(EXPERIMENT), asking(ask_volume, {"/coord/": FRAME, "/channel/": CHANNEL}), 3),
    Target(
        "replies: its frame", replies(FRAME), asking(ask_volume, {"/channel/": CHANNEL, "/collection/": EXPERIMENT}), 3
    ),
    Target(
        "replies: destination", replies({**EXPERIMENT, **FRAME, **CHANNEL, "name": "exp"}), asking(ask_destination), 3
    ),
    Target("replies: voxels", cutouts(), asking(ask_voxels), 4),
    Target("uploads to the local BOSS", mutated_bytes([wire.pack(VOXELS)]), unpack_upload, 3),
    Target(
        "forms of the local BOSS",
        st.tuples(st.integers(0, 3), mutated_json([FRAME, CHANNEL, EXPERIMENT]) | json_values, st.booleans()),
        fill_form,
        3,
    ),
    Target(
        "keys of S3",
        st.tuples(
            mutated_text(["key_z_0_8", "a/b"]), st.lists(words, max_size=2), mutated_text(["bucket"]), st.none() | words
        ),
        name_objects,
        3,
    ),
    Target("tables of the report", mutated_bytes(TABLES), read_table, 4),
    Target("tables of truth", mutated_bytes(TABLES), read_points, 3),
    Target(
        "run.json",
        mutated_json([RUN]).map(lambda v: json.dumps(v).encode()) | mutated_bytes([json.dumps(RUN).encode()]),
        read_run,
        4,
    ),
    Target("verify", st.deferred(runs), verify_run, 3),
    Target("masks", st.deferred(lambda: st.tuples(mutated_bytes(masks()[0]), mutated_bytes(masks()[1]))), read_mask, 3),
]
