"""A job as the user asked for it: from the command line, the environment and neurodata.cfg to one frozen value.

It reads no voxel and contacts no service; `driver` does the job.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pipelines
from boss.connection import address_of
from box import Box, Range
from command_line import (
    Parser,
    WholeOption,
    block_size_of,
    gib_of,
    names_of,
    pairs_of,
    parameters_of,
    path_of,
    range_of,
    whole_of,
)
from credentials import Token, find_token
from detection import DEFAULT_BLOCK_SIZE, DEFAULT_PULLS
from detection.plan import code_of
from detection.shelf import Part, Phase
from errors import (
    DataError,
    IncompleteError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UnknownNameError,
    UsageError,
    closest,
    exit_codes,
)
from machine import default_cpus
from neurodata_config import read_neurodata_config
from pipelines.contract import Pipeline, check_parameters
from results import mask_names, results_key

__all__ = ["DEFAULT_OUT_COL", "DEFAULT_OUT_EXP", "DEFAULT_PATH", "Job", "job_from", "level_of", "parse_range", "parser"]

DEFAULT_OUT_COL = "collman_nomads"
DEFAULT_OUT_EXP = "nomads_predictions"
DEFAULT_PATH = "./results/"
BUCKET_VARIABLE = "RESULTS_BUCKET"

MOST = 1024
"""Workers, and cutouts in flight, at most: beyond it is a slip of the finger."""

_MOST_PARTS = 1_000_000
"""Parts of a phase, at most: one a block."""

_LONGEST_NAME = 255
"""Bytes of a file's name on the file systems of today."""

INDEX_VARIABLE = "AWS_BATCH_JOB_ARRAY_INDEX"
"""Names the part, in a job of an AWS Batch array."""

PHASES = (*get_args(Phase), "report")
"""What ``--phase`` may say: the phases that are done in parts, and the job that does what remains."""

_AXES = ("z", "y", "x")


_MOST_BYTES = 2**60

_Text = str | None

_KINDS: dict[str, Any] = {
    "host": str,
    "token": Token,
    "collection": str,
    "experiment": str,
    "box": Box,
    "channels": Mapping,
    "bucket": _Text,
    "acl": _Text,
    "out_collection": str,
    "out_experiment": str,
    "fresh": bool,
    "push": bool,
    "plots": bool,
    "overwrite": bool,
    "shared": _Text,
    "part": Part | None,
}
"""What the fields of a job are: a program may put anything there."""


def _of_no_kind(name: str, value: object) -> UsageError:
    """Return the error of a field that holds something else than it can."""
    return UsageError(
        f"{name} of a job", f"it is of the type {type(value).__name__}", "See job.Job for what each field holds"
    )


