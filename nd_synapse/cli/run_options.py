"""The options of a job: the command line, what it leaves to the environment and neurodata.cfg.

It reads no voxel and contacts no service; what comes of it is a `Job`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from nd_synapse import logs
from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE, DEFAULT_PULLS
from nd_synapse.blocks.shared_store import Part, Phase
from nd_synapse.config import read_neurodata_config
from nd_synapse.console.parser import IntOption, Parser, add_verbosity
from nd_synapse.credentials import TOKEN_VARIABLE, Token, find_token
from nd_synapse.errors import (
    DataError,
    IncompleteError,
    PermissionDeniedError,
    StorageError,
    UnavailableError,
    UsageError,
    exit_codes,
)
from nd_synapse.geometry import Box, Range
from nd_synapse.job.job import BUCKET_VARIABLE, DEFAULT_OUT_COL, DEFAULT_OUT_EXP, DEFAULT_PATH, MOST, Job
from nd_synapse.machine import default_cpus
from nd_synapse.pipeline import registry
from nd_synapse.values import (
    parse_assignments,
    parse_block_size,
    parse_gib,
    parse_int,
    parse_names,
    parse_pairs,
    parse_path,
    parse_range,
)

__all__ = ["INDEX_VARIABLE", "PHASES", "job_from", "parse_axis_range", "parser"]

_MOST_PARTS = 1_000_000
"""Parts of a phase, at most: one a block."""

INDEX_VARIABLE = "AWS_BATCH_JOB_ARRAY_INDEX"
"""Names the part, in a job of an AWS Batch array."""

PHASES = (*get_args(Phase), "report")
"""What ``--phase`` may say: the phases that are done in parts, and the job that does what remains."""

_AXES = ("z", "y", "x")


def parser(prog: str = "nd-synapse run") -> Parser:
    """Return the parser of a job."""
    p = Parser(
        prog=prog,
        description="Find synapses in a box of a BOSS experiment; save, plot, push and upload them.",
        epilog="Ranges are half-open, start,stop in voxels, axes always z, y, x. "
        "`nd-synapse upload FOLDER --bucket NAME` sends a result folder that could not be uploaded, "
        "`nd-synapse verify FOLDER` checks one at any later time. The same command goes on where one was stopped. "
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
    what.add_argument("--pipeline", default=registry.DEFAULT_PIPELINE, metavar="NAME", help="default: %(default)s")
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
        action=IntOption,
        least=1,
        most=MOST,
        metavar="N",
        help="worker processes; default: all cores but one, at least one",
    )
    size = ",".join(map(str, DEFAULT_BLOCK_SIZE))
    what.add_argument("--block-size", metavar="Z,Y,X", help=f"default: the largest that fit the memory, at most {size}")
    what.add_argument(
        "--pulls",
        action=IntOption,
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
        "--shards", action=IntOption, least=1, most=_MOST_PARTS, metavar="N", help="how many parts the phase has"
    )
    parts.add_argument(
        "--shard",
        action=IntOption,
        least=0,
        most=_MOST_PARTS - 1,
        metavar="I",
        help=f"which of them, from 0; default: {INDEX_VARIABLE}, or 0",
    )
    add_verbosity(p)
    return p


def parse_axis_range(axis: str, text: str | Sequence[int]) -> Range:
    """Read ``start,stop`` (or ``start:stop``)."""
    if not isinstance(text, str):
        text = ",".join(str(end) for end in text)
    return parse_range(
        f"--{axis}-range {text}", text, f"Give it as start,stop without spaces, such as --{axis}-range 0,16"
    )


def _part(options: argparse.Namespace, environ: Mapping[str, str]) -> Part | None:
    """Return the part of a run that is asked for."""
    requested = {"--phase": options.phase, "--shards": options.shards, "--shard": options.shard}
    if options.shared is None or options.phase is None:
        given = [name for name, value in requested.items() if value is not None]
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
        return Part(options.phase, parse_int(INDEX_VARIABLE, index, 0, _MOST_PARTS - 1), options.shards)
    except UsageError as error:
        raise UsageError(f"{INDEX_VARIABLE}={index}", error.found, "Leave it to AWS Batch, or give --shard") from error


def _token(options: argparse.Namespace, environ: Mapping[str, str]) -> Token | None:
    """Return the token, unless neurodata.cfg alone may have it; what is told from here on is told without it."""
    if options.token is None and options.token_file is None and not environ.get(TOKEN_VARIABLE):
        return None
    token = find_token(options.token, options.token_file, environ, None)
    logs.hide(token)
    return token


def job_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    """Make a job of parsed options; what they leave out comes from neurodata.cfg."""
    token = _token(options, environ)
    config = None if options.config is None else read_neurodata_config(options.config)
    if token is None and config is not None and config.token is not None:
        token = find_token(None, None, {}, config.token)
        logs.hide(token)
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
    if token is None:
        token = find_token(None, None, environ, None)
    z, y, x = (parse_axis_range(axis, values[f"{axis}_range"]) for axis in _AXES)
    bucket = (environ.get(BUCKET_VARIABLE) or None) if options.bucket is None else options.bucket
    cpus = default_cpus() if options.cpus is None else options.cpus
    return Job(
        host=values["host"],
        token=token,
        collection=values["collection"],
        experiment=values["experiment"],
        box=Box(z, y, x),
        pipeline=registry.build(options.pipeline, parse_assignments(options.param)),
        channels=parse_pairs("--channels", [] if options.channels is None else options.channels.split(","), empty=True),
        only_channels=config.channels if config else (),
        feature_channels=parse_names("--feature-channels", options.feature_channels),
        path=parse_path("--path", options.path),
        bucket=None if options.no_upload else bucket,
        acl=options.acl,
        out_collection=options.out_col,
        out_experiment=options.out_exp,
        cpus=cpus,
        block_size=None if options.block_size is None else parse_block_size(options.block_size),
        pulls=options.pulls,
        memory_bytes=parse_gib("--memory", options.memory),
        cache_bytes=parse_gib("--cache", options.cache),
        fresh=options.fresh,
        push=not options.no_push,
        overwrite=options.overwrite,
        plots=not options.no_plots,
        shared=options.shared,
        part=_part(options, environ),
    )
