"""Synaptograms: small cubes around puncta, each with an expert's label, and how well a pipeline's scores agree.

A cube has one score a mask, the largest in its central 3 x 3 x 3 voxels; no object is detected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse.blocks.grid import mirrored
from nd_synapse.detection.choice import learn, scores
from nd_synapse.detection.counts import add_all_counts, packed_counts
from nd_synapse.errors import DataError, called
from nd_synapse.evaluate.metrics import Rate, area_under_roc, balanced_accuracy, bootstrap
from nd_synapse.files.formats import refuse_foreign
from nd_synapse.files.reading import reading
from nd_synapse.files.slabs import check_voxel_size
from nd_synapse.geometry import Box
from nd_synapse.pipeline.contract import Pipeline, Place, Summary

__all__ = [
    "Answer",
    "ClassRule",
    "SynaptogramEvaluation",
    "Synaptograms",
    "evaluate_synaptograms",
    "read_synaptograms",
    "score_cubes",
]

ASSUMED_VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
"""Voxel size where a file has none: that of the published sets."""

RESAMPLES = 2000

_KINDS = {"none": ("none", "non"), "excitatory": ("glut", "exc"), "inhibitory": ("gaba", "inh")}
_IMAGES = ("images_uint8", "images_uint16")


@dataclass(frozen=True, slots=True, eq=False)
class Synaptograms:
    """Cubes and what they are."""

    images: NDArray[Any]
    """uint8 or uint16, shape (n, channels, z, y, x); the extents of a cube are odd and at least 3."""
    channels: tuple[str, ...]
    kind: NDArray[np.str_]
    """``none``, ``excitatory`` or ``inhibitory``, shape (n,)."""
    voxel_size_nm: tuple[float, float, float]

    def __len__(self) -> int:
        """Return the number of cubes."""
        return len(self.images)


@dataclass(frozen=True, slots=True)
class Answer:
    """How well a mask's score answers a question."""

    mask: str
    question: str
    """Which cubes are positive: ``any`` synapse, ``excitatory`` or ``inhibitory``, against all others."""
    positives: int
    negatives: int
    area: Rate
    """Area under the ROC curve."""
    accuracy: Rate
    """Balanced accuracy of calling positive what scores above 0; NaN where no score or every score is above 0."""


@dataclass(frozen=True, slots=True)
class ClassRule:
    """How often the larger of the scores of `Glut` and `Gaba` gives the type of a true synapse."""

    accuracy: Rate
    """Share that is right; equal scores count as wrong."""
    majority: float
    """Share of the more frequent type."""
    synapses: int


@dataclass(frozen=True, slots=True, eq=False)
class SynaptogramEvaluation:
    """Scores of synaptograms and their agreement with the labels."""

    roles: dict[str, str]
    scores: dict[str, NDArray[np.float64]]
    """Mask to the score of each cube, shape (n,)."""
    answers: tuple[Answer, ...]
    """One for each mask and question that has cubes on both sides."""
    class_rule: ClassRule | None
    """By scores summed over the central voxels, as a classifier sums over an object; None without both scores."""
    class_rule_of_peaks: ClassRule | None
    """By the largest scores."""


