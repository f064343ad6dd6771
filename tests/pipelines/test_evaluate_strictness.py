"""``nd-synapse evaluate`` on labels gives the strictness to use, from one image or many."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from nd_synapse.cli.evaluate import main
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Parameter, Place, Summary
from tests.pipelines.strict import Strict

SIZE = ("--voxel-size-nm", "100,100,100")
BEST = 8.0
"""Of what is planted: synapses are 80 to 120 grey levels bright, other things 20 to 79."""


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.factory
    monkeypatch.setattr(registry, "factory", lambda name: Strict if name == "strict" else known(name))


def write_image(folder: Path, number: int, synapses: int = 12, side: int = 64) -> tuple[Path, Path]:
    """Write a TIFF with synapses and three times as many other things, each in one pixel, and the labels."""
    rng = np.random.default_rng(number)
    places = 3 * np.stack(np.mgrid[1 : side // 3, 1 : side // 3], axis=-1).reshape(-1, 2)  # type: ignore[call-overload] # mgrid is an array
    places = places[rng.permutation(len(places))[: 4 * synapses]]
    image = np.zeros((1, side, side), np.uint8)
    image[0, *places.T] = np.where(
        np.arange(4 * synapses) < synapses, rng.integers(80, 120, 4 * synapses), rng.integers(20, 80, 4 * synapses)
    )
    files = folder / f"image{number:02d}.tif", folder / f"labels{number:02d}.csv"
    tifffile.imwrite(files[0], image, photometric="minisblack")
    with files[1].open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("z", "y", "x"), *((0, *place) for place in places[:synapses].tolist())])
    return files


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([*map(str, words), *SIZE, "--json", "--resamples", "100"]) == 0, capsys.readouterr().err
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return parsed


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    folder = tmp_path_factory.mktemp("labelled")
    files = [write_image(folder, number) for number in range(20)]
    return [image for image, _ in files], [labels for _, labels in files]


def test_twenty_labelled_images_give_the_planted_strictness(
    labelled: tuple[list[Path], list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    """And the default, which is too permissive for these labels, is what is evaluated besides."""
    images, labels = labelled
    shown = evaluate(capsys, "--pipeline", "strict", "--images", *images, "--truth", *labels)
    advice = shown["advice"]
    assert advice["strictness"]["value"] == pytest.approx(BEST, abs=0.2)
    assert advice["strictness"]["low"] <= BEST + 0.1
    assert advice["strictness"]["high"] >= BEST
    assert advice["precision"]["value"] > 0.95
    assert advice["recall"]["value"] > 0.95
    assert (advice["synapses"], advice["tiles"]) == (240, 20)
    assert shown["synapses"] == 240
    assert shown["precision"]["value"] < 0.5
    assert shown["recall"]["value"] == 1


def test_what_is_advised_gives_what_is_expected_on_other_images(
    labelled: tuple[list[Path], list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = labelled
    advice = evaluate(capsys, "--pipeline", "strict", "--images", *images, "--truth", *labels)["advice"]
    strictness = f"strictness={advice['strictness']['value']:.3g}"
    fresh = [write_image(tmp_path, number) for number in range(100, 120)]
    images, labels = ([pair[side] for pair in fresh] for side in (0, 1))
    real = evaluate(capsys, "--pipeline", "strict", "--param", strictness, "--images", *images, "--truth", *labels)
    for name in ("precision", "recall", "f1"):
        assert advice[name]["low"] - 0.02 <= real[name]["value"] <= advice[name]["high"] + 0.02


def test_no_strictness_is_advised_where_objects_merge_at_a_lower_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores of one object that fills the image tell nothing of the many that a higher strictness finds."""
    image, labels = write_image(tmp_path, 1, synapses=100, side=128)
    tifffile.imwrite(image, np.maximum(tifffile.imread(image), 20)[None], photometric="minisblack")
    words = ["--pipeline", "strict", "--images", str(image), "--truth", str(labels), *SIZE]
    assert evaluate(capsys, *words[:-2])["advice"] is None
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Strictness: none is advised; " in printed
    assert "and 1 of those at a lower one have at least that score" in printed


