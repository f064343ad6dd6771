"""Options that several commands have."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from nd_synapse.blocks.grid import DEFAULT_PULLS
from nd_synapse.boss.address import volume_of_uri
from nd_synapse.config import NeurodataConfig, SourceSection
from nd_synapse.console.parser import add_number, add_value
from nd_synapse.errors import UsageError
from nd_synapse.job.job import MOST
from nd_synapse.pipeline import registry
from nd_synapse.sources.location import Location
from nd_synapse.values import parse_block_size, parse_gib, parse_lengths, parse_pairs, parse_range

__all__ = [
    "FORMS",
    "add_blocks",
    "add_pipeline",
    "add_ranges",
    "add_source",
    "add_source_details",
    "add_token",
    "add_verbosity",
    "add_workers",
    "boss_volume_of",
    "level_of",
    "location_of",
    "parse_roles",
    "search_working_folder",
]


FORMS = "Zarr or TIFF by path or URL; precomputed://..., n5://..., boss://..."
"""What a source may be."""

_MOST_LEVELS = 99


def add_ranges(p: argparse._ActionsContainer, what: str) -> None:
    """Add ``--z-range``, ``--y-range``, ``--x-range``; `what` has a place for the axis."""
    for axis in "zyx":
        add_value(p, f"--{axis}-range", parse_range, what.format(axis), metavar="START,STOP")


def add_source(p: argparse._ActionsContainer) -> None:
    """Add a volume in files or in a bucket, and what its metadata may lack."""
    p.add_argument("--source", metavar="URI", help=FORMS)
    add_source_details(p)


def add_source_details(p: argparse._ActionsContainer) -> None:
    """Add channels that lie apart, and what the metadata of a volume may lack."""
    p.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME=URI",
        help="a channel that lies apart, repeatable, in the place of --source; all have one shape and voxel size",
    )
    add_value(p, "--voxel-size-nm", parse_lengths, "voxel size, where the metadata do not say it", metavar="Z,Y,X")
    add_number(p, "--resolution", 0, _MOST_LEVELS, "level of a volume that has several; default: 0, the finest")
    p.add_argument("--scale-float", action="store_true", help="read values v of 0 to 1 as 65535 v, rounded")
    p.add_argument("--name", help="what results of --source are named after; default: its last part")


def boss_volume_of(options: argparse.Namespace) -> tuple[str, str, str] | None:
    """Return host, collection and experiment, if ``--source`` is a URI of BOSS."""
    named = volume_of_uri(options.source or "")
    if named is not None:
        _refuse_details(options)
    return named


def _refuse_details(options: argparse.Namespace) -> None:
    """Refuse what only a volume that is not in BOSS may lack."""
    for option in ("voxel_size_nm", "name", "scale_float"):
        if getattr(options, option) not in (None, False):
            raise UsageError(
                f"--{option.replace('_', '-')} for a volume in BOSS",
                "BOSS says it itself",
                "Leave it out, or give --source",
            )


def location_of(options: argparse.Namespace, config: NeurodataConfig | None = None) -> Location | None:
    """Return the location that ``--source``, ``--channel`` and the options beside them give, or else neurodata.cfg."""
    there = config.source if config is not None and not (options.host or options.col or options.exp) else None
    given = options.source is not None or bool(options.channel)
    if options.source is not None and options.channel:
        raise UsageError("--source with --channel", "each names what to read", "Give one of them")
    if not given and there is None:
        _refuse_details(options)
        return None
    beside = there or SourceSection()
    if given:
        channels = tuple(parse_pairs("--channel", options.channel, form="NAME=URI").items())
        beside = replace(beside, uri=options.source or "", channels=channels)
    return Location.of_section(
        replace(
            beside,
            resolution=beside.resolution if options.resolution is None else options.resolution,
            voxel_size_nm=options.voxel_size_nm or beside.voxel_size_nm,
            name=options.name or beside.name,
            scale_float=options.scale_float or beside.scale_float,
        )
    )


def add_token(p: argparse._ActionsContainer) -> None:
    """Add the two options that give the BOSS token."""
    p.add_argument(
        "--token-file", metavar="FILE", help="file with the BOSS token; or give BOSS_TOKEN in the environment"
    )
    p.add_argument("--token", help="the token itself; other users of this machine can see it")


def add_pipeline(p: argparse._ActionsContainer) -> None:
    """Add a pipeline, its parameters and its channels."""
    p.add_argument(
        "--pipeline", metavar="NAME", help=f"or package.module:function; default: {registry.DEFAULT_PIPELINE}"
    )
    p.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the pipeline, repeatable; NAME=@FILE reads it from a file",
    )
    add_value(
        p,
        "--channels",
        parse_roles,
        "default: channels are found by the names of their markers",
        metavar="ROLE=NAME,...",
        default={},
    )


def parse_roles(option: str, text: str) -> dict[str, str]:
    """Read ``ROLE=NAME,...``; a role without a name is left out."""
    return parse_pairs(option, [part.strip() for part in text.split(",")], empty=True, form="ROLE=NAME")


def add_workers(p: argparse._ActionsContainer) -> None:
    """Add the number of worker processes and their memory."""
    add_number(p, "--cpus", 1, MOST, "worker processes; default: all cores but one, at least one")
    add_value(p, "--memory", parse_gib, "memory to use; default: what the container or machine has", metavar="GIB")


def add_blocks(p: argparse._ActionsContainer, block_size: tuple[int, int, int] | None, what: str) -> None:
    """Add the size of blocks and the number of cutouts that are read at a time."""
    add_value(
        p, "--block-size", parse_block_size, f"voxels of a block; default: {what}", metavar="Z,Y,X", default=block_size
    )
    add_number(p, "--pulls", 1, MOST, "cutouts read at a time; default: %(default)s", default=DEFAULT_PULLS)


def add_verbosity(p: argparse.ArgumentParser) -> None:
    """Add ``--verbose`` and ``--quiet``."""
    loud = p.add_argument_group("messages").add_mutually_exclusive_group()
    loud.add_argument("--verbose", action="store_true", help="more messages, such as a line for each block")
    loud.add_argument("--quiet", action="store_true", help="warnings and errors only")


def level_of(options: argparse.Namespace) -> int:
    """Return the log level of ``--verbose`` and ``--quiet``."""
    return logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO


def search_working_folder(function: str | None) -> None:
    """Let ``module:function`` of a user be found in the working folder, after everything that is installed."""
    if function is not None and ":" in function:
        sys.path.append(str(Path.cwd()))
