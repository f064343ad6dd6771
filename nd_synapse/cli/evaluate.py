"""``nd-synapse evaluate``: compares a pipeline, or the table of a run, with truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse import logs
from nd_synapse.cli.evaluate_options import Request, parser, request_of
from nd_synapse.console import app
from nd_synapse.errors import DataError, NDSynapseError, StorageError, UsageError, closest
from nd_synapse.evaluate import printout, truth
from nd_synapse.evaluate.detections import Detections, run_pipeline
from nd_synapse.evaluate.evaluation import Evaluation, evaluate_labels, evaluate_points
from nd_synapse.evaluate.inputs import Volumes
from nd_synapse.evaluate.synapses import Extent, Synapses, synapses_of_labels
from nd_synapse.evaluate.synaptograms import ASSUMED_VOXEL_SIZE_NM, evaluate_synaptograms, read_synaptograms
from nd_synapse.files.atomic import replacing
from nd_synapse.geometry import Box
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline
from nd_synapse.text import describe_error

__all__ = ["main"]


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """What is printed and written."""

    text: str
    figures: Mapping[str, Any]
    files: Mapping[str, bytes]


def _volume(request: Request) -> _Report:
    """Run a pipeline on images and compare it with the truth."""
    assert request.images is not None
    assert request.voxel_size_nm is not None
    pipeline = registry.build(request.pipeline, request.parameters)
    volumes = Volumes(request.images)
    # only the channels that the pipeline uses are read
    roles = pipeline.choose(list(volumes), request.channels)
    channels = {name: _image(name, volumes[name]) for name in dict.fromkeys(roles.values())}
    shape = next(iter(channels.values())).shape
    extent = Extent(Box.of_shape(shape), request.voxel_size_nm)
    # read before the work, so that a mistake in it shows at once
    points, labels = _truth(request, extent)
    mask = request.mask or pipeline.masks[0]
    with _failing_as_data(pipeline):
        found = run_pipeline(
            pipeline, channels, request.voxel_size_nm, mask, chosen=request.channels, threads=request.threads
        )
    evaluation = _matched(request, points, labels, found, extent)
    size = " x ".join(f"{nm:g}" for nm in request.voxel_size_nm)
    voxels = " x ".join(map(str, shape))
    subject = f"{pipeline.name}, mask {mask}, on {request.images}\n"
    subject += f"({voxels} voxels of {size} nm; {_assigned(roles)}), against {_named_truth(request)}"
    if found.scored_by and evaluation.curve is not None:
        subject += f"\nScore of a detection: {found.scored_by}."
    name, first = next(iter(channels.items()))
    return _report(
        request, evaluation, subject, (name, first.max(axis=0)), {"pipeline": _pipeline(pipeline, mask, roles)}
    )


@contextmanager
def _failing_as_data(pipeline: Pipeline) -> Iterator[None]:
    """Raise what a pipeline raises, `SystemExit` too, as a DataError, as a job does."""
    try:
        yield
    except (NDSynapseError, KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:
        raise DataError(f"{pipeline.name} on these images", describe_error(error), "Correct the pipeline") from error


def _matched(
    request: Request, points: Synapses, labels: NDArray[np.int64] | None, found: Detections, extent: Extent
) -> Evaluation:
    """Match by the requested rule, or by the default for this kind of truth."""
    if labels is not None and request.max_distance_nm is None:
        return evaluate_labels(
            labels, found.labels, extent, request.overlap or 0.0, scores=found.scores, border_nm=request.border_nm
        )
    if request.overlap is not None:
        raise UsageError(f"--overlap with {request.truth}", "points have no extent", "Give --max-distance-nm")
    return evaluate_points(points, found.synapses, request.distance_nm, extent=extent, border_nm=request.border_nm)


def _truth(request: Request, extent: Extent) -> tuple[Synapses, NDArray[np.int64] | None]:
    """Read the truth: points, and labels where it is a volume."""
    assert request.truth is not None
    if not truth.is_table(request.truth):
        labels = truth.read_labels(request.truth)
        if labels.shape != extent.box.shape:
            found = f"it has {labels.shape} voxels (z, y, x), and the images have {extent.box.shape}"
            raise DataError(str(request.truth), found, "Give the truth of the same box")
        _no_types(request)
        return synapses_of_labels(labels, extent.voxel_size_nm)[0], labels
    return truth.within(_points(request), extent, request.distance_nm, f"points in {request.truth}"), None


def _points(request: Request) -> Synapses:
    """Read the points of the truth whose types count."""
    assert request.truth is not None
    points = truth.read_points(request.truth, request.voxel_size_nm, kind=request.type_column)
    if not request.types:
        return points
    kinds = np.unique(points.kind).tolist() if points.kind is not None else []
    for name in request.types:
        if name not in kinds:
            found = f"the truth has {', '.join(closest(name, kinds)[:12]) or 'no types'}"
            raise UsageError(f"type {name!r} in --types", found, "Correct --types or --type-column")
    assert points.kind is not None  # else the first type was refused
    return points.take(np.isin(points.kind, request.types))


def _named_truth(request: Request) -> str:
    return f"{request.truth}" + (f", only {', '.join(request.types)}" if request.types else "")


def _no_types(request: Request) -> None:
    if request.types or request.type_column:
        raise UsageError(f"types of {request.truth}", "a label volume has none", "Leave out --types and --type-column")


def _table(request: Request) -> _Report:
    """Compare the table of a run with the truth."""
    assert request.detections is not None
    assert request.truth is not None
    if truth.is_table(request.truth):
        points = _points(request)
    elif request.voxel_size_nm is None:
        raise UsageError(f"labels in {request.truth}", "the size of a voxel is not known", "Give --voxel-size-nm Z,Y,X")
    else:
        _no_types(request)
        points = _of_labels(request, truth.read_labels(request.truth), request.voxel_size_nm)
    found = truth.read_points(request.detections, request.voxel_size_nm, scored=True, mask=request.mask)
    subject = f"{request.detections} against {_named_truth(request)}"
    extent = None
    if request.box is not None and request.voxel_size_nm is not None:
        extent = Extent(request.box, request.voxel_size_nm)
        inside = np.all(extent.depth_um(points.centre_um) >= 0, axis=1)
        subject += f"\n{np.count_nonzero(~inside):,} synapses outside of {request.box} are left out"
        points = points.take(inside)
    if _apart(points, found, request.distance_nm):
        subject += "\nThe two lie apart from each other: check the order of axes, the units and the origin of both"
    evaluation = evaluate_points(points, found, request.distance_nm, extent=extent, border_nm=request.border_nm)
    return _report(request, evaluation, subject, None, {"detections_file": str(request.detections)})


def _of_labels(request: Request, labels: NDArray[np.int64], voxel_size_nm: tuple[float, float, float]) -> Synapses:
    """Return the synapses of a label volume, counted from voxel 0 of the experiment as a run counts them."""
    points = synapses_of_labels(labels, voxel_size_nm)[0]
    if request.box is None:
        return points
    if labels.shape != request.box.shape:
        found = f"it has {labels.shape} voxels (z, y, x), and the ranges {request.box.shape}"
        raise DataError(str(request.truth), found, "Give the labels of the box that the run looked at")
    start_um = np.array(request.box.start) * np.array(voxel_size_nm) / 1000
    return replace(points, centre_um=points.centre_um + start_um)


def _apart(points: Synapses, found: Synapses, distance_nm: float) -> bool:
    """Return whether the boxes around truth and detections are farther apart than a match can reach."""
    if not len(points) or not len(found):
        return False
    (low, high), (other_low, other_high) = (
        (side.centre_um.min(axis=0), side.centre_um.max(axis=0)) for side in (points, found)
    )
    return bool(np.any(np.maximum(low - other_high, other_low - high) > distance_nm / 1000))


def _report(
    request: Request,
    evaluation: Evaluation,
    subject: str,
    shown: tuple[str, NDArray[Any]] | None,
    about: Mapping[str, Any],
) -> _Report:
    """Describe an evaluation in text, pictures and tables."""
    figures = {**about, "truth_file": str(request.truth), **printout.as_json(evaluation)}
    files: dict[str, bytes] = {}
    if request.out is not None:
        from nd_synapse.evaluate import pictures  # importing matplotlib takes a while

        files = {name: text.encode() for name, text in printout.lists(evaluation).items()}
        files["matches.png"] = pictures.matches(evaluation, shown, request.voxel_size_nm)
        if evaluation.curve is not None:
            files["precision_recall.png"] = pictures.precision_recall(evaluation)
    return _Report(printout.as_text(evaluation, subject), figures, files)


def _cubes(request: Request) -> _Report:
    """Compare the scores of a pipeline with synaptograms."""
    assert request.synaptograms is not None
    pipeline = registry.build(request.pipeline, request.parameters)
    cubes = read_synaptograms(request.synaptograms, request.voxel_size_nm)
    with _failing_as_data(pipeline):
        score = evaluate_synaptograms(pipeline, cubes, request.channels, resamples=request.resamples, seed=request.seed)
    size = " x ".join(f"{nm:g}" for nm in cubes.voxel_size_nm)
    subject = f"{pipeline.name} on {len(cubes)} synaptograms of {request.synaptograms}\n"
    subject += f"({_assigned(score.roles)}; voxels of {size} nm"
    subject += ", assumed)" if request.voxel_size_nm is None and cubes.voxel_size_nm == ASSUMED_VOXEL_SIZE_NM else ")"
    figures = {
        "pipeline": _pipeline(pipeline, None, score.roles),
        "synaptograms_file": str(request.synaptograms),
        **printout.synaptograms_as_json(score),
    }
    files = {"synaptograms.csv": printout.synaptograms_table(score, cubes.kind).encode()}
    return _Report(printout.synaptograms_as_text(score, subject), figures, files)


def _image(name: str, voxels: NDArray[Any]) -> NDArray[Any]:
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    if voxels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"channel {name}", f"it holds {voxels.dtype}", "Save images as uint8 or uint16")
    return voxels


def _assigned(roles: Mapping[str, str]) -> str:
    return ", ".join(f"{role} {channel}" for role, channel in roles.items())


def _pipeline(pipeline: Pipeline, mask: str | None, roles: Mapping[str, str]) -> dict[str, Any]:
    return {"name": pipeline.name, "mask": mask, "settings": dict(pipeline.settings), "channels": dict(roles)}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, each atomically."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)
    except OSError as error:
        found = f"it cannot be written ({error.strerror or error})"
        raise StorageError(str(folder), found, "Give --out a folder that you may write, on a disk with room") from error


def _run(arguments: list[str], _environ: Mapping[str, str]) -> int:
    request = request_of(parser().parse_args(arguments))
    logs.apply(logs.LogSettings(logging.WARNING))  # the report says it all
    evaluate = _volume if request.images else _table if request.detections else _cubes
    report = evaluate(request)
    if request.out is not None:
        _write(request.out, report.files)
    return app.write_stdout(json.dumps(report.figures, indent=2) + "\n" if request.as_json else report.text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return app.run(_run, argv, remedy=app.STARTS_OVER)
