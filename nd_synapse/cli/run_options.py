"""The options of a job: the command line, and what it leaves to the environment and neurodata.cfg."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, get_args

from nd_synapse.blocks.grid import DEFAULT_BLOCK_SIZE
from nd_synapse.blocks.shared_store import Part, Phase
from nd_synapse.cli.array_index import array_index
from nd_synapse.cli.options import (
    add_blocks,
    add_pipeline,
    add_ranges,
    add_source,
    add_token,
    add_verbosity,
    add_workers,
    boss_volume_of,
    location_of,
)
from nd_synapse.config import NeurodataConfig, read_neurodata_config
from nd_synapse.console.parser import Parser, add_number, add_value
from nd_synapse.credentials import TOKEN_VARIABLE, Token, find_token
from nd_synapse.detection.speeds import ASSUMED, Speeds
from nd_synapse.errors import REMOTE, IncompleteError, UsageError, exit_codes
from nd_synapse.geometry import Box
from nd_synapse.job.calibration import read_speeds
from nd_synapse.job.job import BUCKET_VARIABLE, DEFAULT_OUT_COL, DEFAULT_OUT_EXP, DEFAULT_PATH, Job
from nd_synapse.machine import default_cpus
from nd_synapse.pipeline import registry
from nd_synapse.redaction import hide
from nd_synapse.values import parse_assignments, parse_gib, parse_names, parse_path

__all__ = ["PHASES", "job_from", "parser", "speeds_from"]

_MOST_PARTS = 1_000_000
"""Parts of a phase, at most: one for each block."""

PHASES = (*get_args(Phase), "report")

_RARE = (
    *("--list-pipelines", "--calibrate", "--feature-channels", "--block-size", "--pulls", "--cache"),
    *("--channel", "--resolution", "--scale-float", "--name", "--config", "--token", "--overwrite"),
    *(
        "--acl",
        "--out",
        "--push-labels",
        "--out-col",
        "--out-exp",
        "--no-plots",
        "--shared",
        "--phase",
        "--shards",
        "--shard",
    ),
)


def parser(prog: str = "nd-synapse run") -> Parser:
    """Return the parser of a job."""
    p = Parser(
        prog=prog,
        rare=_RARE,
        usage="%(prog)s --source URI [options]\n       %(prog)s --host HOST --col NAME --exp NAME "
        "--z-range START,STOP\n       --y-range START,STOP --x-range START,STOP [options]",
        description="Find synapses in a volume in files, in a bucket or in BOSS; save, plot, push and upload them.",
        epilog="Axes are always z, y, x. Ranges are half-open, in voxels: 0,8 or 0:8 is the slices 0 to 7. The same "
        "command resumes a run that was stopped. " + exit_codes(IncompleteError, *REMOTE),
    )
    volume = p.add_argument_group("what to read")
    add_source(volume)
    volume.add_argument("--host", help="BOSS: a host name (for https) or a URL with its scheme")
    volume.add_argument("--col", metavar="NAME", help="collection")
    volume.add_argument("--exp", metavar="NAME", help="experiment")
    add_ranges(volume, "voxels along {}, such as 0,8 or 0:8; default with --source: all")
    volume.add_argument("--config", metavar="FILE", help="neurodata.cfg: for options above that are not given")
    add_token(volume)
    _add_work(p)
    _add_results(p)
    add_verbosity(p)
    return p


def _add_work(p: Parser) -> None:
    """Add the pipeline and how it is run."""
    what = p.add_argument_group("what to do")
    add_pipeline(what)
    what.add_argument("--list-pipelines", action="store_true", help="list the pipelines; nd-synapse pipelines does too")
    add_value(
        what,
        "--feature-channels",
        parse_names,
        "channels to measure in the synapses; default: all image channels",
        metavar="NAME,...",
        default=(),
    )
    add_workers(what)
    size = ",".join(map(str, DEFAULT_BLOCK_SIZE))
    add_blocks(what, None, f"the largest that fit the memory, at most {size}")
    add_value(
        what,
        "--cache",
        parse_gib,
        "disk for voxels that were read, the rest is read again; default: no limit",
        metavar="GIB",
    )
    what.add_argument("--fresh", action="store_true", help="start over instead of resuming a stopped run")
    what.add_argument("--dry-run", action="store_true", help="print the plan and what it needs, and do nothing")
    help_ = "result folder or run.json of a run, whose speeds the plan takes in place of assumptions"
    add_value(what, "--calibrate", parse_path, help_, metavar="RUN")


def _add_results(p: Parser) -> None:
    """Add where results go, and the parts of a run."""
    out = p.add_argument_group("where results go")
    add_value(out, "--path", parse_path, "default: %(default)s", metavar="FOLDER", default=DEFAULT_PATH)
    out.add_argument(
        "--bucket", metavar="NAME", help=f"S3 bucket; default: {BUCKET_VARIABLE} in the environment, or none"
    )
    out.add_argument(
        "--out",
        metavar="URI",
        help="a folder or s3://BUCKET/PATH that gets labels, mask and points as well, or"
        " precomputed:// before it for a segmentation",
    )
    out.add_argument("--acl", metavar="NAME", help="canned ACL of the objects; default: private objects, no ACL sent")
    out.add_argument(
        "--out-col", default=DEFAULT_OUT_COL, metavar="NAME", help="collection of the masks; default: %(default)s"
    )
    out.add_argument(
        "--out-exp", default=DEFAULT_OUT_EXP, metavar="NAME", help="experiment of the masks; default: %(default)s"
    )
    out.add_argument("--overwrite", action="store_true", help="replace masks in BOSS that another run made")
    out.add_argument("--no-push", action="store_true", help="write no masks to BOSS")
    out.add_argument(
        "--push-labels", action="store_true", help="write the ids to BOSS, too: an annotation channel of uint64"
    )
    out.add_argument("--no-upload", action="store_true", help="upload nothing to S3")
    out.add_argument("--no-plots", action="store_true", help="draw no plots and write no report")
    parts = p.add_argument_group("a run in parts (docs/batch.md, docs/clusters.md)")
    parts.add_argument(
        "--shared", metavar="URL", help="s3://BUCKET/PREFIX or a folder, where parts leave finished blocks"
    )
    parts.add_argument("--phase", choices=PHASES, help="phase of which this job does a part; report: all that remains")
    add_number(parts, "--shards", 1, _MOST_PARTS, "parts of the phase, as many in every phase")
    add_number(
        parts,
        "--shard",
        0,
        _MOST_PARTS - 1,
        "number of this part, from 0; default: that of the array of AWS Batch, Slurm, Grid Engine or PBS",
        metavar="I",
    )


def _part(options: argparse.Namespace, environ: Mapping[str, str]) -> Part | None:
    """Return the part of a run that is requested."""
    requested = {"--phase": options.phase, "--shards": options.shards, "--shard": options.shard}
    if options.shared is None or options.phase is None:
        given = [name for name, value in requested.items() if value is not None]
        if given:
            lacking = "--shared" if options.shared is None else "--phase"
            raise UsageError(", ".join(given), f"{lacking} is not given", f"Give {lacking}, too")
        return None
    if options.phase == "report":
        return None
    if options.phase == "join":
        # it may know how many parts counted, so that it learns from their sums
        return Part(options.phase, 0, options.shards or 1)
    if options.shards is None:
        raise UsageError(f"--phase {options.phase}", "--shards is not given", "Give the number of parts")
    index = array_index(environ, options.shards) if options.shard is None else options.shard
    if index is None and options.shards > 1:
        raise UsageError(f"--phase {options.phase}", "no scheduler gives this part its number", "Give --shard")
    return Part(options.phase, index or 0, options.shards)


def _given_token(options: argparse.Namespace, environ: Mapping[str, str]) -> Token | None:
    """Return the token of the command line or the environment, None if only neurodata.cfg may have it."""
    if options.token is None and options.token_file is None and not environ.get(TOKEN_VARIABLE):
        return None
    return find_token(options.token, options.token_file, environ, None)


def _volume(options: argparse.Namespace, config: NeurodataConfig | None, token: Token | None) -> dict[str, Any]:
    """Return the fields of a job that say what to read."""
    z, y, x = (getattr(options, f"{axis}_range") or getattr(config, f"{axis}_range", None) for axis in "zyx")
    if (options.source or options.channel) and (options.host or options.col or options.exp):
        raise UsageError("--source with --host, --col or --exp", "each names a volume", "Give one of them")
    named = boss_volume_of(options)
    location = None if named else location_of(options, config)
    if location is not None:
        from nd_synapse.sources.source import box_of  # files are opened only where they are read

        return {"source": location, "box": box_of(location, (z, y, x)), "token": Token(Token.PUBLIC)}
    if named is not None:
        from nd_synapse.job.in_boss import fields_of

        return fields_of(*named, token, (z, y, x), options.resolution or 0)
    given: dict[str, Any] = {
        option: getattr(config, field, None) if getattr(options, option) is None else getattr(options, option)
        for option, field in {"host": "host", "col": "collection", "exp": "experiment"}.items()
    }
    given |= {"z-range": z, "y-range": y, "x-range": x}
    missing = [f"--{option}" for option, value in given.items() if value is None]
    if missing or z is None or y is None or x is None:
        raise UsageError(
            "a job", f"{', '.join(missing)} not given", "Give them, or --source, or --config neurodata.cfg"
        )
    resolution = options.resolution if options.resolution is not None else config.resolution if config else 0
    names = {"host": given["host"], "collection": given["col"], "experiment": given["exp"], "resolution": resolution}
    return {**names, "box": Box(z, y, x)}


def speeds_from(options: argparse.Namespace) -> Speeds:
    """Return the speeds that a plan assumes, or those of the run that it is calibrated with."""
    return ASSUMED if options.calibrate is None else read_speeds(options.calibrate)


def job_from(options: argparse.Namespace, environ: Mapping[str, str]) -> Job:
    """Return the job of parsed options; what they leave out comes from neurodata.cfg."""
    # first of all, and hidden at once, so that no message below shows it
    token = _given_token(options, environ)
    if token is not None:
        hide(token)
    config = None if options.config is None else read_neurodata_config(options.config)
    if token is None and config is not None and config.token is not None:
        token = config.token
        hide(token)
    bucket = (environ.get(BUCKET_VARIABLE) or None) if options.bucket is None else options.bucket
    volume = _volume(options, config, token)
    known = volume.pop("token", None)
    return Job(
        **volume,
        pipeline=registry.build(options.pipeline or registry.DEFAULT_PIPELINE, parse_assignments(options.param)),
        channels=options.channels,
        only_channels=config.channels if config else (),
        feature_channels=options.feature_channels,
        path=parse_path("--path", options.path),
        bucket=None if options.no_upload else bucket,
        acl=options.acl,
        out=options.out,
        out_collection=options.out_col,
        out_experiment=options.out_exp,
        cpus=default_cpus() if options.cpus is None else options.cpus,
        block_size=options.block_size,
        pulls=options.pulls,
        memory_bytes=options.memory,
        cache_bytes=options.cache,
        fresh=options.fresh,
        push=False if options.no_push else None,
        push_labels=options.push_labels,
        overwrite=options.overwrite,
        plots=not options.no_plots,
        shared=options.shared,
        part=_part(options, environ),
        # last, so that a wrong range or parameter is reported before a missing token
        token=known or find_token(None, None, {}, token),
    )
