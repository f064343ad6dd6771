"""The command line of the evaluation: its options, and what they mean together.

It reads no file and computes nothing.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nd_synapse.console.parser import IntOption, Parser, PathOption
from nd_synapse.errors import DataError, StorageError, UsageError, exit_codes
from nd_synapse.evaluate.synaptograms import RESAMPLES
from nd_synapse.geometry import VOXEL_SIZES, Box, are_voxel_sizes
from nd_synapse.pipeline import registry
from nd_synapse.values import parse_assignments, parse_names, parse_pairs, parse_range

__all__ = ["DEFAULT_DISTANCE_NM", "Request", "parser", "request_of"]

DEFAULT_DISTANCE_NM = 300.0

_MOST_RESAMPLES = 100_000
_LARGEST_SEED = 2**32 - 1
_LARGEST_NM = 1e12

_EPILOG = "Axes are always z, y, x; ranges are half-open. " + exit_codes(UsageError, DataError, StorageError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be evaluated, and how.

    Parameters
    ----------
    pipeline : str
        Name of the pipeline.
    parameters, channels : mapping of str to str
        Its parameters, and role to channel.
    mask : str or None
        The mask; None for the first.
    images, detections, synaptograms, truth, out : Path or None
        Files and folders; one of the first three is given.
    voxel_size_nm : tuple of float or None
        Size of a voxel along z, y, x.
    max_distance_nm : float or None
        Largest distance of a pair.
    overlap : float or None
        Smallest intersection over union of a pair.
    type_column : str or None
        Column of the truth with the types.
    types : tuple of str
        Types of the truth that count; empty for all.
    border_nm : tuple of float
        Border (z, y, x) that is left out.
    box : Box or None
        What the run behind `detections` looked at.
    threads, seed, resamples : int
        Blocks at a time; of the bootstrap.
    as_json : bool
        Whether to print JSON.
    """

    pipeline: str
    parameters: Mapping[str, str]
    channels: Mapping[str, str]
    mask: str | None
    images: Path | None
    detections: Path | None
    synaptograms: Path | None
    truth: Path | None
    out: Path | None
    voxel_size_nm: tuple[float, float, float] | None
    max_distance_nm: float | None
    overlap: float | None
    type_column: str | None
    types: tuple[str, ...]
    border_nm: tuple[float, float, float]
    box: Box | None
    threads: int
    seed: int
    resamples: int
    as_json: bool

    @property
    def distance_nm(self) -> float:
        """Largest distance of a pair, the default where none is given."""
        return DEFAULT_DISTANCE_NM if self.max_distance_nm is None else self.max_distance_nm


def parser() -> Parser:
    """Declare the options."""
    p = Parser(
        prog="nd-synapse evaluate",
        description="Hold detections of synapses against truth, or scores against expert-labelled synaptograms.",
        epilog=_EPILOG,
    )
    what = p.add_argument_group("what to evaluate (one of --images, --detections, --synaptograms)")
    what.add_argument(
        "--images", action=PathOption, metavar="DIR", help="folder of TIFF stacks, one a channel, or Zarr group"
    )
    what.add_argument("--detections", action=PathOption, metavar="FILE", help="table of a run, such as synapses.csv")
    what.add_argument("--synaptograms", action=PathOption, metavar="FILE", help=".npz of labelled cubes")
    what.add_argument("--truth", action=PathOption, metavar="FILE", help="CSV of points, or label volume (TIFF, Zarr)")
    how = p.add_argument_group("the pipeline, for --images and --synaptograms")
    how.add_argument("--pipeline", metavar="NAME", help=f"default: {registry.DEFAULT_PIPELINE}")
    how.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="parameter of the pipeline")
    how.add_argument("--channels", metavar="ROLE=NAME,...", help="default: found by the names of markers")
    how.add_argument("--mask", metavar="NAME", help="which of its masks; default: the first, every synapse")
    how.add_argument(
        "--threads",
        action=IntOption,
        least=1,
        most=1024,
        default=2,
        metavar="N",
        help="blocks at a time; default: %(default)s",
    )
    rule = p.add_argument_group("what counts")
    rule.add_argument("--voxel-size-nm", metavar="Z,Y,X", help="size of a voxel in nanometres")
    distance = f"largest distance of a pair; default: {DEFAULT_DISTANCE_NM:g} where the truth is points"
    rule.add_argument("--max-distance-nm", metavar="NM", help=distance)
    overlap = "pairs overlap by this intersection over union; default for label volumes: 0, one shared voxel"
    rule.add_argument("--overlap", nargs="?", const="0", metavar="IOU", help=overlap)
    rule.add_argument("--border-nm", default="0", metavar="NM", help="leave out what is so near to a face; or Z,Y,X")
    rule.add_argument("--type-column", metavar="NAME", help="types in the truth; default: type, if there is one")
    rule.add_argument("--types", metavar="NAME,...", help="only synapses of these types are the truth")
    for axis in "zyx":
        limits = f"voxels along {axis} that the run behind --detections looked at"
        rule.add_argument(f"--{axis}-range", metavar="START,STOP", help=limits)
    told = p.add_argument_group("what is told")
    told.add_argument("--json", action="store_true", help="JSON instead of text")
    told.add_argument(
        "--out", action=PathOption, metavar="DIR", help="folder for pictures and tables of the single synapses"
    )
    told.add_argument(
        "--seed",
        action=IntOption,
        least=0,
        most=_LARGEST_SEED,
        default=0,
        metavar="N",
        help="of the bootstrap; default: %(default)s",
    )
    told.add_argument(
        "--resamples",
        action=IntOption,
        least=1,
        most=_MOST_RESAMPLES,
        default=RESAMPLES,
        metavar="N",
        help="of the bootstrap; default: %(default)s",
    )
    return p


