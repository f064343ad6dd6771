"""``nd-synapse evaluate``: compares a pipeline, or the table of a run, with truth."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse import logs
from nd_synapse.cli.evaluate_options import Request, parser, request_of
from nd_synapse.cli.options import search_working_folder
from nd_synapse.console import app
from nd_synapse.errors import DataError, NDSynapseError, StorageError, UsageError, closest
from nd_synapse.evaluate import marks, printout, truth
from nd_synapse.evaluate.detections import Detections, is_adjustable, permissive, run_pipeline
from nd_synapse.evaluate.evaluation import Evaluation, evaluate_labels, evaluate_points, join, with_synapses
from nd_synapse.evaluate.inputs import Volumes
from nd_synapse.evaluate.strictness import Advice, Marked, advise, broken_promise
from nd_synapse.evaluate.synapses import Extent, Synapses, synapses_of_labels
from nd_synapse.evaluate.synaptograms import ASSUMED_VOXEL_SIZE_NM, evaluate_synaptograms, read_synaptograms
from nd_synapse.files.atomic import replacing
from nd_synapse.geometry import Box
from nd_synapse.job.manifest import RunFile, read_run_file
from nd_synapse.job.results import table_file
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.contract import Pipeline
from nd_synapse.redaction import describe_error
from nd_synapse.report.table_file import read_table as read_numbers

__all__ = ["main"]


@dataclass(frozen=True, slots=True, eq=False)
class _Report:
    """What is printed and written."""

    text: str
    figures: Mapping[str, Any]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """A labelled image, and how a pipeline did on it."""

    shape: tuple[int, ...]
    roles: Mapping[str, str]
    scored_by: str
    shown: tuple[str, NDArray[Any]]
    """The first channel and its largest values along z."""
    extent: Extent
    evaluation: Evaluation
    permissive: Evaluation | None
    """With a low strictness; None where the pipeline has none."""
    strictness: float
    """Of the other evaluation; 0 where the pipeline has none."""


def _volume(request: Request) -> _Report:
    """Run a pipeline on images and compare it with the truth."""
    pipeline = registry.build(request.pipeline, request.parameters)
    wide = registry.build(request.pipeline, permissive(request.pipeline, request.parameters))
    pipelines = (pipeline, wide) if is_adjustable(pipeline) else (pipeline,)
    images = [_labelled(request, pipelines, *paths) for paths in zip(request.images, request.truth, strict=True)]
    first, mask = images[0], request.mask or pipeline.masks[0]
    size = " x ".join(f"{nm:g}" for nm in request.voxel_size_nm or ())
    voxels = (
        " x ".join(map(str, first.shape)) if len({image.shape for image in images}) == 1 else "differing numbers of"
    )
    subject = f"{pipeline.name}, mask {mask}, on {_named(request.images)}\n"
    subject += f"({voxels} voxels of {size} nm; {_assigned(first.roles)}), against {_named_truth(request)}"
    if first.scored_by and all(image.evaluation.curve is not None for image in images):
        subject += f"\nScore of a detection: {first.scored_by}."
    about: dict[str, Any] = {"pipeline": _pipeline(pipeline, mask, first.roles)}
    wider = [image.permissive for image in images if image.permissive is not None]
    advised, why_none = None, ""
    if wider:
        strictness = about["strictness"] = [image.strictness for image in images]
        if pipeline.raises_strictness:
            ends = dict.fromkeys(str(end) for end in (min(strictness), max(strictness)))
            subject += f"\nStrictness that it found: {' to '.join(ends)}."
        found = [image.evaluation for image in images]
        why_none = broken_promise(strictness, found, wider) or _like_chance(request, found, [i.extent for i in images])
        advised = _advise(request, wider, [image.extent for image in images], why_none)
    return _report(request, [(image.evaluation, image.shown) for image in images], subject, about, advised, why_none)


def _labelled(request: Request, pipelines: Sequence[Pipeline], folder: Path, truth_file: Path) -> _Image:
    """Run pipelines on an image and match what each finds."""
    assert request.voxel_size_nm is not None
    volumes = Volumes(folder, request.voxel_size_nm)
    chosen = dict(request.channels)
    if len(volumes) == 1 and len(pipelines[0].roles) == 1:  # one channel for one role: its name does not matter
        chosen = {pipelines[0].roles[0].name: next(iter(volumes)), **chosen}
    # only the channels that the pipeline uses are read
    roles = pipelines[0].choose(list(volumes), chosen)
    channels = {name: _image(name, volumes[name]) for name in dict.fromkeys(roles.values())}
    shape = next(iter(channels.values())).shape
    extent = Extent(Box.of_shape(shape), request.voxel_size_nm)
    # read before the work, so that a mistake in it shows at once
    points, labels = _truth(request, truth_file, extent)
    evaluations, every = [], []
    for pipeline in pipelines:
        with _failing_as_data(pipeline):
            mask = request.mask or pipeline.masks[0]
            found = run_pipeline(
                pipeline, channels, request.voxel_size_nm, mask, chosen=chosen, threads=request.threads
            )
        evaluations.append(_matched(request, points, labels, found, extent))
        every.append(found)
    name, first = next(iter(channels.items()))
    wide = evaluations[1] if len(evaluations) > 1 else None
    strictness = 0.0 if wide is None else _strictness(pipelines[0], every[0])
    shown = (name, first.max(axis=0))
    return _Image(shape, roles, every[0].scored_by, shown, extent, evaluations[0], wide, strictness)


def _strictness(pipeline: Pipeline, found: Detections) -> float:
    """Return the strictness at which an adjustable pipeline detected."""
    given = pipeline.settings["strictness"]
    for value in (found.strictness, given):
        if isinstance(value, int | float):
            return float(value)
    remedy = "Let its learn return the number as strictness, or give --param strictness=N"
    raise DataError(f"strictness={given} of {pipeline.name}", "it does not say which strictness that is", remedy)


def _advise(
    request: Request, evaluations: Sequence[Evaluation], extents: Sequence[Extent | None], why_none: str = ""
) -> tuple[Marked, Advice | None]:
    """Return the detections of all images, and the strictness to use, unless it is said why there is none."""
    marked = Marked.of(evaluations, extents)
    return marked, None if why_none else advise(marked, request.resamples, request.seed)


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
    border_nm, several = request.border_nm, len(request.truth) > 1
    if labels is not None and request.max_distance_nm is None:
        return evaluate_labels(
            labels,
            found.labels,
            extent,
            request.overlap or 0.0,
            scores=found.scores,
            border_nm=border_nm,
            may_be_empty=several,
        )
    if request.overlap is not None:
        raise UsageError(f"--overlap with {request.truth[0]}", "points have no extent", "Give --max-distance-nm")
    return evaluate_points(
        points, found.synapses, request.distance_nm, extent=extent, border_nm=border_nm, may_be_empty=several
    )


def _truth(request: Request, path: Path, extent: Extent) -> tuple[Synapses, NDArray[np.int64] | None]:
    """Read the truth of an image: points, and labels where it is a volume."""
    if not truth.is_table(path):
        labels = truth.read_labels(path, extent.voxel_size_nm)
        if labels.shape != extent.box.shape:
            found = f"it has {labels.shape} voxels (z, y, x), and the images have {extent.box.shape}"
            raise DataError(str(path), found, "Give the truth of the same box")
        _no_types(request, path)
        return synapses_of_labels(labels, extent.voxel_size_nm)[0], labels
    return truth.within(_points(request, path), extent, request.distance_nm, f"points in {path}"), None


def _points(request: Request, path: Path) -> Synapses:
    """Read the points of a truth whose types count."""
    points = truth.read_points(path, request.voxel_size_nm, kind=request.type_column)
    if not request.types:
        return points
    kinds = np.unique(points.kind).tolist() if points.kind is not None else []
    for name in request.types if len(request.truth) == 1 or points.kind is None else ():
        if name not in kinds:
            found = f"the truth has {', '.join(closest(name, kinds)[:12]) or 'no types'}"
            raise UsageError(f"type {name!r} in --types", found, "Correct --types or --type-column")
    assert points.kind is not None  # else the first type was refused
    return points.take(np.isin(points.kind, request.types))


def _named(paths: Sequence[Path]) -> str:
    """Name one path, or how many there are, and the first and the last."""
    return str(paths[0]) if len(paths) == 1 else f"{len(paths):,} ({paths[0]} to {paths[-1]})"


def _named_truth(request: Request) -> str:
    return _named(request.truth) + (f", only {', '.join(request.types)}" if request.types else "")


def _no_types(request: Request, path: Path) -> None:
    if request.types or request.type_column:
        raise UsageError(f"types of {path}", "a label volume has none", "Leave out --types and --type-column")


def _table(request: Request) -> _Report:
    """Compare the tables of runs with the truth."""
    files = [table_file(path) if path.is_dir() else path for path in request.detections]
    subject = f"{_named(files)} against {_named_truth(request)}"
    extents, evaluations = [_searched(request, path) for path in files], []
    for path, truth_file, extent in zip(files, request.truth, extents, strict=True):
        evaluation, notes = _of_table(request, path, truth_file, extent)
        subject += notes
        evaluations.append(evaluation)
    advised, why_none = None, ""
    if all(_is_of_adjustable(path) for path in files):
        why_none = _like_chance(request, evaluations, extents)
        advised = _advise(request, evaluations, extents, why_none)
    about = {"detections_file": _plain_paths(files)}
    return _report(request, [(one, None) for one in evaluations], subject, about, advised, why_none)


def _searched(request: Request, table: Path) -> Extent | None:
    """Return the box that was labelled, or else the one that was searched; None where it or its voxel is not known."""
    run, box = _run_of(table), request.box
    if box is None and run is not None:
        box = run.box
    return None if box is None or request.voxel_size_nm is None else Extent(box, request.voxel_size_nm)


def _run_of(table: Path) -> RunFile | None:
    """Return the run beside whose run.json a table lies."""
    try:
        return read_run_file(table.parent)
    except NDSynapseError:  # a table from elsewhere
        return None


def _of_table(request: Request, path: Path, truth_file: Path, extent: Extent | None) -> tuple[Evaluation, str]:
    """Compare the table of a run with its truth; return also what is to be said about it."""
    if truth.is_table(truth_file):
        points = _points(request, truth_file)
    elif request.voxel_size_nm is None:
        raise UsageError(f"labels in {truth_file}", "the size of a voxel is not known", "Give --voxel-size-nm Z,Y,X")
    else:
        _no_types(request, truth_file)
        points = _of_labels(request, truth_file, request.voxel_size_nm)
    found, notes = truth.read_points(path, request.voxel_size_nm, scored=True, mask=request.mask), ""
    if extent is not None:
        inside, counted = (np.all(extent.depth_um(side.centre_um) >= 0, axis=1) for side in (points, found))
        left_out = f"{np.count_nonzero(~inside):,} synapses and {np.count_nonzero(~counted):,} detections"
        notes += f"\n{left_out} outside of {extent.box} are left out"
        points, found = points.take(inside), found.take(counted)
    if _apart(points, found, request.distance_nm):
        notes += "\nThe two lie apart from each other: check the order of axes, the units and the origin of both"
    evaluation = evaluate_points(
        points,
        found,
        request.distance_nm,
        extent=extent,
        border_nm=request.border_nm,
        may_be_empty=len(request.truth) > 1,
    )
    return evaluation, notes


def _is_of_adjustable(table: Path) -> bool:
    """Return whether the run beside whose run.json a table lies has a strictness."""
    run = _run_of(table)
    try:
        return run is not None and is_adjustable(registry.build(run.pipeline, {}))
    except NDSynapseError:  # a pipeline that is not installed here
        return False


def _of_labels(request: Request, path: Path, voxel_size_nm: tuple[float, float, float]) -> Synapses:
    """Return the synapses of a label volume, counted from voxel 0 of the experiment as a run counts them."""
    labels = truth.read_labels(path, voxel_size_nm)
    points = synapses_of_labels(labels, voxel_size_nm)[0]
    if request.box is None:
        return points
    if labels.shape != request.box.shape:
        found = f"it has {labels.shape} voxels (z, y, x), and the ranges {request.box.shape}"
        raise DataError(str(path), found, "Give the labels of that box")
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


def _like_chance(request: Request, evaluations: Sequence[Evaluation], extents: Sequence[Extent | None]) -> str:
    """Return why nothing is advised where points match no better than random ones would; else an empty text."""
    expected, variance, um = 0.0, 0.0, request.distance_nm / 1000
    for evaluation, extent in zip(evaluations, extents, strict=True):
        if extent is None or not all(map(truth.is_table, request.truth)):
            return ""
        sides = [n * nm / 1000 for n, nm in zip(extent.box.shape, extent.voxel_size_nm, strict=True)]
        # how much of the box lies within the distance of a point; a section is thinner than that
        reached = math.pi * um**2 * min(4 / 3 * um, sides[0]) / math.prod(sides)
        share = -math.expm1(-len(evaluation.detections) * reached)
        expected += len(evaluation.truth) * share
        variance += len(evaluation.truth) * share * (1 - share)
    hits = sum(evaluation.hits for evaluation in evaluations)
    if not expected or hits > expected + 2 * math.sqrt(variance):
        return ""
    return (
        f"{hits:,} pairs are no more than the {expected:,.0f} of points at random:\n"
        "check the order of axes, the units and the origin of the truth"
    )


def _report(
    request: Request,
    images: Sequence[tuple[Evaluation, tuple[str, NDArray[Any]] | None]],
    subject: str,
    about: Mapping[str, Any],
    advised: tuple[Marked, Advice | None] | None,
    why_none: str = "",
) -> _Report:
    """Describe the evaluations of images, with what is shown of each, in text, pictures and tables."""
    evaluation = with_synapses(join([one for one, _ in images]))
    figures = {**about, "truth_file": _plain_paths(request.truth), **printout.as_json(evaluation)}
    text = printout.as_text(evaluation, subject)
    if advised is not None:
        text += printout.advice_as_text(advised[1], len(images), why_none)
        figures["advice"] = printout.advice_as_json(advised[1])
    files: dict[str, bytes] = {}
    if request.out is not None:
        from nd_synapse.evaluate import pictures  # importing matplotlib takes a while

        for number, (one, shown) in enumerate(images, 1):
            folder = f"{number:03d}/" if len(images) > 1 else ""
            files |= {f"{folder}{file}": table.encode() for file, table in printout.lists(one).items()}
            files[f"{folder}matches.png"] = pictures.matches(one, shown, request.voxel_size_nm)
        if evaluation.curve is not None:
            files["precision_recall.png"] = pictures.precision_recall(evaluation)
        if advised is not None and advised[1] is not None:
            files["strictness.png"] = pictures.over_strictness(advised[0], advised[1])
    return _Report(text, figures, files)


def _plain_paths(paths: Sequence[Path]) -> str | list[str]:
    """Return a path, or a list where there are several."""
    return str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]


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


def _marked(request: Request) -> _Report:
    """Say what marks on the page of a run tell of it."""
    assert request.labels is not None
    assert request.folder is not None
    given, file = marks.read_marks(request.labels), table_file(request.folder)
    run = read_run_file(request.folder)
    if given.pipeline not in ("", run.pipeline):
        remedy = "Give the folder of the run whose page was marked"
        raise DataError(str(request.labels), f"they are of {given.pipeline}, and the run is of {run.pipeline}", remedy)
    table = read_numbers(file)
    rows = marks.rows_of(given, table, str(file))
    scores = table.get("score") if _is_of_adjustable(file) else None
    judged = marks.judge(given, rows, len(next(iter(table.values()))), scores, request.precision)
    subject = f"{len(rows):,} rows of {request.folder} ({run.pipeline}), marked in {request.labels}"
    about = {"labels_file": str(request.labels), "folder": str(request.folder), "pipeline": run.pipeline}
    return _Report(marks.as_text(judged, subject), {**about, **marks.as_json(judged)}, {})


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
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with replacing(folder / name) as file:
                file.write(content)
    except OSError as error:
        found = f"it cannot be written ({error.strerror or error})"
        raise StorageError(str(folder), found, "Give --out a folder that you may write, on a disk with room") from error


def _run(arguments: list[str], _environ: Mapping[str, str]) -> int:
    request = request_of(parser().parse_args(arguments))
    search_working_folder(request.pipeline)
    logs.apply(logs.LogSettings(logging.WARNING))  # the report says it all
    evaluate = _volume if request.images else _table if request.detections else _marked if request.labels else _cubes
    report = evaluate(request)
    if request.out is not None:
        _write(request.out, report.files)
    return app.write_stdout(json.dumps(report.figures, indent=2) + "\n" if request.as_json else report.text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return app.run(_run, argv, remedy=app.STARTS_OVER)
