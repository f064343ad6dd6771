"""The evaluation's input: command lines, tables, label volumes, folders of images, synaptograms."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from nd_synapse.cli import evaluate as evaluate
from nd_synapse.cli import evaluate_options as evaluate_options
from nd_synapse.evaluate import files, truth
from tests.fuzz.cases import ABSENT, mutated_bytes, names, numbers, one_of_line, one_wrong, sometimes, words
from tests.fuzz.judge import Target, quietly
from tests.fuzz.targets.jobs import bad_numbers, bad_ranges, bad_roles, flag
from tests.fuzz.targets.stacks import tiff_bodies, tiff_of, write_files, zarr_files
from tests.fuzz.targets.tables import csv_under

# --- the command line ---------------------------------------------------------------------------------------------

lengths = st.lists(st.floats(1, 999).map(str), min_size=3, max_size=3).map(",".join)
bad_lengths = st.sampled_from(["70", "70,100", "0,1,1", "-1,1,1", "nan,1,1", "inf,1,1", "1,2,3,4", "1e999,1,1"]) | words
simple_ranges = st.tuples(st.integers(0, 9), st.integers(10, 99)).map(lambda ends: f"{ends[0]},{ends[1]}")
TOLD: dict[str, st.SearchStrategy[Any]] = {
    "--pipeline": sometimes(names),
    "--param": sometimes(st.just("min_voxels=3")),
    "--channels": sometimes(st.just("presynaptic=a")),
    "--mask": sometimes(names),
    "--threads": sometimes(st.integers(1, 8).map(str)),
    "--types": sometimes(st.just("a,b")),
    "--type-column": sometimes(names),
    "--seed": sometimes(st.integers(0, 9).map(str)),
    "--resamples": sometimes(st.integers(1, 99).map(str)),
    "--out": sometimes(names),
    "--json": flag,
}
WRONG_TOLD: dict[str, st.SearchStrategy[Any]] = {
    "--param": words,
    "--channels": bad_roles,
    "--threads": bad_numbers,
    "--seed": bad_numbers,
    "--resamples": bad_numbers,
    "--json": words | st.sampled_from(["--overlap=x", "--detections", "--synaptograms=a.npz", "--nope"]),
}
SOURCES: list[tuple[dict[str, st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]] = [
    (
        {
            "--images": names,
            "--truth": names,
            "--voxel-size-nm": lengths,
            "--max-distance-nm": sometimes(st.just("300")),
        },
        {"--truth": st.just(ABSENT), "--voxel-size-nm": bad_lengths | st.just(ABSENT), "--max-distance-nm": words},
    ),
    (
        {"--images": names, "--truth": names, "--voxel-size-nm": lengths, "--overlap": st.floats(0, 1).map(str)},
        {"--images": st.just(ABSENT), "--overlap": words},
    ),
    (
        {
            "--detections": names,
            "--truth": names,
            "--voxel-size-nm": lengths,
            "--border-nm": sometimes(lengths | st.just("100")),
            **{f"--{axis}-range": simple_ranges for axis in "zyx"},
        },
        {
            "--voxel-size-nm": st.just(ABSENT) | bad_lengths,
            "--border-nm": bad_lengths,
            **{f"--{axis}-range": bad_ranges | st.just(ABSENT) for axis in "zyx"},
        },
    ),
    ({"--synaptograms": names, "--voxel-size-nm": sometimes(lengths)}, {"--voxel-size-nm": bad_lengths}),
]


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    right, wrong = draw(st.sampled_from(SOURCES))
    if draw(st.booleans()):
        return draw(one_of_line({**right, **TOLD}, wrong))
    return draw(one_of_line({**right, **TOLD}, WRONG_TOLD))


def read_line(line: list[str], folder: Path) -> None:
    evaluate_options.request_of(evaluate_options.parser().parse_args(line))


# --- tables -------------------------------------------------------------------------------------------------------

POINTS = ["z", "y", "x", "type", "score", "volume_um3"]
RESULT = ["centroid_z_voxel", "centroid_y_voxel", "centroid_x_voxel", "class", "probability", "in_All"]
MICROMETRES = ["z_um", "y_um", "x_um", "class", "score"]
values = st.floats(0, 9).map(str) | st.integers(0, 9).map(str)
bad_values = words | numbers.map(str) | st.sampled_from(["nan", "inf", "", "1e400", '"'])


@st.composite
def point_tables(draw: st.DrawFn) -> bytes:
    """A table of points: the columns of a form, of which a heading, cell or row is odd, or a column is missing."""
    headings = draw(st.sampled_from([POINTS, RESULT, MICROMETRES]))
    header = [*headings[:3], *draw(st.lists(st.sampled_from(headings[3:]), max_size=3, unique=True))]
    if draw(st.integers(0, 15)) == 9:
        header = header[1:]
    return draw(csv_under(header, values, bad_values, least=1))


def read_points(body: bytes, folder: Path) -> None:
    path = folder / "truth.csv"
    path.write_bytes(body)
    points = truth.read_points(path, (70.0, 100.0, 100.0), scored=True)
    assert np.isfinite(points.centre_um).all()


def run_evaluation(*words_: str) -> Callable[[Any, Path], None]:
    """Return a target that evaluates what was written into its folder."""

    def run(folder: Path) -> None:
        line = [word.replace("FOLDER", str(folder)) for word in words_]
        with mock.patch("sys.stdout", io.StringIO()):
            evaluate._run([*line, "--resamples", "5", "--json"], {})

    return lambda case, folder: (_write(case, folder), run(folder))[1]


def _write(case: dict[str, bytes], folder: Path) -> None:
    for name, body in case.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(body)


both_tables = st.fixed_dictionaries({"found.csv": point_tables(), "truth.csv": point_tables()})
evaluate_tables = run_evaluation(
    *("--detections", "FOLDER/found.csv", "--truth", "FOLDER/truth.csv", "--voxel-size-nm", "70,100,100"),
    *("--z-range", "0,200", "--y-range", "0,200", "--x-range", "0,200", "--border-nm", "5"),
)

# --- volumes ------------------------------------------------------------------------------------------------------

LABELS_SHAPE = (3, 12, 12)


def labels_of(seed: int, dtype: Any, most: int) -> NDArray[Any]:
    """Return labelled cubes."""
    rng = np.random.default_rng(seed)
    voxels = np.zeros(LABELS_SHAPE, dtype)
    for number in range(1, min(most, 4) + 1):
        z, y, x = (int(rng.integers(0, n - 2)) for n in LABELS_SHAPE)
        voxels[z : z + 2, y : y + 3, x : x + 3] = number if most > 1 else 1
    return voxels


labels = st.builds(labels_of, st.integers(0, 99), st.sampled_from([np.uint8, np.uint16, np.int32]), st.integers(0, 4))
bad_labels = (
    labels.map(lambda voxels: voxels[:, :5])
    | labels.map(lambda voxels: voxels.astype(np.float32))
    | labels.map(lambda voxels: -voxels.astype(np.int32))
    | labels.map(lambda voxels: voxels[None, :, None].repeat(2, axis=0))
)
label_files = labels.map(lambda voxels: tiff_of(voxels, {}))
bad_label_files = bad_labels.map(lambda voxels: tiff_of(voxels, {})) | tiff_bodies()


def read_labels(case: bytes | dict[str, bytes], folder: Path) -> None:
    path = folder / "labels.tif"
    if isinstance(case, bytes):
        path.write_bytes(case)
    else:
        path = folder / "labels.zarr"
        write_files(path, case)
    with mock.patch.object(files, "MAX_BYTES", 2**20):
        found = truth.read_labels(path)
    assert (found.ndim, found.dtype) == (3, np.int64)
    assert found.min() >= 0


@cache
def channel(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    spots = labels_of(0, np.uint8, 4) > 0
    return tiff_of(np.where(spots, 200, rng.integers(0, 40, LABELS_SHAPE)).astype(np.uint8), {})


@st.composite
def image_folders(draw: st.DrawFn) -> dict[str, bytes]:
    """A folder of channels and the truth, of which one file is odd, missing or too many in half of the cases."""
    files_ = {
        "images/SYNAPSIN.tif": channel(draw(st.integers(0, 3))),
        "images/PSD95.tif": channel(4),
        "truth.tif": draw(label_files),
    }
    place = draw(st.sampled_from(sorted(files_)))
    match draw(st.sampled_from(["", "", "", "", "odd", "odd", "out", "more"])):
        case "odd":
            files_[place] = draw(bad_label_files | mutated_bytes([files_[place]]))
        case "out":
            files_[place] = b""
        case "more":
            files_[f"images/{draw(names)}.tiff"] = draw(bad_label_files)
            files_["images/PSD95.ome.tif"] = draw(st.just(channel(4)))
    return files_


def evaluate_images(case: dict[str, bytes], folder: Path) -> None:
    for path in [*(folder / "images").glob("*")]:
        path.unlink()
    with mock.patch.object(files, "MAX_BYTES", 2**20):
        _evaluate_images(case, folder)


_evaluate_images = run_evaluation(
    *("--images", "FOLDER/images", "--truth", "FOLDER/truth.tif", "--voxel-size-nm", "70,100,100", "--threads", "1"),
    *("--pipeline", "nomads-unsupervised", "--param", "min_volume_um3=0"),
)

# --- synaptograms -------------------------------------------------------------------------------------------------


@st.composite
def cubes(draw: st.DrawFn) -> dict[str, Any]:
    """The arrays of an archive of synaptograms; one of them is odd in half of the cases."""
    count, sides = draw(st.integers(2, 5)), draw(st.sampled_from([(3, 5, 5), (3, 3, 3), (5, 7, 7)]))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    images = rng.integers(0, 200, (count, 2, *sides)).astype(dtype)
    name = f"images_{np.dtype(dtype).name}"
    right: dict[str, st.SearchStrategy[Any]] = {
        name: st.just(images),
        "channels": st.just(np.array(["SYNAPSIN", "PSD95"])),
        "label": st.just(np.arange(count) % 3),
        "label_names": st.just(np.array(["none", "glut", "gaba"])),
        "centre_float64": sometimes(st.just(rng.normal(100, 9, (count, 2)))),
        "voxel_size_nm": sometimes(st.just(np.array([70.0, 100.0, 100.0]))),
    }
    any_shape = st.lists(st.integers(0, 5), max_size=6).map(tuple)
    other = st.builds(
        lambda shape, kind: np.zeros(shape).astype(kind),
        any_shape,
        st.sampled_from([np.uint8, np.float64, "U3", "S3", np.int64]),
    )
    wrong: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(right, other | st.just(ABSENT)),
        name: other | st.just(images[:, :, 1:]) | st.just(images.astype(np.float32)) | st.just(images[:, :1]),
        "label": st.lists(st.integers(-4, 4), min_size=count, max_size=count).map(np.array) | other,
        "label_names": st.just(np.array(["none", "what", "gaba"])) | other,
        "centre_float64": st.sampled_from([np.full((count, 2), n) for n in (np.nan, np.inf, -1e308, 1e308)]) | other,
        "voxel_size_nm": st.lists(st.floats(), min_size=1, max_size=4).map(np.array) | other,
    }
    return draw(one_wrong(right, wrong))


def npz_of(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@st.composite
def mutated_archives(draw: st.DrawFn) -> bytes:
    """An archive with bytes changed, with something else in it, or that says it is larger than it is."""
    body = npz_of(draw(cubes()))
    match draw(st.sampled_from(["bytes", "bytes", "member", "objects", "size"])):
        case "member":
            file = io.BytesIO(body)
            with zipfile.ZipFile(file, "a") as archive:
                archive.writestr(draw(names), draw(st.binary(max_size=20)))
            return file.getvalue()
        case "objects":
            return npz_of({"images_uint8": np.array([None], object)})
        case "size":
            changed = bytearray(body)
            at = changed.rindex(b"PK\x01\x02")
            struct.pack_into("<I", changed, at + 24, draw(st.integers(0, 2**32 - 1)))
            return bytes(changed)
    return draw(mutated_bytes([body]))


archives = st.one_of(*[cubes().map(npz_of)] * 3, mutated_archives()).map(lambda body: {"cubes.npz": body})
evaluate_cubes = run_evaluation("--synaptograms", "FOLDER/cubes.npz", "--pipeline", "nomads-unsupervised")


@st.composite
def label_zarrs(draw: st.DrawFn) -> dict[str, bytes]:
    found = dict(zarr_files(draw(st.sampled_from([2, 3])), False))
    place = draw(st.sampled_from(sorted(found)))
    found[place] = draw(mutated_bytes([found[place]]))
    return found


TARGETS = [
    Target("evaluation's command line", lines(), quietly(read_line), 4, results=0.25, places=5),
    Target("tables of truth", point_tables(), read_points, 3, results=0.4, places=3),
    Target("tables that are compared", both_tables, evaluate_tables, 3, results=0.35, places=4),
    Target(
        "label volumes",
        label_files | label_files | bad_label_files | label_zarrs(),
        read_labels,
        3,
        results=0.3,
        places=6,
    ),
    Target("folders of images", image_folders(), evaluate_images, 2, results=0.18, places=7),
    Target("synaptograms", archives, evaluate_cubes, 2, results=0.22, places=10),
]
