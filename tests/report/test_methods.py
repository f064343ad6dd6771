"""The methods of the page: a paragraph with the numbers of the run, and snippets that open its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nd_synapse.detection.tissue import Tissue
from nd_synapse.files.multiscale import Labelled, Pyramid
from nd_synapse.job import results
from nd_synapse.job.delivery import _learned
from nd_synapse.job.label_files import write_labels
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.methods import paragraph, snippets
from nd_synapse.report.table import SynapseTable
from tests.report.examples import BOX, FACTS, VOXEL_NM, synapses

RUN = replace(
    FACTS,
    versions={"nd-synapse": "1.2.3"},
    roles={"presynaptic": "SYNAPSIN", "postsynaptic": "PSD95"},
    tissue=Tissue.of_blocks(BOX, [BOX]),
    table_file="synapses.csv",
    mask_files=["mask.ome.tiff"],
)


def test_the_paragraph_has_what_a_reader_needs_to_repeat_the_run() -> None:
    words = paragraph(SynapseTable.of(synapses(1500)), RUN)
    for part in (
        "nd-synapse 1.2.3, pipeline nomads-unsupervised (smallest 31 voxels)",
        "in the channels SYNAPSIN (presynaptic), PSD95 (postsynaptic)",
        "12 \N{MULTIPLICATION SIGN} 200 \N{MULTIPLICATION SIGN} 300 voxels",
        "z 100\N{EN DASH}112, y 1,000\N{EN DASH}1,200, x 2,000\N{EN DASH}2,300",
        "504 \N{MICRO SIGN}m\N{SUPERSCRIPT THREE} (100 %) of it were searched",
        "1,500 objects were detected",
        "1 of 4 pairs of images that lie next to each other are displaced by no more than 300 nm",
    ):
        assert part in words


def test_the_paragraph_has_the_strictness_that_an_automatic_one_came_to() -> None:
    run = replace(RUN, parameters={"strictness": "auto", "punctum_nm": "auto"}, finding={"strictness": "1.890625"})
    assert "(strictness auto, 1.890625; punctum_nm auto)" in paragraph(SynapseTable.of(synapses(9)), run)


def test_a_table_alone_says_that_it_has_no_record() -> None:
    assert "without a record of its detection" in paragraph(SynapseTable.of(synapses(3)), RunFacts())
    assert snippets(RunFacts()) == []


def test_the_snippets_open_the_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros(BOX.shape, np.uint8)
    mask[3, 4:6, 5] = 255
    results.write_mask(tmp_path, "mask", mask, voxel_size_nm=VOXEL_NM, box=BOX, description="")
    ids = (mask // 255).astype(np.uint32)
    image = Labelled(tmp_path / ".work", ("synapses",), ids.dtype, Pyramid(BOX, VOXEL_NM))
    write_labels(tmp_path, image, "synapses", {"synapses": mask}, ids)
    monkeypatch.chdir(tmp_path)
    codes = dict(snippets(RUN))
    assert 'pandas.read_csv("synapses.csv")' in codes["The table, in pandas"]
    names: dict[str, Any] = {}
    exec(codes["Mask and labels, in Python"], names)
    np.testing.assert_array_equal(names["mask"], mask)
    np.testing.assert_array_equal(names["labels"], mask // 255)
    assert "translate=(7000, 100000, 200000)" in codes["Mask and labels, in napari"]
    # a mask that is too large for a TIFF
    exec(dict(snippets(replace(RUN, mask_files=["synapses.ome.zarr"])))["Mask and labels, in Python"], names)
    np.testing.assert_array_equal(names["mask"][:], mask)


def test_what_was_learned_is_in_words_and_without_digests_and_long_tables() -> None:
    finding = {
        "punctum_nm:presynaptic": 500.0,
        "padding": {"PSD95": [0], "SYNAPSIN": [0, 255]},
        "padded_regions": "9f71bab82350e540",
        "levels:psd95": {"levels": list(range(200))},
        "least_level:psd95": 3,
    }
    assert _learned(finding) == {
        "width of a punctum (nm), presynaptic": "500.0",
        "grey values of padding": "PSD95 0, SYNAPSIN 0, 255",
        "levels of contrast, psd95": "too long for a page; in run.json",
        "least level, psd95": "3",
    }
