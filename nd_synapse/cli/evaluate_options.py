"""The command line of the evaluation: its options, and which of them go together."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.cli.options import add_pipeline, add_ranges
from nd_synapse.console.parser import Parser, add_number, add_value
from nd_synapse.errors import LOCAL, UsageError, exit_codes
from nd_synapse.evaluate.synaptograms import RESAMPLES
from nd_synapse.geometry import VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.pipeline import registry
from nd_synapse.values import parse_assignments, parse_lengths, parse_names, parse_number, parse_path

__all__ = ["DEFAULT_DISTANCE_NM", "Request", "parser", "request_of"]

DEFAULT_DISTANCE_NM = 300.0

_MOST_RESAMPLES = 100_000
_LARGEST_SEED = 2**32 - 1
_LARGEST_NM = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be evaluated, and how."""

    pipeline: str
    parameters: Mapping[str, str]
    channels: Mapping[str, str]
    """Role to channel."""
    mask: str | None
    """None for the first."""
    images: tuple[Path, ...]
    detections: tuple[Path, ...]
    synaptograms: Path | None
    labels: Path | None
    """One of these four is given."""
    folder: Path | None
    """The result folder whose rows were marked."""
    precision: float
    """The wanted precision, for `labels`."""
    truth: tuple[Path, ...]
    """One for each of the images or detections, in their order."""
    out: Path | None
    voxel_size_nm: tuple[float, float, float] | None
    """Along z, y, x."""
    max_distance_nm: float | None
    """Largest distance of a pair."""
    overlap: float | None
    """Smallest intersection over union of a pair."""
    type_column: str | None
    types: tuple[str, ...]
    """Types of the truth that count; empty for all."""
    border_nm: tuple[float, float, float]
    """Border (z, y, x) that is left out."""
    box: Box | None
    """The box that was labelled, in the voxels of `detections`."""
    threads: int
    seed: int
    resamples: int
    as_json: bool

    @property
    def distance_nm(self) -> float:
        """Largest distance of a pair, or its default."""
        return DEFAULT_DISTANCE_NM if self.max_distance_nm is None else self.max_distance_nm


def parser() -> Parser:
    """Return the parser."""
    p = Parser(
        prog="nd-synapse evaluate",
        rare=("--precision", "--threads", "--type-column", "--types", "--border-nm", "--seed", "--resamples"),
        usage="%(prog)s (--images DIR ... | --detections FILE ...) --truth FILE ... [options]\n"
        "       %(prog)s --synaptograms FILE [options]\n"
        "       %(prog)s --labels FILE FOLDER [--precision SHARE]",
        description="Compare detections of synapses with truth, or with marks made on a report page; or scores with "
        "expert-labelled synaptograms.",
        epilog="Axes are always z, y, x. Ranges are half-open, in voxels: 0,8 or 0:8 is the slices 0 to 7. "
        + exit_codes(*LOCAL),
    )
    what = p.add_argument_group("what to evaluate (one of --images, --detections, --synaptograms, --labels)")
    for option, metavar, text in (
        ("--images", "DIR", "folder with a TIFF a channel; Zarr group; or one TIFF"),
        ("--detections", "FILE", "table of a run, such as synapses.csv, or its folder"),
        ("--truth", "FILE", "CSV of points, or label volume (TIFF, Zarr); one for each image, in the same order"),
    ):
        add_value(what, option, _paths, text, metavar=metavar, nargs="+", default=())
    add_value(what, "--synaptograms", parse_path, ".npz of labelled cubes", metavar="FILE")
    add_value(what, "--labels", parse_path, "labels.csv of a report page, for the run in FOLDER", metavar="FILE")
    what.add_argument("folder", nargs="?", metavar="FOLDER", help="result folder of the run, for --labels")
    how = p.add_argument_group("the pipeline, for --images and --synaptograms")
    add_pipeline(how)
    how.add_argument("--mask", metavar="NAME", help="which of its masks; default: the first, every synapse")
    add_number(how, "--threads", 1, 1024, "blocks at a time; default: %(default)s", default=2)
    _add_rules(p)
    _add_output(p)
    return p


def _add_rules(p: Parser) -> None:
    """Add what counts as a match."""
    rule = p.add_argument_group("what counts")
    add_value(rule, "--voxel-size-nm", _voxel_size, "size of a voxel in nanometres", metavar="Z,Y,X")
    add_value(
        rule,
        "--max-distance-nm",
        lambda option, text: parse_number(option, text, _LARGEST_NM),
        f"largest distance of a pair; default: {DEFAULT_DISTANCE_NM:g}, if the truth is points",
        metavar="NM",
    )
    add_value(
        rule,
        "--overlap",
        lambda option, text: parse_number(option, text, 1.0),
        "pairs have this intersection over union; default: one shared voxel, if the truth is labels",
        metavar="IOU",
        nargs="?",
        const="0",
    )
    add_value(
        rule,
        "--border-nm",
        _border,
        "leave out what is this near to a face; or Z,Y,X",
        metavar="NM",
        default=(0.0, 0.0, 0.0),
    )
    rule.add_argument("--type-column", metavar="NAME", help="types in the truth; default: type, if there is one")
    add_value(rule, "--types", parse_names, "count only synapses of these types", metavar="NAME,...", default=())
    add_ranges(rule, "voxels along {} that were labelled, for --detections")


