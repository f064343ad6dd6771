"""Detection by contrast in dark depths: width, unit and strictness are what the documents say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nd_synapse.detection.in_memory import Found, detect_arrays
from nd_synapse.errors import UnknownNameError, UsageError
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.listing import described
from pipelines import widths
from pipelines.evidence import EvidencePipeline
from pipelines.nomads_unsupervised import NomadsUnsupervised
from pipelines.puncta import Puncta
from tests.pipelines.variants import VOXEL_SIZE_NM, same

SHAPE = (3, 160, 160)


def blobs(sigma: float, shape: tuple[int, int, int] = SHAPE, count: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    """Gaussian blobs of all sections, with shot noise on a background of 20."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[1], : shape[2]]
    plane = np.full(shape[1:], 20.0)
    for _ in range(count):
        cy, cx = rng.uniform(0, shape[1]), rng.uniform(0, shape[2])
        plane += rng.uniform(40, 80) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return np.minimum(rng.poisson(plane, shape), 255).astype(np.uint8)


def detected(pipeline: EvidencePipeline, voxels: Mapping[str, NDArray[Any]], **options: Any) -> Found:
    return detect_arrays(pipeline, voxels, VOXEL_SIZE_NM, **options)


@pytest.mark.parametrize(("sigma", "pixels"), [(1.2, 3), (2.2, 5), (3.2, 7)])
def test_the_width_of_puncta_is_measured(sigma: float, pixels: int) -> None:
    """A box answers most to a Gaussian about 0.45 times as wide."""
    finding = detected(Puncta(), {"one": blobs(sigma)}).finding
    assert finding["punctum_nm:marker"] == pixels * 100


def test_sizes_in_whole_numbers_change_nothing() -> None:
    assert detect_arrays(Puncta(), {"one": blobs(2.2)}, (70, 99, 99)).finding["punctum_nm:marker"] == 5 * 99


def test_binned_images_give_the_same_width_in_nanometres() -> None:
    fine = blobs(4.4, (3, 320, 320), 40)
    coarse = fine.reshape(3, 160, 2, 160, 2).mean((2, 4)).astype(np.uint8)
    of_fine = detect_arrays(Puncta(), {"one": fine}, (70.0, 50.0, 50.0)).finding["punctum_nm:marker"]
    of_coarse = detect_arrays(Puncta(), {"one": coarse}, (70.0, 100.0, 100.0)).finding["punctum_nm:marker"]
    assert abs(of_fine - of_coarse) <= 100


def test_a_given_width_is_taken_as_it_is() -> None:
    assert detected(Puncta(punctum_nm=500), {"one": blobs(1.2)}).finding["punctum_nm:marker"] == 500


def test_numbers_of_numpy_are_taken_as_numbers() -> None:
    found = detected(Puncta(strictness=np.int64(2), punctum_nm=np.int64(500)), {"one": blobs(1.2)})  # type: ignore[arg-type] # as notebooks have them
    plain = detected(Puncta(strictness=2.0, punctum_nm=500.0), {"one": blobs(1.2)})
    assert found.finding == plain.finding
    assert np.array_equal(found.masks["All"], plain.masks["All"])


@pytest.mark.parametrize("text", ["wide", "-300", "nan", "0", "1e9"])
def test_a_width_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="punctum_nm"):
        registry.build("puncta", {"punctum_nm": text})


def test_the_unit_of_a_number_that_may_be_automatic_is_not_that_of_auto() -> None:
    assert "(default auto, in dark depths)" in described("puncta")
    assert "(default 0.0 um^3)" in described("puncta")


def test_candidates_are_odd_numbers_of_pixels_with_one_more_at_each_end() -> None:
    assert widths.candidates((70.0, 100.0, 100.0)) == (100, 300, 500, 700, 900)


def test_gain_and_offset_of_a_channel_change_nothing() -> None:
    """The unit is the channel's own: another exposure, bit depth or black level gives the same synapses and scores."""
    one, two = blobs(1.2, seed=1), blobs(1.2, seed=1)[:, ::-1].copy()[:, ::-1]
    as_they_are = detected(NomadsUnsupervised(), {"synapsin": one, "psd95": two})
    changed = detected(
        NomadsUnsupervised(),
        {"synapsin": one.astype(np.uint16) * 16 + 1000, "psd95": two.astype(np.uint16) * 64},
    )
    assert np.array_equal(as_they_are.masks["All"], changed.masks["All"])
    assert np.allclose(as_they_are.table["score"], changed.table["score"], rtol=0.02)