def test_an_automatic_strictness_is_printed_and_does_not_prevent_the_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.data_sets import synthetic

    images, truths = [], []
    for name, markers in (("dim partners", ("GAD", "gephyrin")), ("sample", ("Synapsin", "PSD95"))):
        volume = synthetic(name, (16, 256, 256))
        images.append(tmp_path / name)
        images[-1].mkdir()
        for role, marker in zip(("Synapsin", "PSD95"), markers, strict=True):
            tifffile.imwrite(images[-1] / f"{role}.tif", volume.channels[marker], photometric="minisblack")
        truths.append(tmp_path / f"{name}.csv")
        wanted = volume.synapses.excitatory == (name == "sample")
        with truths[-1].open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("z_um", "y_um", "x_um"), *volume.synapses.centre_um[wanted].tolist()])
    words = ["--images", *images, "--truth", *truths, "--voxel-size-nm", "70,100,100", "--resamples", "100"]
    assert main([*map(str, words), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    raised, least = shown["strictness"]
    assert raised > least == 1.6
    assert shown["advice"] is not None
    assert main([str(word) for word in words]) == 0
    assert f"Strictness that it found: 1.6 to {raised}." in capsys.readouterr().out


@dataclass(frozen=True, slots=True)
class Automatic(Strict):
    """Chooses a strictness in `detect`, where nobody sees it."""

    strictness: float | str = "auto"  # type: ignore[assignment] # a number in Strict
    says: ClassVar[Finding] = {}

    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("strictness", "auto", "tens", "least brightness", minimum=0.0, usual=5.0),
    )

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        del summary, channels
        return self.says

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        chosen = 5.0 if isinstance(self.strictness, str) else self.strictness
        return Strict(chosen).detect(arrays, finding, place)


@pytest.mark.parametrize("says", [{}, {"strictness": "middle"}])
def test_an_automatic_strictness_that_is_not_learned_is_refused(
    says: Finding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Automatic, "says", says)
    monkeypatch.setattr(registry, "factory", lambda _: Automatic)
    image, labels = write_image(tmp_path, 1)
    words = ["--pipeline", "strict", "--images", str(image), "--truth", str(labels), *SIZE]
    assert main(words) == 65
    assert "strictness=auto of strict: it does not say which strictness that is" in capsys.readouterr().err
    assert main([*words, "--param", "strictness=5"]) == 0


@dataclass(frozen=True, slots=True)
class Whole(Strict):
    """Takes whole grey levels."""

    strictness: int = 50

    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("strictness", 50, "grey levels", "least brightness", minimum=0),
    )

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        return Strict(self.strictness / 10).detect(arrays, finding, place)

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        del finding
        return Chosen({"All": np.ones(len(objects["voxels"]), np.bool_)}, {"score": objects["max_level"]})