def _add_output(p: Parser) -> None:
    """Add what is printed and written."""
    output = p.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_value(output, "--out", parse_path, "folder for pictures and tables of the synapses", metavar="DIR")
    add_value(
        output, "--precision", _precision, "wanted, for --labels; default: %(default)s", metavar="SHARE", default=0.9
    )
    add_number(output, "--seed", 0, _LARGEST_SEED, "of the bootstrap; default: %(default)s", default=0)
    add_number(output, "--resamples", 1, _MOST_RESAMPLES, "of the bootstrap; default: %(default)s", default=RESAMPLES)


def request_of(options: argparse.Namespace) -> Request:
    """Return the request of parsed options; refuse options that do not go together."""
    sources = ("images", "detections", "synaptograms", "labels")
    given = [f"--{name}" for name in sources if getattr(options, name)]
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "nothing to evaluate is given"
        raise UsageError("the command line", found, "Give one of --images, --detections, --synaptograms, --labels")
    own = ("pipeline", "folder")
    same = [name for name in Request.__dataclass_fields__ if hasattr(options, name) and name not in own]
    request = Request(
        pipeline=options.pipeline or registry.DEFAULT_PIPELINE,
        parameters=parse_assignments(options.param),
        box=_box(options),
        folder=None if options.folder is None else parse_path("FOLDER", options.folder),
        as_json=options.json,
        **{name: getattr(options, name) for name in same},
    )
    of_pipeline = {"--pipeline": options.pipeline, "--param": options.param, "--channels": options.channels}
    _check(request, [option for option, value in of_pipeline.items() if value])
    return request


def _check(request: Request, pipeline_options: Sequence[str]) -> None:
    """Refuse options that do not go together."""
    for wrong, what, remedy in (*_of_truth(request, pipeline_options), *_of_inputs(request, pipeline_options)):
        if wrong:
            raise UsageError("the command line", what, remedy)


_Rule = tuple[bool, str, str]
"""Whether options do not go together, what is wrong, and what to do."""


def _of_truth(request: Request, pipeline_options: Sequence[str]) -> tuple[_Rule, ...]:
    """Return the rules of the options that give the truth."""
    return (
        (
            (request.labels is None) != (request.folder is None),
            "--labels and FOLDER go together",
            "Give both, such as --labels labels.csv FOLDER, or neither",
        ),
        (
            request.labels is not None and bool(request.truth or pipeline_options),
            "--labels are the truth, and no pipeline is run",
            "Leave out --truth and the options of the pipeline",
        ),
        (
            not request.truth and request.synaptograms is None and request.labels is None,
            "there is no truth",
            "Give --truth FILE",
        ),
        (
            bool(request.truth) and request.synaptograms is not None,
            "synaptograms contain their truth",
            "Leave --truth out",
        ),
        (
            bool(request.images or request.detections)
            and len(request.truth) != len(request.images or request.detections),
            f"there are {len(request.images or request.detections)} inputs and {len(request.truth)} truths",
            "Give one truth for each, in the same order",
        ),
    )


def _of_inputs(request: Request, pipeline_options: Sequence[str]) -> tuple[_Rule, ...]:
    """Return the rules of the options that say what is compared, and how."""
    return (
        (
            bool(request.images) and request.voxel_size_nm is None,
            "the size of the images' voxels is not known",
            "Give --voxel-size-nm Z,Y,X",
        ),
        (
            request.overlap is not None and request.max_distance_nm is not None,
            "--overlap and --max-distance-nm are two rules",
            "Give one of them",
        ),
        (
            request.overlap is not None and not request.images,
            "--overlap needs voxels",
            "Give --images, or --max-distance-nm",
        ),
        (
            request.box is not None and not request.detections,
            "ranges belong to --detections",
            "Leave them out, or give --detections",
        ),
        (
            (request.box is not None or any(request.border_nm)) and request.voxel_size_nm is None,
            "the size of a voxel is not known",
            "Give --voxel-size-nm Z,Y,X",
        ),
        (
            bool(request.detections) and any(request.border_nm) and request.box is None,
            "where the border is, is not known",
            "Give --z-range, --y-range and --x-range",
        ),
        (
            bool(request.detections) and bool(pipeline_options),
            f"{' and '.join(pipeline_options)} and --detections are given, and no pipeline is run on a table",
            "Leave them out, or give --images",
        ),
        (request.mask == "", "--mask is empty", "Name a mask, or leave it out"),
    )


def _paths(option: str, texts: Sequence[str]) -> tuple[Path, ...]:
    return tuple(parse_path(option, text) for text in texts)


def _precision(option: str, text: str) -> float:
    """Read a share."""
    return parse_number(option, text, 1.0)


def _voxel_size(option: str, text: str) -> tuple[float, float, float]:
    """Read the size of a voxel in nanometres."""
    size = parse_lengths(option, text)
    if not are_voxel_sizes(size):
        raise UsageError(option, "no voxel has such a size", f"Give {VOXEL_SIZES}")
    return size


def _border(option: str, text: str) -> tuple[float, float, float]:
    """Read the border in nanometres; one number stands for all three."""
    return parse_lengths(option, text if "," in text else ",".join([text] * 3))


def _box(options: argparse.Namespace) -> Box | None:
    z, y, x = (getattr(options, f"{axis}_range") for axis in "zyx")
    if z is None and y is None and x is None:
        return None
    if z is None or y is None or x is None:
        raise UsageError("the ranges", "some are missing", "Give --z-range, --y-range and --x-range")
    return Box(z, y, x)