def _texts(name: str, values: Any) -> tuple[str, ...]:
    """Return names as a tuple; one text is not its letters."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(each, str) for each in values):
        raise UsageError(f"{name} {values!r:.100}", "it holds something else than texts", "Give names as texts")
    return tuple(values)


def _no_text(name: str, number: object) -> object:
    """Refuse a number as text: the command line reads it, and a program has numbers."""
    if isinstance(number, str):
        raise _of_no_kind(name, number)
    return number


def _extents(size: Any) -> tuple[int, int, int]:
    """Return a block size as three whole numbers."""
    try:
        z, y, x = (whole_of("block size", _no_text("block_size", n), 1, 2**31 - 1) for n in size)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"block size {size!r:.100}", "it is not three extents from 1 upwards", "Give z, y, x"
        ) from error
    return (z, y, x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to read, which pipeline to run, and where the results go.

    Parameters
    ----------
    host : str
        BOSS: a host name, or a URL with its scheme.
    token : Token
        The token; it shows nowhere.
    collection, experiment : str
        The volume.
    box : Box
        The requested box.
    pipeline : Pipeline
        The detector, its parameters set.
    channels : mapping of str to str
        Role to channel, as far as the user chose.
    only_channels : tuple of str
        The channels to look at; all image channels where empty.
    feature_channels : tuple of str
        The channels to measure in and round the synapses; all that are looked at where empty.
    path : Path
        Folder that holds the result folders.
    bucket : str or None
        S3 bucket; None uploads nothing.
    acl : str or None
        Canned ACL of the objects, only where the user asked for one.
    out_collection, out_experiment : str
        Where in BOSS the masks go.
    cpus : int
        Worker processes.
    block_size : tuple of int or None
        Largest extent of a block along z, y, x; None for the largest that fit the memory.
    pulls : int
        Cutouts that are asked for at the same time.
    memory_bytes : int or None
        Memory that may be used; None for what the container, or the machine, has.
    cache_bytes : int or None
        Disk that pulled voxels may take; None for no limit.
    fresh : bool
        Whether to start over where an earlier run with the same results key was stopped.
    push, plots : bool
        Whether the masks go to BOSS; whether plots are drawn.
    overwrite : bool
        Whether they may replace masks that another run put there.
    shared : str or None
        ``s3://bucket/prefix`` where the parts of a run leave finished blocks for each other.
    part : Part or None
        The part of the run that this job does; None does the whole, or what the parts left.
    """

    host: str
    token: Token
    collection: str
    experiment: str
    box: Box
    pipeline: Pipeline = field(default_factory=lambda: pipelines.build(pipelines.DEFAULT_PIPELINE, {}))
    channels: Mapping[str, str] = field(default_factory=dict)
    only_channels: tuple[str, ...] = ()
    feature_channels: tuple[str, ...] = ()
    path: Path = Path(DEFAULT_PATH)
    bucket: str | None = None
    acl: str | None = None
    out_collection: str = DEFAULT_OUT_COL
    out_experiment: str = DEFAULT_OUT_EXP
    cpus: int = field(default_factory=default_cpus)
    block_size: tuple[int, int, int] | None = None
    pulls: int = DEFAULT_PULLS
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    fresh: bool = False
    push: bool = True
    plots: bool = True
    overwrite: bool = False
    shared: str | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        """Refuse what no job can be done with, whoever built it."""
        if isinstance(self.pipeline, str):
            # whoever writes a program names a pipeline as on the command line
            object.__setattr__(self, "pipeline", pipelines.build(self.pipeline, {}))
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise _of_no_kind(name, getattr(self, name))
        for name in ("only_channels", "feature_channels"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for role, channel in self.channels.items():
            _texts("channels", (role, channel))
        if not all(hasattr(self.pipeline, part) for part in ("name", "masks", "parameters", "detect")):
            raise _of_no_kind("pipeline", self.pipeline)
        check_parameters(self.pipeline)
        address_of(self.host)
        object.__setattr__(self, "path", path_of("--path", self.path))
        for name in ("cpus", "pulls"):
            object.__setattr__(self, name, whole_of(f"--{name}", _no_text(name, getattr(self, name)), 1, MOST))
        for name in ("memory_bytes", "cache_bytes"):
            number = getattr(self, name)
            if number is not None:
                object.__setattr__(self, name, whole_of(name, _no_text(name, number), 1, _MOST_BYTES))
        if self.block_size is not None:
            object.__setattr__(self, "block_size", _extents(self.block_size))
        if self.shared is not None and self.fresh:
            found = "what is shared stays: a part that began anew would find it there"
            raise UsageError("--fresh with --shared", found, "Begin a run under another --shared")
        if self.shared is not None and self.block_size is None:
            found = "each job would choose blocks that fit its own memory"
            raise UsageError("a run in parts without --block-size", found, "Give all of them one --block-size Z,Y,X")
        mask_names(self.pipeline.name, self.pipeline.masks)
        if len(self.results_key.encode(errors="replace")) > _LONGEST_NAME:
            raise UsageError(
                f"results key {self.results_key}",
                f"a folder's name has at most {_LONGEST_NAME} bytes",
                "Correct --col and --exp: BOSS has no names that long",
            )

    @property
    def results_key(self) -> str:
        """Name of the result folder, of the prefix in S3, and first part of the masks' channels."""
        return results_key(self.pipeline.name, self.collection, self.experiment, self.box)

    def maker(self, roles: Mapping[str, str]) -> str:
        """Say who makes the masks, so that BOSS tells this job, repeated, from one whose masks may differ.

        Parameters
        ----------
        roles : mapping of str to str
            Role to channel.

        Returns
        -------
        str
            A few words for a channel's description; the same for the same request, parameters and roles, and, where the
            pipeline is the user's own, for the same code of its module.
        """
        hidden = {parameter.name for parameter in self.pipeline.parameters if not parameter.shows}
        settings = {name: value for name, value in self.pipeline.settings.items() if name not in hidden}
        what: list[Any] = [self.results_key, settings, dict(roles)]
        if not pipelines.is_ours(self.pipeline):
            what.append(code_of(self.pipeline))
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.pipeline.name} of nd-synapse on {self.collection}/{self.experiment}, parameters {digest}"

    def measured(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the channels to measure in and round the synapses.

        Parameters
        ----------
        channels : sequence of str
            Those that the job may look at.

        Returns
        -------
        tuple of str
            `feature_channels`, or all.

        Raises
        ------
        UnknownNameError
            If one of `feature_channels` is none of them.
        """
        for channel in self.feature_channels:
            if channel not in channels:
                raise UnknownNameError(
                    f"channel {channel!r} in --feature-channels",
                    f"the image channels are {', '.join(closest(channel, channels)) or 'none'}",
                    "Correct the name",
                )
        return self.feature_channels or tuple(channels)

    def asked(self) -> dict[str, Any]:
        """Return what was asked for as plain values, without the token."""
        return {
            "host": self.host,
            "collection": self.collection,
            "experiment": self.experiment,
            "z_range": list(self.box.z),
            "y_range": list(self.box.y),
            "x_range": list(self.box.x),
            "pipeline": self.pipeline.name,
            "parameters": dict(self.pipeline.settings),
            "channels": dict(self.channels),
            "only_channels": list(self.only_channels),
            "feature_channels": list(self.feature_channels),
            "path": str(self.path),
            "bucket": self.bucket,
            "out_collection": self.out_collection,
            "out_experiment": self.out_experiment,
            "cpus": self.cpus,
            "block_size": None if self.block_size is None else list(self.block_size),
            "pulls": self.pulls,
            "push": self.push,
            "overwrite": self.overwrite,
            "shared": self.shared,
            "plots": self.plots,
        }


def parser() -> Parser:
    """Return the parser of ``driver.py``."""
    p = Parser(
        prog="driver.py",
        description="Find synapses in a box of a BOSS experiment; save, plot, push and upload them.",
        epilog="Ranges are half-open, start,stop in voxels, axes always z, y, x. "
        "`driver.py upload FOLDER --bucket NAME` sends a result folder that could not be uploaded, "
        "`driver.py verify FOLDER` checks one at any later time. The same command goes on where one was stopped. "
        + exit_codes(UsageError, IncompleteError, DataError, UnavailableError, StorageError, PermissionDeniedError),
    )
    volume = p.add_argument_group("what to read")
    volume.add_argument("--host", help="BOSS: a host name (https is meant) or a URL with its scheme")
    volume.add_argument("--col", metavar="NAME", help="collection")
    volume.add_argument("--exp", metavar="NAME", help="experiment")
    for axis in _AXES:
        volume.add_argument(f"--{axis}-range", metavar="START,STOP", help=f"voxels along {axis}, no spaces")
    volume.add_argument("--config", metavar="FILE", help="neurodata.cfg: gives what the options above leave out")
    token = p.add_argument_group("token (the first that is given counts)")
    token.add_argument("--token", help="BOSS token; other users of the machine can see it in the process list")
    token.add_argument(
        "--token-file", metavar="FILE", help="file that holds the token; or BOSS_TOKEN in the environment"
    )
    what = p.add_argument_group("what to do")
    what.add_argument("--pipeline", default=pipelines.DEFAULT_PIPELINE, metavar="NAME", help="default: %(default)s")
    what.add_argument(
        "--list-pipelines", action="store_true", help="list the pipelines; with --pipeline NAME --help: one"
    )
    what.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of the pipeline; @FILE is its text",
    )
    what.add_argument("--channels", metavar="ROLE=NAME,...", help="default: found by the names of markers")
    what.add_argument(
        "--feature-channels",
        metavar="NAME,...",
        help="channels to measure in the synapses; default: all image channels",
    )
    what.add_argument(
        "--cpus",
        action=WholeOption,
        least=1,
        most=MOST,
        metavar="N",
        help="worker processes; default: all cores but one, at least one",
    )
    size = ",".join(map(str, DEFAULT_BLOCK_SIZE))
    what.add_argument("--block-size", metavar="Z,Y,X", help=f"default: the largest that fit the memory, at most {size}")
    what.add_argument(
        "--pulls",
        action=WholeOption,
        least=1,
        most=MOST,
        default=DEFAULT_PULLS,
        metavar="N",
        help="cutouts in flight; default: %(default)s",
    )
    what.add_argument("--memory", metavar="GIB", help="memory to use; default: what the container or machine has")
    what.add_argument(
        "--cache", metavar="GIB", help="disk for pulled voxels; default: no limit; the rest is pulled again"
    )
    what.add_argument("--fresh", action="store_true", help="start over instead of going on where a run was stopped")
    what.add_argument("--dry-run", action="store_true", help="tell what would be done and needed, and do nothing")
    out = p.add_argument_group("where results go")
    out.add_argument("--path", default=DEFAULT_PATH, metavar="FOLDER", help="default: %(default)s")
    out.add_argument(
        "--bucket", metavar="NAME", help=f"S3 bucket; or {BUCKET_VARIABLE} in the environment; else no upload"
    )
    out.add_argument("--acl", metavar="NAME", help="canned ACL of the objects; default: private objects, no ACL sent")
    out.add_argument("--out-col", default=DEFAULT_OUT_COL, metavar="NAME", help="BOSS; default: %(default)s")
    out.add_argument("--out-exp", default=DEFAULT_OUT_EXP, metavar="NAME", help="BOSS; default: %(default)s")
    out.add_argument("--overwrite", action="store_true", help="replace masks in BOSS that another run made")
    out.add_argument("--no-push", action="store_true", help="leave BOSS as it is")
    out.add_argument("--no-upload", action="store_true", help="leave S3 as it is")
    out.add_argument("--no-plots", action="store_true", help="draw no plots and write no report")
    parts = p.add_argument_group("a run in parts (one command a part, and one for what remains; see docs/batch.md)")
    parts.add_argument("--shared", metavar="URL", help="s3://BUCKET/PREFIX, where parts leave finished blocks")
    parts.add_argument(
        "--phase", choices=PHASES, help="what this job does: a part of the counting, of the detection, or what remains"
    )
    parts.add_argument(
        "--shards", action=WholeOption, least=1, most=_MOST_PARTS, metavar="N", help="how many parts the phase has"
    )
    parts.add_argument(
        "--shard",
        action=WholeOption,
        least=0,
        most=_MOST_PARTS - 1,
        metavar="I",
        help=f"which of them, from 0; default: {INDEX_VARIABLE}, or 0",
    )
    add_verbosity(p)
    return p


def add_verbosity(p: argparse.ArgumentParser) -> None:
    """Add ``--verbose`` and ``--quiet`` to a parser."""
    loud = p.add_argument_group("messages").add_mutually_exclusive_group()
    loud.add_argument("--verbose", action="store_true", help="a line for each block too")
    loud.add_argument("--quiet", action="store_true", help="warnings and errors only")


def level_of(options: argparse.Namespace) -> int:
    """Read what `add_verbosity` added.

    Parameters
    ----------
    options : Namespace
        Parsed options.

    Returns
    -------
    int
        The lowest level of messages that is shown.
    """
    return logging.DEBUG if options.verbose else logging.WARNING if options.quiet else logging.INFO


def parse_range(axis: str, text: str | Sequence[int]) -> Range:
    """Read ``start,stop`` (or ``start:stop``).

    Parameters
    ----------
    axis : str
        For the message.
    text : str or sequence of int
        What the user gave.

    Returns
    -------
    tuple of int
        Start and stop; that they make a range is `Box`'s to check.

    Raises
    ------
    UsageError
        If it is not two whole numbers from 0 upwards.
    """
    if not isinstance(text, str):
        text = ",".join(str(end) for end in text)
    return range_of(
        f"--{axis}-range {text}", text, f"Give it as start,stop without spaces, such as --{axis}-range 0,16"
    )


def _part(options: argparse.Namespace, environ: Mapping[str, str]) -> Part | None:
    """Return the part of a run that is asked for."""
    asked = {"--phase": options.phase, "--shards": options.shards, "--shard": options.shard}
    if options.shared is None or options.phase is None:
        given = [name for name, value in asked.items() if value is not None]
        if given:
            lacking = "--shared" if options.shared is None else "--phase"
            raise UsageError(", ".join(given), f"it is of use with {lacking} alone", f"Give {lacking}, too")
        return None
    if options.phase == "report":
        return None
    if options.shards is None:
        raise UsageError(f"--phase {options.phase}", "--shards is not given", "Give the number of parts")
    if options.shard is not None:
        return Part(options.phase, options.shard, options.shards)
    index = environ.get(INDEX_VARIABLE, "0")
    try:
        return Part(options.phase, whole_of(INDEX_VARIABLE, index, 0, _MOST_PARTS - 1), options.shards)
    except UsageError as error:
        raise UsageError(f"{INDEX_VARIABLE}={index}", error.found, "Leave it to AWS Batch, or give --shard") from error


def job_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    """Make a job of parsed options; what they leave out comes from neurodata.cfg.

    Parameters
    ----------
    options : Namespace
        From `parser`.
    environ : mapping
        The environment.

    Returns
    -------
    Job
        Checked as far as that goes without asking BOSS.

    Raises
    ------
    UsageError
        If something is missing, malformed or contradictory.
    """
    config = None if options.config is None else read_neurodata_config(options.config)
    named = {"host": "--host", "collection": "--col", "experiment": "--exp"}
    given = {"host": options.host, "collection": options.col, "experiment": options.exp}
    for axis in _AXES:
        named[f"{axis}_range"] = f"--{axis}-range"
        given[f"{axis}_range"] = getattr(options, f"{axis}_range")
    values: dict[str, Any] = {
        key: getattr(config, key, None) if value is None else value for key, value in given.items()
    }
    missing = [named[key] for key, value in values.items() if value is None]
    if missing:
        raise UsageError("a job", f"{', '.join(missing)} not given", "Give them, or --config neurodata.cfg")
    token = find_token(options.token, options.token_file, environ, config.token if config else None)
    z, y, x = (parse_range(axis, values[f"{axis}_range"]) for axis in _AXES)
    bucket = (environ.get(BUCKET_VARIABLE) or None) if options.bucket is None else options.bucket
    cpus = default_cpus() if options.cpus is None else options.cpus
    return Job(
        host=values["host"],
        token=token,
        collection=values["collection"],
        experiment=values["experiment"],
        box=Box(z, y, x),
        pipeline=pipelines.build(options.pipeline, parameters_of(options.param)),
        channels=pairs_of("--channels", [] if options.channels is None else options.channels.split(","), empty=True),
        only_channels=config.channels if config else (),
        feature_channels=names_of("--feature-channels", options.feature_channels),
        path=path_of("--path", options.path),
        bucket=None if options.no_upload else bucket,
        acl=options.acl,
        out_collection=options.out_col,
        out_experiment=options.out_exp,
        cpus=cpus,
        block_size=None if options.block_size is None else block_size_of(options.block_size),
        pulls=options.pulls,
        memory_bytes=gib_of("--memory", options.memory),
        cache_bytes=gib_of("--cache", options.cache),
        fresh=options.fresh,
        push=not options.no_push,
        overwrite=options.overwrite,
        plots=not options.no_plots,
        shared=options.shared,
        part=_part(options, environ),
    )
