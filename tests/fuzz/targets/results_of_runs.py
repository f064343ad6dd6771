"""What a run left, read again: run.json, masks, a result folder as ``driver.py verify`` reads it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile
from hypothesis import strategies as st
from numpy.typing import NDArray

import nd_boss
from nd_synapse import credentials
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import UnknownNameError
from nd_synapse.files import masks
from nd_synapse.geometry import Box, Frame
from nd_synapse.job import deliverables, manifest, results, upload, verify
from nd_synapse.job import folder as result_folder
from nd_synapse.pipeline import registry
from tests.fuzz.cases import ABSENT, json_values, mutated_bytes, mutated_json, names, numbers, one_wrong, plain, words
from tests.fuzz.judge import Target

# --- run.json -----------------------------------------------------------------------------------------------------

odd = json_values | numbers | words | plain | st.just(ABSENT)
span = st.tuples(st.integers(0, 99), st.integers(100, 999)).map(list)
bad_span = st.lists(st.integers(-9, 9), max_size=3) | st.tuples(st.integers(9, 99), st.integers(0, 9)).map(list) | odd
ASKED: dict[str, st.SearchStrategy[Any]] = {
    "host": st.just("http://127.0.0.1:8080"),
    "collection": names,
    "experiment": names,
    "z_range": span,
    "y_range": span,
    "x_range": span,
    "pipeline": st.just("nomads-unsupervised"),
    "parameters": st.dictionaries(names, names | numbers.filter(lambda n: n == n), max_size=2),
    "bucket": st.none() | names,
    "push": st.booleans(),
    "out_collection": names,
    "out_experiment": names,
}
WRONG_ASKED: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(ASKED, odd),
    **dict.fromkeys(("z_range", "y_range", "x_range"), bad_span),
    "pipeline": words | st.sampled_from(["../x", "a:b", "", "probabilistic"]),
}
mask = st.sampled_from(["All", "Gaba", "Glut"])
learned = st.floats(-1e9, 1e9) | names | st.lists(st.integers(), max_size=3)
bad_learned = st.sampled_from([float("nan"), float("inf"), True, None, {}, [[]], [None], [float("nan")]]) | odd
RUN: dict[str, st.SearchStrategy[Any]] = {
    "schema": st.just("nd-synapse/run/1"),
    "asked": one_wrong(ASKED, {"host": ASKED["host"]}),
    "source": st.lists(st.floats(1.0, 1e4), min_size=3, max_size=3).map(lambda size: {"voxel_size_nm_zyx": size}),
    "roles": st.dictionaries(names, names, max_size=2),
    "finding": st.dictionaries(names, learned, max_size=2),
    "masks": st.dictionaries(mask, names, max_size=2).map(
        lambda more: {**more, "First": "nomads-unsupervised-predictions"}
    ),
    "voxels": st.dictionaries(mask, st.integers(0, 2**40), max_size=2),
    "counts": st.integers(0, 2**40).map(lambda n: {"synapses": n}),
    "failed_blocks": st.lists(st.just({"box": "z 0:1 y 0:2 x 0:2"}), max_size=2),
    "files": st.dictionaries(names, st.just({"bytes": 3, "sha256": "00"}), max_size=2),
    "in_boss": st.dictionaries(mask, names | st.just("failed: x"), max_size=2),
    "failures": st.lists(words, max_size=2),
}
WRONG_RUN: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(RUN, odd),
    "asked": one_wrong(ASKED, WRONG_ASKED) | odd,
    "roles": st.dictionaries(names, odd, min_size=1, max_size=1),
    "finding": st.dictionaries(names, bad_learned, min_size=1, max_size=1),
    "masks": st.dictionaries(mask, words | st.just("../x") | odd, min_size=1).map(
        lambda more: {**more, "First": "nomads-unsupervised-predictions"}
    ),
    "counts": odd | odd.map(lambda n: {"synapses": n}),
    "source": odd | (odd | st.lists(numbers, max_size=4)).map(lambda size: {"voxel_size_nm_zyx": size}),
    "failed_blocks": st.lists(
        odd | words.map(lambda text: {"box": text}) | st.just({"box": "z 1:0 y 0:2 x 0:2"}), min_size=1, max_size=2
    ),
    "files": st.dictionaries(words, odd | odd.map(lambda n: {"bytes": n, "sha256": "0"}), min_size=1, max_size=2),
    "in_boss": st.dictionaries(mask, odd, min_size=1, max_size=1),
    "failures": odd | st.lists(odd, max_size=2),
}


def _json(value: Any) -> bytes:
    """Return JSON, of what has no place in it its words."""
    return json.dumps(value, default=str).encode()


sound = one_wrong(RUN, {"schema": RUN["schema"]})
run_files_of_any = (
    one_wrong(RUN, WRONG_RUN).map(_json)
    | one_wrong(RUN, WRONG_RUN).map(_json)
    | one_wrong(RUN, WRONG_RUN).map(_json)
    | sound.flatmap(lambda run: mutated_bytes([_json(run)]))
)


def read_run(body: bytes, folder: Path) -> None:
    (folder / "run.json").write_bytes(body)
    run = manifest.read_run_file(folder)
    assert all("/" not in stem and not stem.startswith(".") for stem in run.masks.values())


# --- a whole folder -----------------------------------------------------------------------------------------------

SHAPE = (4, 24, 24)
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
TOLD = {
    "schema": "nd-synapse/run/1",
    "asked": {
        "host": "http://127.0.0.1:8080",
        "collection": "c",
        "experiment": "e",
        "bucket": None,
        "push": True,
        "out_collection": "o",
        "out_experiment": "p",
    },
    "source": {"voxel_size_nm_zyx": [*VOXEL_SIZE_NM]},
    "in_boss": {"All": "o/p/q, 3 voxels"},
    "failures": [],
}


class Arrays:
    """The volume of a run in place of BOSS."""

    frame = Frame("frame", Box((0, 99), (0, 99), (0, 99)), VOXEL_SIZE_NM)

    def get_cutout(self, channel: str, *ranges: tuple[int, int]) -> NDArray[Any]:
        try:
            voxels = run_channels()[channel]
        except KeyError as error:
            raise UnknownNameError(f"channel {channel!r}", "there is no such channel", "Correct the name") from error
        return voxels[tuple(slice(*extent) for extent in ranges)]


@cache
def run_channels() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    spots = rng.random(SHAPE) < 0.02
    spots[1:3, 8:14, 8:14] = True
    noise = rng.poisson(12, (2, *SHAPE))
    return {
        name: np.where(spots, 150, voxels).astype(np.uint8)
        for name, voxels in zip(("SYNAPSIN", "PSD95"), noise, strict=True)
    }


@cache
def run_files(pipeline: str) -> dict[str, bytes]:
    """The files of a small run, `run.json` among them, all as they should be."""
    built = registry.build(pipeline, {"min_voxels": "1"})
    roles = dict(zip((role.name for role in built.roles), run_channels(), strict=True))
    found = detect_arrays(built, run_channels(), VOXEL_SIZE_NM, chosen=roles)
    box = Box.of_shape(SHAPE)
    with tempfile.TemporaryDirectory() as path:
        folder = result_folder.ResultFolder(Path(path), "run")
        stem = f"{pipeline}-predictions"
        results.write_mask(folder.root, stem, found.masks["All"], voxel_size_nm=(70, 100, 100), box=box, description="")
        results.write_table(folder.root, "synapses.csv", found.table)
        run = {
            **TOLD,
            "asked": {
                **TOLD["asked"],  # type: ignore[dict-item]
                **{f"{axis}_range": list(extent) for axis, extent in zip("zyx", box.ranges, strict=True)},
                "pipeline": pipeline,
                "parameters": dict(built.settings),
            },
            "roles": roles,
            "finding": found.finding,
            "masks": {"All": stem},
            "voxels": {"All": int(np.count_nonzero(found.masks["All"]))},
            "counts": {"synapses": len(found.table["id"])},
            "failed_blocks": [],
            "files": deliverables.checksums(folder.root),
        }
        manifest.write_run_json(folder.root, run)
        return {path.name: path.read_bytes() for path in deliverables.deliverables(folder.root)}


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
    request = verify.Request(folder=folder, token=credentials.Token("public"))
    with (
        mock.patch.object(verify, "NeuroDataResource", return_value=Arrays()),
        mock.patch.object(nd_boss, "held_blocks", return_value=()),
        mock.patch.object(upload, "compare_folder", return_value={}),
    ):
        made = list(verify.verify(request))
    assert all(check.found for check in made)
    if files == run_files("probabilistic") or files == run_files("nomads-unsupervised"):
        assert [check.name for check in made if not check.good] == ["S3"], made
    for error in (check.error for check in made if check.error is not None):
        raise error


# --- masks --------------------------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6))
values = st.integers(0, 2**30)


def mask_of(shape: tuple[int, int, int], value: int) -> NDArray[np.uint8]:
    return np.random.default_rng(value).integers(0, 2, shape, np.uint8) * np.uint8(255)


def pickled(array: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    masks.write_pickle(file, "All", array)
    return file.getvalue()


def tiff_of(array: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    xml = masks.ome_xml("All", Box.of_shape(array.shape), (70, 100, 100), "", b"\x00")
    masks.write_tiff(file, array, xml)
    return file.getvalue()


@st.composite
def pickles(draw: st.DrawFn) -> tuple[bytes, tuple[int, int, int]]:
    """A mask and the shape that it is to have; one of them is odd in half of the cases."""
    shape = draw(shapes)
    array = mask_of(shape, draw(values))
    match draw(st.sampled_from(["", "", "", "bytes", "numpy", "shape"])):
        case "bytes":
            return draw(mutated_bytes([pickled(array)])), shape
        case "numpy":
            return pickle.dumps(array), shape
        case "shape":
            return pickled(array), draw(shapes | st.tuples(*[st.integers(0, 2**40)] * 3))
    return pickled(array), shape


@st.composite
def tiffs(draw: st.DrawFn) -> tuple[bytes, tuple[int, int, int]]:
    """The same as a TIFF; sometimes a tag says something else."""
    shape = draw(shapes)
    array = mask_of(shape, draw(values))
    body = tiff_of(array)
    match draw(st.sampled_from(["", "", "", "", "bytes", "tag", "tag", "plain", "shape"])):
        case "bytes":
            body = draw(mutated_bytes([body]))
        case "tag":
            tagged = bytearray(body)
            (at,) = struct.unpack_from("<I", tagged, 4)
            (entries,) = struct.unpack_from("<H", tagged, at)
            place = at + 2 + 12 * draw(st.integers(0, entries - 1)) + 8
            struct.pack_into("<I", tagged, place, draw(st.integers(0, 20) | st.integers(0, 2**32 - 1)))
            body = bytes(tagged)
        case "plain":
            file = io.BytesIO()
            tifffile.imwrite(file, array.astype(draw(st.sampled_from([np.uint8, np.uint16]))), photometric="minisblack")
            body = file.getvalue()
        case "shape":
            shape = draw(shapes)
    return body, shape


def read_pickle(case: tuple[bytes, tuple[int, int, int]], folder: Path) -> None:
    body, shape = case
    (folder / "mask.pkl").write_bytes(body)
    assert np.array(masks.map_pickle(folder / "mask.pkl", shape)).shape == shape


def read_tiff(case: tuple[bytes, tuple[int, int, int]], folder: Path) -> None:
    body, shape = case
    (folder / "mask.ome.tiff").write_bytes(body)
    assert [plane.shape for plane in masks.tiff_slices(folder / "mask.ome.tiff", shape)] == [shape[1:]] * shape[0]


TARGETS = [
    Target("run.json", run_files_of_any, read_run, 4, results=0.3, places=6),
    Target("verify", st.deferred(runs), verify_run, 3, results=0.35, places=12),
    Target("masks: pickles", pickles(), read_pickle, 2, results=0.4, places=1),
    Target("masks: TIFF", tiffs(), read_tiff, 3, results=0.4, places=5),
]
