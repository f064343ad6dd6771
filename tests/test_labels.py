"""The labels of a run: the ids of the table beside the mask, as an OME-Zarr that depends on the result alone."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import driver
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.outcome import Detection
from nd_synapse.errors import LimitError, NDSynapseError, StorageError
from nd_synapse.files import masks as mask_files
from nd_synapse.files import multiscale
from nd_synapse.files.halving import halved
from nd_synapse.files.multiscale import Labelled, Pyramid
from nd_synapse.files.zarr_shards import array_metadata, chunks_of, packed
from nd_synapse.geometry import Box
from nd_synapse.job.label_files import write_labels
from nd_synapse.job.labels import compare_labels
from nd_synapse.job.leftovers import clear_results
from nd_synapse.job.manifest import read_run_file
from nd_synapse.pipeline import registry
from tests.volumes_on_disk import SIZE_NM, write
from tests.volumes_with_puncta import SHAPE, blobs, run, write_blobs

STEM = "nomads-unsupervised-predictions"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blobs(tmp_path_factory.mktemp("labels") / "volume.zarr")


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a part of the volume that begins nowhere in particular."""
    return run(source, tmp_path_factory.mktemp("made"), "--z-range", "1,7", "--y-range", "5,70", "--x-range", "8,90")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "synapses.csv").read_text().splitlines()))


def write_labelled(folder: Path, mask: Any, ids: Any, pyramid: Pyramid) -> None:
    image = Labelled(folder, ("synapses",), ids.dtype, pyramid)
    image.create("mask")
    for shard in image.shards(0):
        image.write_finest(shard, {"synapses": mask}, ids)
    for level in range(1, len(pyramid.factors())):
        # any order will do
        for shard in reversed(image.shards(level)):
            image.write_coarser(level, shard)


