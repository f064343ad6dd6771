"""What the page holds for its script: the library as it was published, the rows, a sample without bias, the voxels."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nd_synapse.report import interactive as module
from nd_synapse.report.interactive import MOST_ROWS, interactive, marked_rows, script
from nd_synapse.report.interactive_voxels import MOST_BYTES
from tests.report import examples

VENDOR = Path(module.__file__).parent / "vendor"
PUBLISHED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""SHA-256 of the files of uPlot 1.6.32 on npm."""
TYPES = {"u1": "u1", "u2": "<u2", "u4": "<u4", "i4": "<i4", "f4": "<f4", "f8": "<f8"}


def of(table, **more):
    images, masks = examples.volumes(dict(table))
    subject = examples.subject(table, images=images, masks=masks, **more)
    return replace(subject, overviews={name: image.max(axis=0) for name, image in images.items()})


def data_of(subject):
    """Return the values that the script reads."""
    elements = interactive(subject).script
    return json.loads(elements[elements.index(">") + 1 : elements.index("</script>")])


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["data"]), TYPES[packed["type"]])


def sheet(address):
    """Return an image of a data address, (y, x)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def section(image, number, across, shape):
    """Cut one section out of a sheet, as the script does."""
    tall, wide = (-(-extent // 8) * 8 for extent in shape)
    top, left = number // across * tall, number % across * wide
    return image[top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_library_is_the_one_that_was_published(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_the_script_has_the_licence_of_the_library_and_cannot_end_its_element():
    text, digest = script()
    assert "Permission is hereby granted" in text
    assert "</script" not in text
    assert "<!--" not in text
    assert digest == "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_names_of_the_data_cannot_end_the_element_of_the_data():
    table = examples.synapses(40, ("</script><script>alert(1)</script>", "<!--"))
    elements = interactive(examples.subject(table)).script
    assert elements.count("</script>") == 2
    assert "<!--" not in elements


def test_the_same_table_gives_the_same_bytes():
    table = examples.two_populations(300)
    assert interactive(of(table)) == interactive(of(table))


def test_every_column_comes_back_from_the_page():
    table = examples.two_populations(300)
    data = data_of(of(table))
    for column in data["columns"]:
        assert numbers(column) == pytest.approx(table[column["name"]].astype(float), rel=1e-6)
    for axis, place in zip("zyx", data["places"], strict=True):
        assert numbers(place) == pytest.approx(table[f"centroid_{axis}_voxel"], abs=0.006)


def test_a_column_of_many_texts_is_no_class():
    names = np.array([f"row {i}" for i in range(50)])
    for values, held in ((names, False), (names[np.arange(50) % 40], True)):
        data = data_of(examples.subject({**examples.synapses(50), "class": values}))
        assert ("class" in [column["name"] for column in data["columns"]]) == held


def test_of_a_long_table_the_page_holds_a_random_sample_and_the_rows_of_the_viewer(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 200)
    data = data_of(of(examples.synapses(3000)))
    rows = numbers(data["rows"]).astype(int)
    assert data["sample"] == 200
    assert len(set(rows)) == len(rows) > 200
    assert 0.3 < rows[:200].mean() / 3000 < 0.7
    assert max(data["marks"]) < 200, "only the random ones are offered for marking"


def test_a_million_rows_take_little_space():
    table = examples.synapses(1_000_000)
    found = interactive(examples.subject(table))
    assert found.rows <= MOST_ROWS
    assert len(found.script) < 1_500_000


def test_each_row_is_offered_for_marking_equally_often():
    places = [np.zeros(50)] * 3
    often = np.bincount(np.concatenate([marked_rows(places, seed)[:10] for seed in range(2000)]), minlength=50)
    assert often / 2000 == pytest.approx(np.full(50, 0.2), abs=0.035)
    places[1] = np.where(np.arange(50) == 7, np.nan, 0)
    assert 7 not in marked_rows(places, 0)


def test_the_viewer_holds_the_voxels_and_the_masks_of_its_part():
    table = examples.synapses(500)
    images, masks = examples.volumes(table)
    held = data_of(of(table))["voxels"]
    assert held["shape"] == list(examples.BOX.shape)
    assert held["start"] == list(examples.BOX.start)
    one, shape = held["channels"][0], held["shape"][1:]
    grey = (images[one["name"]][3].astype(float) - one["low"]) / (one["high"] - one["low"])
    shown = section(sheet(one["part"]), 3, held["across"], shape) / 255
    assert np.abs(shown - grey.clip(0, 1)).mean() < 0.03
    assert (section(sheet(held["partMasks"]), 3, held["across"], shape) == (masks["synapses"][3] != 0)).all()


def test_the_synaptograms_to_mark_are_centred_on_their_synapses():
    data = data_of(of(examples.synapses(500)))
    held, depth = data["voxels"], data["voxels"]["window"][0]
    near = sheet(held["nearMasks"])
    for place, row in enumerate(data["marks"]):
        middle = section(near, place * depth + depth // 2, held["nearAcross"], held["window"][1:])
        assert middle[middle.shape[0] // 2, middle.shape[1] // 2], row


def test_a_large_volume_stays_within_the_bytes_of_the_page():
    """Noise compresses worst."""
    noise = {name: np.random.default_rng(1).integers(0, 65535, (20, 900, 900), np.uint16) for name in "abcd"}
    held = data_of(examples.subject(examples.synapses(100), images=noise))["voxels"]
    used = sum(len(channel[kind]) for channel in held["channels"] for kind in ("part", "near"))
    assert used <= MOST_BYTES * 4 / 3 + 100 * len(noise)


def test_searched_channels_come_first_and_are_shown():
    facts = replace(examples.FACTS, roles={"marker": "GABA"})
    channels = data_of(of(examples.synapses(50), facts=facts))["voxels"]["channels"]
    assert [channel["name"] for channel in channels] == ["GABA", "SYNAPSIN", "PSD95"]
    assert [channel["shown"] for channel in channels] == [True, False, False]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((12, 200, 300)),
        np.full((12, 200, 300), np.nan),
        np.arange(12 * 200 * 300).reshape(12, 200, 300) % 3 == 0,
        np.random.default_rng(0).random((12, 200, 300)) * 1e-40,
        np.random.default_rng(0).random((12, 200, 300)).astype(np.float32) * np.float32(3e38),
        np.arange(15, dtype=np.uint64).reshape(1, 3, 5) << np.uint64(59),
    ],
    ids=["constant", "no numbers", "bool", "tiny", "huge", "15 voxels"],
)
def test_unusual_images_have_a_viewer(image):
    assert interactive(examples.subject(examples.synapses(60), images={"a": image})).viewer


def test_a_defect_of_the_viewer_does_not_cost_the_report(monkeypatch, caplog):
    monkeypatch.setattr(module, "voxels_of", lambda *_: 1 / 0)
    found = interactive(of(examples.synapses(60)))
    assert (found.viewer, found.why) == (False, "ZeroDivisionError: division by zero")
    assert "the viewer of the page failed" in caplog.text


def test_a_table_alone_has_no_viewer_and_nothing_to_mark():
    found = interactive(examples.subject(examples.synapses(50)))
    assert not found.viewer
    assert not found.marks
    assert "table alone" in found.why


@pytest.mark.parametrize(
    "table",
    [
        {"a": np.array([1.0, 2.0, np.nan])},
        {"a": np.array([2.0**60, -1e30, 5])},
        {"id": np.array([2**53 + 1]), "class": np.array(["x"])},
        {"a": np.array([], float), "class": np.array([], "U3")},
        {
            "centroid_z_um": np.arange(3.0),
            "centroid_y_um": np.arange(3.0),
            "centroid_x_um": np.arange(3.0),
            "a": [1, 2, 3],
        },
    ],
    ids=["one column", "large numbers", "large ids", "empty", "micrometres"],
)
def test_unusual_tables_have_their_data(table):
    data = data_of(examples.subject({name: np.asarray(values) for name, values in table.items()}))
    assert all(len(numbers(column)) == data["n"] for column in data["columns"])