def request_of(options: argparse.Namespace) -> Request:
    """Check the options."""
    sources = ("images", "detections", "synaptograms")
    given = [f"--{name}" for name in sources if getattr(options, name) is not None]
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "nothing to evaluate is given"
        raise UsageError("the command line", found, "Give one of --images, --detections and --synaptograms")
    request = Request(
        pipeline=registry.DEFAULT_PIPELINE if options.pipeline is None else options.pipeline,
        parameters=parse_assignments(options.param),
        channels=parse_pairs("--channels", _listed(options.channels), empty=True),
        mask=options.mask,
        **{name: getattr(options, name) for name in (*sources, "truth", "out")},
        voxel_size_nm=_voxel_size(options.voxel_size_nm),
        max_distance_nm=_number(options.max_distance_nm, "--max-distance-nm", "a length in nanometres above 0"),
        overlap=_number(options.overlap, "--overlap", "a number from 0 to 1", most=1.0),
        type_column=options.type_column,
        types=parse_names("--types", None if options.types is None else ",".join(_listed(options.types))),
        border_nm=_border(options.border_nm),
        box=_box(options),
        threads=options.threads,
        seed=options.seed,
        resamples=options.resamples,
        as_json=options.json,
    )
    said = {"--pipeline": options.pipeline, "--param": options.param or None, "--channels": options.channels}
    _check(request, [option for option, value in said.items() if value is not None])
    return request


def _check(request: Request, pipeline_options: Sequence[str]) -> None:
    """Refuse options that do not go together."""
    for wrong, what, remedy in (
        (request.truth is None and request.synaptograms is None, "there is no truth", "Give --truth FILE"),
        (
            request.truth is not None and request.synaptograms is not None,
            "synaptograms have their truth in them",
            "Leave --truth out",
        ),
        (
            request.images is not None and request.voxel_size_nm is None,
            "the size of the images' voxels is not known",
            "Give --voxel-size-nm Z,Y,X",
        ),
        (
            request.overlap is not None and request.max_distance_nm is not None,
            "--overlap and --max-distance-nm are two rules",
            "Give one of them",
        ),
        (
            request.overlap is not None and request.images is None,
            "--overlap needs voxels",
            "Give --images, or --max-distance-nm",
        ),
        (
            request.box is not None and request.detections is None,
            "ranges are what a run looked at",
            "Leave them out, or give --detections",
        ),
        (
            (request.box is not None or any(request.border_nm)) and request.voxel_size_nm is None,
            "the size of a voxel is not known",
            "Give --voxel-size-nm Z,Y,X",
        ),
        (
            request.detections is not None and any(request.border_nm) and request.box is None,
            "where the border is, is not known",
            "Give --z-range, --y-range and --x-range of the run",
        ),
        (
            request.detections is not None and bool(pipeline_options),
            f"{' and '.join(pipeline_options)} and --detections are given, and no pipeline is run on a table",
            "Leave them out, or give --images",
        ),
        (request.mask == "", "--mask is empty", "Name a mask, or leave it out"),
    ):
        if wrong:
            raise UsageError("the command line", what, remedy)


def _listed(text: str | None) -> list[str]:
    """Return the parts of a list, blanks around them dropped; none where it is not given."""
    return [] if text is None else [part.strip() for part in text.split(",")]


def _number(text: str | None, option: str, what: str, most: float = _LARGEST_NM) -> float | None:
    """Return a number from 0 upwards; a length of 0 is refused where it is used."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise UsageError(f"{option} {text[:100]}", f"it is not {what}", f"Give a number of at most {most:g}")
    return value


def _voxel_size(text: str | None) -> tuple[float, float, float] | None:
    """Return the size of a voxel in nanometres."""
    size = _lengths(text, "--voxel-size-nm")
    if size is not None and not are_voxel_sizes(size):
        raise UsageError(f"--voxel-size-nm {text}", "no voxel has such a size", f"Give {VOXEL_SIZES}")
    return size


def _lengths(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Return three lengths in nanometres."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 <= value <= _LARGEST_NM for value in values):
        raise UsageError(
            f"{option} {text[:100]}", "it is not Z,Y,X in nanometres", "Give three numbers, such as 70,100,100"
        )
    return (values[0], values[1], values[2])


def _border(text: str) -> tuple[float, float, float]:
    """Return the border in nanometres; one number stands for all three."""
    return _lengths(text if "," in text else ",".join([text] * 3), "--border-nm") or (0.0, 0.0, 0.0)


def _box(options: argparse.Namespace) -> Box | None:
    given = [getattr(options, f"{axis}_range") for axis in "zyx"]
    if all(text is None for text in given):
        return None
    if None in given:
        raise UsageError("the ranges", "some are missing", "Give --z-range, --y-range and --x-range")
    z, y, x = (
        parse_range(f"--{axis}-range {text}", text, "Give it as START,STOP")
        for text, axis in zip(given, "zyx", strict=True)
    )
    return Box(z, y, x)