def read_synaptograms(path: Path, voxel_size_nm: tuple[float, float, float] | None = None) -> Synaptograms:
    """Read synaptograms."""
    with reading(path):
        stored = _arrays(path)
        images = _images(path, stored)
        names = _texts(stored["label_names"])
        label = stored["label"]
        if label.shape != (len(images),) or label.dtype.kind not in "iu" or not np.isin(label, range(len(names))).all():
            raise DataError(str(path), f"its label is not {len(images)} indices of label_names", "Correct label")
        kind = np.array([_kind(path, name) for name in names], np.str_)[label]
        size = _voxel_size(path, stored) or voxel_size_nm or ASSUMED_VOXEL_SIZE_NM
        if voxel_size_nm is not None:
            check_voxel_size(str(path), size, voxel_size_nm)
    return Synaptograms(images, tuple(_texts(stored["channels"])), kind, size)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an archive that have a meaning here."""
    wanted = f"Give an archive (.npz) with {' or '.join(_IMAGES)}, channels, label and label_names"
    if path.is_dir():
        raise DataError(str(path), "it is a folder", wanted)
    with path.open("rb") as file:
        head = file.read(4)
    if head != b"PK\3\4":
        try:
            refuse_foreign(path)
        except DataError as error:
            raise DataError(str(path), error.found, wanted) from error
        kind = "one array (.npy)" if head == b"\x93NUM" else "no archive of arrays"
        raise DataError(str(path), f"it is {kind}", wanted)
    with np.load(path, allow_pickle=False) as archive:
        missing = [name for name in ("channels", "label", "label_names") if name not in archive.files]
        if missing or not set(_IMAGES) & set(archive.files):
            found = f"it holds {', '.join(sorted(archive.files)) or 'nothing'}"
            raise DataError(str(path), found, wanted)
        stored: dict[str, NDArray[Any]] = {}
        for name in (*_IMAGES, "channels", "label", "label_names", "voxel_size_nm", "centre_float64"):
            if name in archive.files:
                with reading(f"{name} of {path}"):
                    stored[name] = archive[name]
    return stored


def _texts(values: NDArray[Any]) -> list[str]:
    """Return texts of any type of text."""
    return [str(value) for value in values.reshape(-1).astype(np.str_)]


def _voxel_size(path: Path, stored: Mapping[str, NDArray[Any]]) -> tuple[float, float, float] | None:
    """Return the voxel size that an archive states."""
    size = stored.get("voxel_size_nm")
    if size is None:
        return None
    try:
        z, y, x = (float(extent) for extent in size.reshape(-1))
    except (ValueError, TypeError):
        z = y = x = np.nan
    if not (np.isfinite((z, y, x)).all() and min(z, y, x) > 0):
        raise DataError(str(path), f"its voxel_size_nm is {size.tolist()}", "Give three sizes in nanometres: z, y, x")
    return z, y, x


def _images(path: Path, stored: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the cubes (n, channels, z, y, x) with their centres restored."""
    name = next(name for name in _IMAGES if name in stored)
    images = stored[name]
    dtype = np.dtype(name.removeprefix("images_"))
    sides = images.shape[2:]
    if images.dtype != dtype or len(sides) != 3 or any(n < 3 or n % 2 == 0 for n in sides) or not len(images):
        found = f"{name} is {images.dtype} of the shape {images.shape}"
        raise DataError(str(path), found, f"Give {dtype} (n, channel, z, y, x), extents odd and at least 3")
    if stored["channels"].size != images.shape[1]:
        found = f"it names {stored['channels'].size} channels and holds {images.shape[1]}"
        raise DataError(str(path), found, "Name each channel")
    centre = stored.get("centre_float64")
    if centre is None:
        return images
    if centre.dtype.kind not in "fiu" or centre.shape != images.shape[:2] or not np.isfinite(centre).all():
        found = f"centre_float64 is {centre.dtype} of the shape {centre.shape}, or has NaN"
        raise DataError(str(path), found, "Give (n, channel) numbers")
    rebuilt = images.copy()
    middle = tuple(n // 2 for n in sides)
    rebuilt[(slice(None), slice(None), *middle)] = np.clip(np.rint(centre), 0, np.iinfo(dtype).max)
    return rebuilt


def _kind(path: Path, name: str) -> str:
    """Return what a label means."""
    for kind, beginnings in _KINDS.items():
        if name.lower().startswith(beginnings):
            return kind
    wanted = ", ".join(f"{'... or '.join(beginnings)}..." for beginnings in _KINDS.values())
    raise DataError(f"label {name!r} of {path}", "its meaning is not known", f"Name labels {wanted}")


def score_cubes(
    pipeline: Pipeline, synaptograms: Synaptograms, chosen: Mapping[str, str] | None = None
) -> tuple[dict[str, str], dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Score each cube by each mask that the pipeline grades: roles, largest scores (n,) and their sums (n,) by mask.

    Scores are those of the central 3 x 3 x 3 voxels. The pipeline learns from the counts of all cubes together, then
    grades each as a volume of its own, mirrored at its borders.
    """
    roles = pipeline.choose(synaptograms.channels, dict(chosen or {}))
    z, y, x = synaptograms.images.shape[2:]
    place = Place((0, 0, 0), (z, y, x), (z, y, x), synaptograms.voxel_size_nm)
    box, halo = Box.of_shape(place.shape), pipeline.halo(place.voxel_size_nm)
    position = {role: synaptograms.channels.index(channel) for role, channel in roles.items()}

    def arrays(cube: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {role: mirrored(cube[channel], box, halo) for role, channel in position.items()}

    summary: Summary = {}
    for cube in synaptograms.images:
        add_all_counts(summary, packed_counts(pipeline.summarise(arrays(cube), place)))
    finding = learn(pipeline, summary, roles)
    graded = [scores(pipeline, arrays(cube), finding, place) for cube in synaptograms.images]
    if not graded[0]:
        raise DataError(f"scores of {pipeline.name}", "it grades no voxels", "Choose a pipeline that has scores")
    middle = tuple(slice(n // 2 - 1, n // 2 + 2) for n in place.shape)
    largest = {name: np.array([float(one[name][middle].max()) for one in graded]) for name in graded[0]}
    sums = {name: np.array([float(one[name][middle].sum(dtype=np.float64)) for one in graded]) for name in graded[0]}
    return roles, largest, sums


@called()
def evaluate_synaptograms(
    pipeline: Pipeline,
    synaptograms: Synaptograms,
    chosen: Mapping[str, str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SynaptogramEvaluation:
    """Score cubes and compare the scores with their labels; `resamples` and `seed` are of the bootstrap."""
    roles, scores, sums = score_cubes(pipeline, synaptograms, chosen)
    answers = compare(scores, synaptograms.kind, resamples, seed)
    rules = [class_rule(by, synaptograms.kind, resamples, seed) for by in (sums, scores)]
    return SynaptogramEvaluation(roles, scores, answers, *rules)


def compare(
    scores: Mapping[str, NDArray[np.float64]], kind: NDArray[np.str_], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Answer, ...]:
    """Compare scores (n,) by mask with the types (n,): any synapse against none, and each type against the rest.

    Questions for which all cubes are on one side are left out.
    """
    questions = {"any": kind != "none", "excitatory": kind == "excitatory", "inhibitory": kind == "inhibitory"}
    answers = []
    for mask, score in scores.items():
        above = score > 0
        for question, positive in questions.items():
            if positive.all() or not positive.any():
                continue
            area = bootstrap(partial(area_under_roc, score, positive), positive, resamples, seed)
            accuracy = Rate(np.nan, np.nan, np.nan)
            if above.any() and not above.all():
                accuracy = bootstrap(partial(balanced_accuracy, above, positive), positive, resamples, seed)
            positives = int(np.count_nonzero(positive))
            answers.append(Answer(mask, question, positives, len(positive) - positives, area, accuracy))
    return tuple(answers)


def class_rule(
    scores: Mapping[str, NDArray[np.float64]], kind: NDArray[np.str_], resamples: int = RESAMPLES, seed: int = 0
) -> ClassRule | None:
    """Compare the type with the larger score, `Glut` or `Gaba`, with the types (n,) of true synapses.

    None where a score is missing or the synapses are all of one type.
    """
    inhibitory = kind[kind != "none"] == "inhibitory"
    if not {"Glut", "Gaba"} <= set(scores) or inhibitory.all() or not inhibitory.any():
        return None
    difference = (scores["Gaba"] - scores["Glut"])[kind != "none"]
    right = np.where(inhibitory, difference > 0, difference < 0).astype(np.float64)

    def accuracy(weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
        weights = np.ones((1, len(right))) if weight is None else weight
        share: NDArray[np.float64] = weights @ right / weights.sum(axis=1)
        return share

    share = float(inhibitory.mean())
    return ClassRule(bootstrap(accuracy, inhibitory, resamples, seed), max(share, 1 - share), len(right))