def test_a_strictness_of_whole_numbers_is_advised_as_one(
    labelled: tuple[list[Path], list[Path]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "factory", lambda _: Whole)
    images, labels = (list(map(str, files)) for files in labelled)
    words = ["--pipeline", "strict", "--images", *images, "--truth", *labels, *SIZE, "--resamples", "100"]
    assert main(words) == 0
    (advised,) = re.findall(r"use --param (strictness=\S+) \(", capsys.readouterr().out)
    assert main([*words, "--param", advised]) == 0
    assert 78 <= int(advised.removeprefix("strictness=")) <= 82


def test_what_is_advised_lies_in_its_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing lies between noise and synapses the shortest number is below all scores of these."""
    files = [write_image(tmp_path, number) for number in range(6)]
    for image, _ in files:
        voxels = tifffile.imread(image)
        tifffile.imwrite(image, np.where(voxels > 79, voxels + 3, voxels // 2)[None], photometric="minisblack")
    images, labels = ([pair[side] for pair in files] for side in (0, 1))
    found = evaluate(capsys, "--pipeline", "strict", "--images", *images, "--truth", *labels)["advice"]["strictness"]
    assert found["low"] <= found["value"] <= found["high"]


@pytest.mark.parametrize("order", [(0, 2, 1), (0, 1, 1)], ids=["x and y swapped", "on the diagonal"])
def test_no_strictness_is_advised_where_points_match_as_random_ones_do(
    order: tuple[int, int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = write_image(tmp_path, 1, synapses=40, side=256)
    rows = list(csv.reader(labels.read_text().splitlines()))[1:]
    with labels.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("z", "y", "x"), *([row[k] for k in order] for row in rows)])
    words = ["--pipeline", "strict", "--images", str(image), "--truth", str(labels), *SIZE]
    assert evaluate(capsys, *words[:-2])["advice"] is None
    assert main(words) == 0
    assert "Strictness: none is advised; " in (printed := capsys.readouterr().out)
    assert "pairs are no more than the" in printed


def test_where_nothing_is_found_the_truth_is_not_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, labels = write_image(tmp_path, 1)
    words = ["--pipeline", "strict", "--images", str(image), "--truth", str(labels), *SIZE]
    assert main([*words, "--param", "strictness=25"]) == 0
    assert "points at random" not in capsys.readouterr().out


def test_one_image_is_cut_into_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, labels = write_image(tmp_path, 1, synapses=100, side=128)
    out = tmp_path / "out"
    shown = evaluate(capsys, "--pipeline", "strict", "--images", image, "--truth", labels, "--out", out)
    assert shown["advice"]["tiles"] == 16
    assert shown["advice"]["strictness"]["value"] == pytest.approx(BEST, abs=0.2)
    assert (out / "strictness.png").read_bytes().startswith(b"\x89PNG")


def test_outlines_serve_as_well_as_points(
    labelled: tuple[list[Path], list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The labels are objects of a volume or a mask; a pair shares a voxel."""
    images, outlines = labelled[0][:6], []
    for image in images:
        outlines.append(tmp_path / image.name)
        mask = (tifffile.imread(image) >= 80).astype(np.uint8)
        tifffile.imwrite(outlines[-1], mask.reshape(1, *mask.shape[-2:]), photometric="minisblack")
    advice = evaluate(capsys, "--pipeline", "strict", "--images", *images, "--truth", *outlines)["advice"]
    assert advice["strictness"]["value"] == pytest.approx(BEST, abs=0.3)
    assert advice["synapses"] == 72


def test_the_printout_is_what_to_type(
    labelled: tuple[list[Path], list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = ([str(path) for path in side[:3]] for side in labelled)
    words = ["--pipeline", "strict", "--images", *images, "--truth", *labels, *SIZE, "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Strictness: use --param strictness=8" in printed
    assert "From 36 labelled synapses in 27 tiles of 3 images" in printed
    assert "Nothing below" not in printed
    assert len(printed.splitlines()) <= 40
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "precision_recall.png",
        "strictness.png",
        *(f"{number:03d}" for number in range(1, 4)),
    }


def test_an_image_without_synapses_counts_its_false_alarms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write_image(tmp_path, number) for number in range(2)]
    empty = tmp_path / "none.csv"
    empty.write_text("z,y,x\n", encoding="utf-8")
    shown = evaluate(
        *(capsys, "--pipeline", "strict", "--images", files[0][0], files[1][0], "--truth", files[0][1], empty)
    )
    assert shown["synapses"] == 12
    assert shown["false_alarms"] > 12


def test_the_table_of_a_run_with_a_strictness_gives_the_advice(
    labelled: tuple[list[Path], list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its run.json says by what pipeline it was made; a table from elsewhere has no strictness."""
    from nd_synapse.cli import evaluate as command

    voxels = tifffile.imread(labelled[0][0])[0]
    table = tmp_path / "synapses.csv"
    y, x = np.nonzero(voxels >= 40)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["centroid_z_um", "centroid_y_um", "centroid_x_um", "score"])
        writer.writerows((0, a / 10, b / 10, voxels[a, b] / 10) for a, b in zip(y.tolist(), x.tolist(), strict=True))
    words = ("--detections", table, "--truth", labelled[1][0])
    assert "advice" not in evaluate(capsys, *words)
    box = Box.of_shape((1, *voxels.shape))
    monkeypatch.setattr(command, "read_run_file", lambda folder: SimpleNamespace(pipeline="strict", box=box))
    assert evaluate(capsys, *words)["advice"]["strictness"]["value"] == pytest.approx(BEST, abs=0.6)
    ranges = ("--z-range", "0,1", "--y-range", "0,32", "--x-range", "0,64")
    half = evaluate(capsys, *words, *ranges)
    assert half["detections"] == np.count_nonzero(voxels[:32] >= 40)
    box = Box.of_shape((1, 32, 64))
    assert evaluate(capsys, *words) == half, "the box of the run"
    assert evaluate(capsys, "--detections", tmp_path, *words[2:]) == half, "its folder"


def test_a_low_end_that_was_reached_is_pointed_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A strictness that is given is the lowest that is tried only if it is below a quarter of the default."""
    image, labels = write_image(tmp_path, 1)
    voxels = tifffile.imread(image)
    everything = tmp_path / "all.csv"
    y, x = np.nonzero(voxels[0] if voxels.ndim == 3 else voxels)
    rows = "".join(f"0,{a},{b}\n" for a, b in zip(y, x, strict=True))
    everything.write_text(f"z,y,x\n{rows}", encoding="utf-8")
    del labels
    assert main(["--pipeline", "strict", "--images", str(image), "--truth", str(everything), *SIZE]) == 0
    assert "Nothing below 2" in capsys.readouterr().out


@pytest.mark.parametrize(("images", "labels"), [(2, 1), (1, 2)])
def test_images_and_truths_are_pairs(
    images: int, labels: int, labelled: tuple[list[Path], list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--images", *map(str, labelled[0][:images]), "--truth", *map(str, labelled[1][:labels]), *SIZE]
    assert main(words) == UsageError.exit_code
    assert f"{images} inputs and {labels} truths" in capsys.readouterr().err