def digests(folder: Path) -> dict[str, str]:
    inside = folder / "synapses.ome.zarr"
    files = (path for path in inside.rglob("*") if path.is_file())
    return {str(path.relative_to(inside)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def found_in(folder: Path) -> tuple[str, bool]:
    file = read_run_file(folder)
    names = file.masks
    return compare_labels(
        folder, list(names), lambda name: mask_files.map_pickle(folder / f"{names[name]}.pkl", file.box.shape)
    )


def test_a_voxel_of_the_mask_has_the_id_of_its_row(made: Path) -> None:
    box = read_run_file(made).box
    group = zarr.open_group(made / "synapses.ome.zarr", mode="r")
    ids: Any = group["labels/synapses/0"]
    assert ids.dtype == np.uint32
    voxels = ids[:]
    mask = mask_files.map_pickle(made / f"{STEM}.pkl", box.shape)
    table = rows(made)
    assert len(table) > 20
    np.testing.assert_array_equal(voxels != 0, mask != 0)
    np.testing.assert_array_equal(group["0"][:], mask)  # type: ignore[index] # an array
    for row in table:
        places = np.argwhere(voxels == int(row["id"]))
        assert len(places) == int(row["voxels"])
        centre = [float(row[f"centroid_{axis}_voxel"]) for axis in "zyx"]
        np.testing.assert_allclose(places.mean(axis=0) + box.start, centre, atol=1e-3)


def test_the_image_lies_where_the_source_does(made: Path) -> None:
    """The centre of voxel i of the volume is i times its size, at every level, as in the source."""
    said = json.loads((made / "synapses.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    (scales,) = said["multiscales"]
    assert said["version"] == "0.5"
    assert [(axis["name"], axis["unit"]) for axis in scales["axes"]] == [(axis, "nanometer") for axis in "zyx"]
    first = {one["type"]: one[one["type"]] for one in scales["datasets"][0]["coordinateTransformations"]}
    assert first == {"scale": list(SIZE_NM), "translation": [70.0, 500.0, 800.0]}
    labels = json.loads((made / "synapses.ome.zarr/labels/synapses/zarr.json").read_text())["attributes"]["ome"]
    assert labels["image-label"]["source"] == {"image": "../../"}
    assert labels["multiscales"][0]["datasets"] == scales["datasets"]


@pytest.mark.parametrize("size", ["4,32,32", "3,29,90"])
def test_blocks_do_not_show_in_any_file(made: Path, source: Path, tmp_path: Path, size: str) -> None:
    box = ["--z-range", "1,7", "--y-range", "5,70", "--x-range", "8,90"]
    other = run(source, tmp_path, *box, "--block-size", size, "--cpus", "1")
    assert digests(other) == digests(made)


def test_each_class_has_a_label_image_with_the_ids_of_the_one_table(tmp_path: Path) -> None:
    pre, post = blobs().values()
    rng = np.random.default_rng(7)
    other = rng.poisson(12, SHAPE).astype(np.uint8)
    write(
        "ome05.zarr",
        tmp_path / "v.zarr",
        {"SYNAPSIN": pre, "PSD95": post, "VGLUT1": pre, "GABA": other, "gephyrin": other},
    )
    folder = run(tmp_path / "v.zarr", tmp_path / "made", "--pipeline", "nomads-classifier")
    said = json.loads((folder / "synapses.ome.zarr/labels/zarr.json").read_text())["attributes"]["ome"]
    masks = list(read_run_file(folder).masks)
    assert said["labels"] == ["synapses", *masks[1:]]
    assert len(masks) > 1
    assert len(rows(folder)) > 0
    assert found_in(folder) == (found_in(folder)[0], True)


def test_a_run_without_synapses_has_labels_of_zeros_alone(tmp_path: Path) -> None:
    folder = run(write_blobs(tmp_path / "v.zarr"), tmp_path / "made", "--param", "min_voxels=500")
    assert rows(folder) == []
    assert found_in(folder) == ("0 ids in 1 label images have the voxels of table and masks", True)


def test_a_mask_that_is_too_large_for_files_of_its_own_is_in_the_labels_and_verified(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mask_files, "MOST_VOXELS", 1000)
    folder = run(source, tmp_path)
    assert not list(folder.glob("*.pkl")) + list(folder.glob("*.tiff"))
    assert driver.main(["verify", str(folder), "--quiet", "--sample", "1"]) == 0
    found = capsys.readouterr().out
    assert f"{len(rows(folder))} ids in 1 label images" in found
    assert "1 of 1 parts computed again: 0 voxels differ" in found
    array = zarr.open_array(folder / "synapses.ome.zarr/labels/synapses/0", mode="r+")
    voxels: Any = array[:]
    array[:] = np.where(voxels == 3, 0, voxels)
    assert driver.main(["verify", str(folder), "--quiet", "--sample", "0"]) == 65
    assert "the image and the mask differ in" in capsys.readouterr().out
    shard = next(path for path in (folder / "synapses.ome.zarr/labels/synapses/0/c").rglob("*") if path.is_file())
    shard.write_bytes(shard.read_bytes()[:-8])
    assert driver.main(["verify", str(folder), "--quiet", "--sample", "1"]) == 65
    damaged = capsys.readouterr().out
    assert ("BAD  sample" in damaged, damaged.count("the file is damaged")) == (True, 2)


class TestVerify:
    """What `nd-synapse verify` finds wrong with labels."""

    def labels(self, folder: Path) -> Any:
        return zarr.open_array(folder / "synapses.ome.zarr/labels/synapses/0", mode="r+")

    def test_an_id_that_became_another(self, folder: Path) -> None:
        array = self.labels(folder)
        voxels = array[:]
        n = np.count_nonzero(voxels == 1)
        array[:] = np.where(voxels == 1, 2, voxels)
        text, good = found_in(folder)
        assert not good
        assert text.startswith(f"labels synapses: 2 ids have other numbers of voxels than the table: 1 has 0, not {n}")

    def test_a_voxel_outside_of_the_mask(self, folder: Path) -> None:
        array = self.labels(folder)
        z, y, x = np.argwhere(array[:] == 0)[0]
        array[z, y, x] = 1
        text, good = found_in(folder)
        assert not good
        assert "labels synapses and the mask differ in 1 voxels" in text

    def test_an_image_that_is_not_the_mask(self, folder: Path) -> None:
        array = zarr.open_array(folder / "synapses.ome.zarr/0", mode="r+")
        array[:] = 0
        assert "the image and the mask differ in" in found_in(folder)[0]

    @pytest.mark.parametrize("name", ["labels/synapses/0/c/0/0/0", "labels/synapses/0/zarr.json", "zarr.json"])
    def test_a_file_that_is_damaged_or_missing(
        self, folder: Path, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        (folder / "synapses.ome.zarr" / name).write_bytes(b"damaged")
        assert driver.main(["verify", str(folder), "--offline", "--quiet"]) == 65
        first = capsys.readouterr().out.splitlines()[0]
        assert first == f"BAD  files   changed: synapses.ome.zarr/{name}"


# the levels


@settings(max_examples=60, deadline=None)
@given(
    voxels=hnp.arrays(np.uint32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7)),
    steps=st.tuples(*[st.sampled_from((1, 2))] * 3),
)
def test_halving_takes_the_largest_id_of_each_window(voxels: np.ndarray, steps: tuple[int, int, int]) -> None:
    found = halved(voxels, steps)
    assert found.shape == tuple(-(-n // step) for n, step in zip(voxels.shape, steps, strict=True))
    for index in np.ndindex(found.shape):
        window = tuple(slice(i * step, (i + 1) * step) for i, step in zip(index, steps, strict=True))
        assert found[index] == voxels[window].max()


@pytest.mark.parametrize(
    ("shape", "size", "factors"),
    [
        ((4, 512, 512), (70, 100, 100), [(1, 1, 1)]),
        ((4, 513, 20), (70, 100, 100), [(1, 1, 1), (2, 2, 2)]),
        ((9, 3000, 100), (70, 4, 4), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        (
            (9, 20000, 900),
            (70, 10, 10),
            [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 16, 16), (8, 32, 32), (16, 64, 64)],
        ),
        ((1, 1, 2000), (70, 4, 100), [(1, 1, 1), (1, 1, 2), (1, 1, 4)]),
    ],
)
def test_thick_sections_stay_whole_until_voxels_are_isotropic(
    shape: tuple[int, int, int], size: tuple[float, float, float], factors: list[tuple[int, int, int]]
) -> None:
    assert Pyramid(Box.of_shape(shape), size).factors() == factors


def test_a_level_is_halved_from_the_one_before_it_across_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiscale, "CHUNK", (2, 8, 8))
    monkeypatch.setattr(multiscale, "SHARD", (4, 16, 16))
    monkeypatch.setattr(multiscale, "_PLANE", 20)
    rng = np.random.default_rng(2)
    ids = (rng.integers(1, 2**31, (9, 70, 45)) * (rng.random((9, 70, 45)) < 0.05)).astype(np.uint32)
    mask = (ids != 0) * np.uint8(255)
    pyramid = Pyramid(Box.of_shape(ids.shape, (1, 2, 3)), (70.0, 50.0, 50.0))
    write_labelled(tmp_path / "x.zarr", mask, ids, pyramid)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    levels = [np.asarray(group[f"labels/synapses/{level}"]) for level in range(3)]
    assert levels[0].tobytes() == ids.tobytes()
    for level, beyond in ((1, ((1, 0), (0, 0), (1, 0))), (2, ((0, 1), (1, 0), (1, 0)))):
        # windows begin at even voxels of the volume
        np.testing.assert_array_equal(levels[level], halved(np.pad(levels[level - 1], beyond), (2, 2, 2)))
        np.testing.assert_array_equal(np.asarray(group[str(level)]) != 0, levels[level] != 0)
    said: Any = group.attrs["ome"]
    second = said["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert second == [
        {"type": "scale", "scale": [140.0, 100.0, 100.0]},
        {"type": "translation", "translation": [35.0, 125.0, 125.0]},
    ]


def test_a_run_that_was_killed_over_its_labels_goes_on_to_the_same_bytes(
    made: Path, source: Path, tmp_path: Path
) -> None:
    """What it left is its own, whether it has its name by then or not."""
    folder = Path(shutil.copytree(made, tmp_path / made.name))
    (folder / "run.json").unlink()
    (folder / "synapses.ome.zarr/labels/synapses/0/c/0/0/0").write_bytes(b"")
    shutil.copytree(folder / "synapses.ome.zarr", folder / ".work/synapses.ome.zarr")
    run(source, tmp_path, "--z-range", "1,7", "--y-range", "5,70", "--x-range", "8,90")
    assert digests(folder) == digests(made)
    assert not (folder / ".work").exists()


def test_the_folder_of_an_earlier_run_goes_with_its_files(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / made.name))
    clear_results(folder, [STEM])
    assert [path.name for path in folder.iterdir()] == ["job.log"]


def test_what_is_kept_of_unpacked_blocks_is_bounded_and_each_is_read_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.detection.labels._KEPT_BYTES", 4000)
    found = detect_arrays(registry.build("nomads-unsupervised", {}), blobs(), SIZE_NM, block_size=(4, 32, 32))
    labels = np.asarray(found.labels)
    assert labels.dtype == np.uint32
    blocks: Any = found.labels._read
    assert 0 < blocks._kept_bytes <= 4000 + 1024 + 8 * 4 * 32 * 32
    assert len(blocks._kept) < 18
    np.testing.assert_array_equal(np.bincount(labels.ravel())[1:], found.table["voxels"])


class Recording:
    """A volume that keeps the largest part that was read of it."""

    def __init__(self, voxels: np.ndarray) -> None:
        self.voxels, self.dtype, self.shape, self.most = voxels, voxels.dtype, voxels.shape, 0

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        part = self.voxels[index]
        self.most = max(self.most, part.size)
        return part.copy()


def test_no_more_than_a_shard_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiscale, "CHUNK", (2, 8, 8))
    monkeypatch.setattr(multiscale, "SHARD", (4, 16, 16))
    ids = (np.random.default_rng(2).random((9, 70, 45)) < 0.05).astype(np.uint32)
    labels, mask = Recording(ids), Recording(ids.astype(np.uint8) * np.uint8(255))
    pyramid = Pyramid(Box.of_shape(ids.shape), (70.0, 50.0, 50.0))
    write_labelled(tmp_path / "x.zarr", mask, labels, pyramid)
    assert labels.most == mask.most == 4 * 16 * 16


# shards


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dtype=st.sampled_from((np.uint8, np.uint32, np.uint64)))
def test_an_array_has_the_bytes_that_zarr_writes(data: st.DataObject, dtype: type) -> None:
    """For any part of a shard that a volume fills, and however many of its chunks are of zeros."""
    shard, chunk = (4, 12, 8), (2, 4, 4)
    shape = data.draw(st.tuples(*(st.integers(1, n) for n in shard)))
    voxels = data.draw(hnp.arrays(dtype, shape, fill=st.just(0)))
    store = zarr.storage.MemoryStore()
    codec = zarr.codecs.ZstdCodec(level=3)
    form: Any = {"shape": shape, "dtype": dtype, "chunks": chunk, "shards": shard, "dimension_names": tuple("zyx")}
    array = zarr.create_array(store, compressors=codec, **form)
    array[:] = voxels
    assert array_metadata(shape, dtype, shard, chunk) == store._store_dict["zarr.json"].to_bytes()
    written = store._store_dict.get("c/0/0/0")
    body = packed(voxels, shard, chunk)
    assert body == (None if written is None else written.to_bytes())
    whole: np.ndarray = np.zeros(shard, dtype)
    for place, part in [] if body is None else chunks_of(body, shard, chunk, dtype):
        whole[place.slices()] = part
    np.testing.assert_array_equal(whole[Box.of_shape(shape).slices()], voxels)
    assert np.count_nonzero(whole) == np.count_nonzero(voxels)


# many shards, in workers


class Drawn:
    """A volume that is drawn from a seed wherever it is read, or does something else there."""

    def __init__(self, shape: tuple[int, int, int], dtype: type, fault: str = "") -> None:
        self.shape, self.dtype, self.fault = shape, np.dtype(dtype), fault

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "memory":
            raise MemoryError
        if self.fault == "damaged":
            raise StorageError("reading a block", "it is damaged", "Remove the scratch folder")
        if self.fault:
            raise ValueError(self.fault)
        rng = np.random.default_rng([part.start for part in index])
        inside = rng.random([part.stop - part.start for part in index]) < 0.02
        # numpy.uint8 is for masks
        return inside * np.uint8(255) if self.dtype == np.uint8 else (inside * rng.integers(1, 2**31)).astype(np.uint32)


SHARDS = (40, 600, 520)


def written(folder: Path, workers: int, fault: str = "") -> dict[str, str]:
    masks = {"synapses": Drawn(SHARDS, np.uint8)}
    pyramid = Pyramid(Box.of_shape(SHARDS, (3, 1, 7)), (50.0, 50.0, 50.0))
    folder.mkdir()
    image = Labelled(folder / ".work/x", tuple(masks), np.dtype(np.uint32), pyramid)
    steps = list[tuple[int, int]]()
    write_labels(
        *(folder, image, "mask", masks, Drawn(SHARDS, np.uint32, fault), workers),
        lambda step, done, total, note="": steps.append((done, total)),
    )
    # the finest level, and one of half as many voxels along each axis
    assert steps == [(done, 9) for done in range(10)]
    assert not list((folder / ".work").iterdir())
    return digests(folder)


@pytest.fixture
def in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nd_synapse.job.label_files._FEW_SHARDS", 0)


@pytest.mark.usefixtures("in_workers")
def test_workers_write_the_bytes_that_one_process_writes(tmp_path: Path) -> None:
    alone = written(tmp_path / "alone", 1)
    assert len([name for name in alone if name.startswith("labels/synapses/0/c/")]) == 8
    assert [name for name in alone if name.startswith("labels/synapses/1/c/")]
    assert written(tmp_path / "two", 2) == alone


@pytest.mark.usefixtures("in_workers")
def test_what_a_worker_cannot_write_is_named(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, limits[1]))
    try:
        with pytest.raises(StorageError, match=rf"writing synapses.ome.zarr in {tmp_path}/made: File too large"):
            written(tmp_path / "made", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "made/synapses.ome.zarr").exists()


@pytest.mark.usefixtures("in_workers")
@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("dies", LimitError, "writing shard .*by SIGKILL.* if it lacks memory, give it more, or fewer --cpus"),
        ("memory", LimitError, "writing synapses.ome.zarr in .*memory"),
        ("damaged", StorageError, "reading a block: it is damaged. Remove the scratch folder"),
        ("defect", NDSynapseError, "writing shard .*ValueError: defect. Please report this defect"),
    ],
)
def test_a_shard_that_no_worker_can_write_ends_the_run(
    tmp_path: Path, fault: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        written(tmp_path / "made", 2, fault)


def test_workers_get_the_names_of_blocks_and_no_list_of_them(source: Path, tmp_path: Path) -> None:
    sizes = {}

    def note(detection: Detection) -> None:
        volumes = (detection.labels, *detection.masks.values())
        np.asarray(detection.labels)  # what was read is not sent
        sizes[detection.blocks] = len(cloudpickle.dumps(volumes))
        for volume, again in zip(volumes, pickle.loads(cloudpickle.dumps(volumes)), strict=True):
            np.testing.assert_array_equal(np.asarray(again), np.asarray(volume))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nd_synapse.job.delivery.write_files", lambda outcome, *others: note(outcome.detection))
        for size in ("12,64,96", "3,16,16"):
            run(source, tmp_path / size, "--block-size", size, "--no-plots")
    few, many = sizes.values()
    assert min(sizes) * 10 < max(sizes)
    assert max(few, many) < 20_000
    assert abs(few - many) < 200
