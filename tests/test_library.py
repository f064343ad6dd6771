"""Synapses in arrays, in one call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import driver
import nd_synapse
from nd_synapse.errors import DataError, NDSynapseError, UnknownNameError, UsageError
from nd_synapse.files.csv_tables import write_csv
from pipelines.puncta import Puncta
from tests.conftest import REPOSITORY
from tests.fixtures_boss import blobs
from tests.markdown import fenced, section
from tests.pipelines.strict import Strict

README = REPOSITORY / "README.md"
VOXEL_SIZE = (70.0, 100.0, 100.0)


@pytest.fixture(scope="module")
def images() -> dict[str, NDArray[Any]]:
    return dict(sorted(blobs((10, 96, 96), seed=3, number=30).items()))


def test_a_call_finds_what_a_job_finds(images: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "volume.zarr", mode="w")
    for name, voxels in images.items():
        group.create_array(name, data=voxels, dimension_names=("z", "y", "x"))
    _, mask, _ = driver.driver(
        source=tmp_path / "volume.zarr", voxel_size_nm=VOXEL_SIZE, path=tmp_path / "results", cpus=1
    )

    found = nd_synapse.detect(images, VOXEL_SIZE)

    with (tmp_path / "table.csv").open("wb") as file:
        write_csv(file, found.table)
    (table,) = (tmp_path / "results").glob("*/synapses.csv")
    assert len(found.table["id"]) > 5
    assert (tmp_path / "table.csv").read_text() == table.read_text()
    np.testing.assert_array_equal(found.mask, mask)
    (run,) = (tmp_path / "results").glob("*/run.json")
    assert found.share_by_chance == json.loads(run.read_text())["chance"]["share"]
    assert repr(found) == f"<Result: {len(found.table['id'])} synapses in (10, 96, 96) voxels (z, y, x)>"


def test_the_example_of_the_readme_runs(images: dict[str, NDArray[Any]]) -> None:
    (program,) = fenced(section(README, "In Python"))

    exec(program, {"synapsin": images["SYNAPSIN"], "psd95": images["PSD95"]})


def test_a_call_says_the_strictness_that_it_found(images: dict[str, NDArray[Any]]) -> None:
    assert nd_synapse.detect(images, VOXEL_SIZE).finding["strictness"] == 1.6
    assert nd_synapse.detect(images, VOXEL_SIZE, parameters={"strictness": 3}).finding["strictness"] == 3


@pytest.mark.parametrize("size", [[70, 100, 100], np.array([70, 100, 100])], ids=["list", "array"])
def test_a_voxel_size_is_any_sequence(images: dict[str, NDArray[Any]], size: Any) -> None:
    np.testing.assert_array_equal(nd_synapse.detect(images, size).mask, nd_synapse.detect(images, VOXEL_SIZE).mask)


def bright(channels: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return channels["PSD95"] > 100


def test_a_function_is_a_pipeline(images: dict[str, NDArray[Any]]) -> None:
    found = nd_synapse.detect(images, VOXEL_SIZE, bright)

    np.testing.assert_array_equal(found.mask == 255, images["PSD95"] > 100)


def test_a_function_without_a_name_in_its_module_is_refused(images: dict[str, NDArray[Any]]) -> None:
    with pytest.raises(UnknownNameError, match="<lambda>"):
        nd_synapse.detect(images, VOXEL_SIZE, lambda channels: channels["PSD95"] > 100)


def test_mask_labels_and_table_tell_of_the_same_synapses(images: dict[str, NDArray[Any]]) -> None:
    found = nd_synapse.detect(images, VOXEL_SIZE, threads=1)

    assert found.labels.dtype == np.uint32
    np.testing.assert_array_equal(found.labels > 0, found.mask == 255)
    np.testing.assert_array_equal(np.bincount(found.labels.ravel())[1:], found.table["voxels"])
    assert list(found.masks) == ["All"]


def test_pipelines_are_given_by_name_with_parameters_or_as_objects(images: dict[str, NDArray[Any]]) -> None:
    one = {"PSD95": images["PSD95"]}

    named = nd_synapse.detect(one, VOXEL_SIZE, "puncta", parameters={"strictness": 3})
    built = nd_synapse.detect(one, VOXEL_SIZE, Puncta(strictness=3.0))

    np.testing.assert_array_equal(named.mask, built.mask)
    assert named.mask.any()
    assert not nd_synapse.detect(one, VOXEL_SIZE, "puncta", parameters={"strictness": 8}).mask.any()


def test_roles_are_given_where_names_do_not_decide(images: dict[str, NDArray[Any]]) -> None:
    unnamed = {"a": images["SYNAPSIN"], "b": images["PSD95"]}

    found = nd_synapse.detect(unnamed, VOXEL_SIZE, channels={"presynaptic": "a", "postsynaptic": "b"})

    np.testing.assert_array_equal(found.mask, nd_synapse.detect(images, VOXEL_SIZE).mask)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"images": np.zeros((2, 3, 4), np.uint8)}, UsageError, "dictionary of channel to array"),
        ({"images": {}}, UsageError, "dictionary of channel to array"),
        ({"images": {"PSD95": np.zeros((2, 3, 4), np.float32)}}, DataError, "uint8 or uint16"),
        ({"images": {"PSD95": np.zeros((3, 4), np.uint8)}}, DataError, "one shape z, y, x"),
        ({"voxel_size_nm": (0, 1, 1)}, UsageError, "along z, y, x"),
        ({"voxel_size_nm": 100}, UsageError, "voxel_size_nm=100: it is not three numbers"),
        ({"voxel_size_nm": (70, 100, "a")}, UsageError, "it is not three numbers"),
        ({"voxel_size_nm": "70,100,100"}, UsageError, "it is not three numbers"),
        ({"pipeline": "nomads"}, UnknownNameError, "Correct pipeline"),
        ({"parameters": {"strict": 1}}, UsageError, "Correct the name in parameters"),
        ({"pipeline": Puncta(), "parameters": {"strictness": 1}}, UsageError, "built already"),
        ({"pipeline": 3}, UsageError, "pipeline: its type is int. Give the name of one"),
        ({"pipeline": Puncta}, UsageError, r"it is the class Puncta .* Give Puncta\(\)"),
        ({"pipeline": Strict(-1.0)}, UsageError, "the smallest value is 0.0"),
    ],
)
def test_what_cannot_be_used_is_refused_in_terms_of_the_arguments(
    images: dict[str, NDArray[Any]], arguments: dict[str, Any], kind: type[NDSynapseError], words: str
) -> None:
    given: dict[str, Any] = {"images": images, "voxel_size_nm": VOXEL_SIZE, **arguments}

    with pytest.raises(kind, match=words):
        nd_synapse.detect(**given)


def test_importing_the_package_imports_no_large_library() -> None:
    code = "import sys, nd_synapse; print(nd_synapse.__version__, 'numpy' in sys.modules)"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert shown.stdout.split()[1] == "False"


def test_a_detection_imports_no_more_than_it_uses() -> None:
    """NumPy's masked arrays, and the tests that come with Blosc, take a worker a third of its start."""
    code = """
import sys
import numpy as np
import nd_synapse
image = np.random.default_rng(1).integers(0, 255, (8, 64, 64), np.uint8)
nd_synapse.detect({"Synapsin": image, "PSD95": image}, voxel_size_nm=(70, 100, 100))
print(*sorted({"numpy.ma", "scipy", "zarr"} & set(sys.modules)))
"""

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert shown.stdout.split() == []