@pytest.mark.parametrize("above", [None, 0, 1])
def test_keeping_scores_is_what_the_strictness_does(above: int | None) -> None:
    """Also at a detection's score, and one step of its six digits above."""
    voxels = {"one": blobs(1.2, seed=2)}
    loose = detected(Puncta(strictness=1.0), voxels)
    scores = np.array([float(str(score)) for score in loose.table["score"]])
    middle = float(np.sort(scores)[len(scores) // 2])
    strictness = 4.0 if above is None else round(middle + above * 10 ** (math.floor(math.log10(middle)) - 5), 6)
    strict = detected(Puncta(strictness=strictness), voxels)
    kept = scores >= strictness
    assert 0 < np.count_nonzero(kept) < len(kept)
    assert np.array_equal(loose.table["score"][kept], strict.table["score"])


def test_a_strictness_above_the_usual_leaves_objects_as_they_are() -> None:
    """So the number to which a strictness was raised gives the same masks when it is given."""
    voxels = {"one": blobs(1.2, seed=2)}
    usual, strict = (detected(Puncta(strictness=strictness), voxels) for strictness in (1.6, 4.0))
    kept = 1 + np.flatnonzero(usual.table["score"] >= 4.0)
    assert 0 < len(kept) < len(usual.table["id"])
    assert np.array_equal(np.isin(usual.labels, kept), strict.masks["All"] > 0)


def test_two_markers_add_their_evidence_and_none_stands_in_for_another() -> None:
    """The root of 2 times one marker's evidence where both are equal; never twice that of the weaker one."""
    one = blobs(1.2, seed=3)
    alone = detected(Puncta(strictness=1.0), {"one": one}).table["score"].max()
    both = detected(NomadsUnsupervised(strictness=1.0), {"synapsin": one, "psd95": one}).table["score"].max()
    assert both == pytest.approx(2**0.5 * alone, rel=0.02)
    empty = np.random.default_rng(9).poisson(20, SHAPE).astype(np.uint8)
    assert len(detected(NomadsUnsupervised(), {"synapsin": one, "psd95": empty}).table["id"]) < 5


def test_for_any_blocks_the_result_is_the_same_also_where_only_some_rows_are_sampled() -> None:
    voxels = {"one": blobs(1.5, (4, 300, 200), 80)}
    whole = detected(Puncta(), voxels)
    same(whole, detected(Puncta(), voxels, block_size=(3, 47, 61)))


@pytest.mark.parametrize("size", [(1, 65, 97), (3, 21, 160)])
def test_for_any_blocks_two_markers_of_different_widths_give_the_same(size: tuple[int, int, int]) -> None:
    """Each marker has its own windows, whose halos differ; so has what is cut from a block for each."""
    narrow, wide = blobs(1.2, seed=1), blobs(3.2, seed=1)
    for strip in (narrow, wide):
        strip[1, :20] = 0
    for voxels in ({"synapsin": narrow, "psd95": wide}, {"synapsin": wide, "psd95": narrow}):
        whole = detected(NomadsUnsupervised(), voxels, block_size=SHAPE, scores=True)
        of_sides = {whole.finding[f"punctum_nm:{side}"] for side in ("presynaptic", "postsynaptic")}
        assert of_sides == {300, 700}
        assert len(whole.table["id"]) > 20
        assert whole.tissue.fraction < 1
        same(whole, detected(NomadsUnsupervised(), voxels, block_size=size, scores=True))


def test_noise_alone_has_few_puncta_and_fewer_synapses() -> None:
    """Tissue has about one synapse in a cubic micrometre."""
    one, two = np.random.default_rng(0).poisson(30, (2, 8, 200, 200)).astype(np.uint8)
    cubic_um = one.size * np.prod(VOXEL_SIZE_NM) / 1e9
    assert len(detected(Puncta(), {"one": one}).table["id"]) <= 3
    assert len(detected(NomadsUnsupervised(), {"synapsin": one, "psd95": two}).table["id"]) < 0.02 * cubic_um


def test_the_only_channel_is_the_marker_and_of_several_it_must_be_named() -> None:
    assert Puncta().choose(["PSD95"], {}) == {"marker": "PSD95"}
    assert Puncta().choose(["PSD95", "SYNAPSIN"], {"marker": "SYNAPSIN"}) == {"marker": "SYNAPSIN"}
    with pytest.raises(UnknownNameError, match="--channels marker="):
        Puncta().choose(["PSD95", "SYNAPSIN"], {})
