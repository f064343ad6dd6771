"""The command lines of ``nd-synapse batch``, and which of their options go on into a container."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch.phases import PHASES
from batch.retry import ATTEMPTS, COMPUTE, MOST_ATTEMPTS, Compute
from batch.shards import MOST_CHILDREN
from nd_synapse import logs
from nd_synapse.cli.options import add_verbosity, level_of
from nd_synapse.cli.run_options import job_from, parser, speeds_from
from nd_synapse.console.parser import Parser, add_number
from nd_synapse.detection.speeds import Speeds
from nd_synapse.errors import REMOTE, UsageError, exit_codes
from nd_synapse.job.job import Job
from nd_synapse.redaction import is_known_in
from nd_synapse.sources.location import is_local
from nd_synapse.values import parse_assignments

if TYPE_CHECKING:
    from batch.plan import BatchPlan

__all__ = [
    "COMMANDS",
    "PLANNED",
    "Requested",
    "for_container",
    "for_script",
    "parser_of",
    "requested_run",
    "without_secrets",
]

COMMANDS = {
    "plan": "print what a run would do, need and cost, and do nothing",
    "script": "print the script that submits a run to the scheduler of a cluster",
    "submit": "submit a run",
    "status": "print the state of a run, and its cost until now",
    "logs": "print the last lines that containers of a run wrote",
    "cancel": "terminate a run; finished blocks are kept",
    "resume": "submit what is missing of a run",
}

PLANNED = ("plan", "script", "submit")
"""Commands that take the options of a run, too."""

_LEAST_MIB, _MOST_MIB = 512, 32 * 2**20
"""Memory of a container: less is too little to start, and no machine has more."""

_MOST_LINES = 10_000

_REST = """All other options are those of `nd-synapse run`: what to read, which pipeline, where results go.
The volume is opened for the plan, with a token from BOSS_TOKEN or --token-file; {jobs}.
"""
_TOKENS = {"script": "the jobs\ntake theirs from there, too", "": "the containers\ntake theirs from Secrets Manager"}


def parser_of(command: str) -> Parser:
    """Return the parser of a command, without the options of a run."""
    p = Parser(
        prog=f"nd-synapse batch {command}",
        description=f"{COMMANDS[command][0].upper()}{COMMANDS[command][1:]}.",
        epilog=exit_codes(*REMOTE),
    )
    if command in PLANNED:
        p.appendix = _REST.format(jobs=_TOKENS.get(command, _TOKENS[""]))
        add_number(p, "--shards", 1, MOST_CHILDREN, "children of each array; default: as planned")
    else:
        p.add_argument("run", metavar="RUN", help="address of the run, s3://BUCKET/PREFIX, as submit printed it")
        add_verbosity(p)
    if command == "plan":
        choices = [name.lower() for name in COMPUTE]
        p.add_argument("--compute", choices=choices, default="ec2", help="default: %(default)s")
        p.add_argument("--json", action="store_true", help="JSON instead of text")
    if command == "script":
        p.add_argument("--scheduler", required=True, choices=["slurm"], help="for which the script is")
        where = "folder that all machines have, or s3://BUCKET/PREFIX, where jobs leave finished blocks"
        p.add_argument("--shared", required=True, metavar="URL", help=where)
    if command == "submit":
        _add_submission(p)
    if command in ("submit", "resume"):
        add_number(p, "--memory-mib", _LEAST_MIB, _MOST_MIB, "memory of each container; default: as planned")
        p.add_argument("--yes", action="store_true", help="do not ask")
    if command == "logs":
        p.add_argument("--phase", choices=list(PHASES), help="default: all")
        add_number(p, "--shard", 0, MOST_CHILDREN - 1, "a child; default: those that failed")
        add_number(p, "--lines", 1, _MOST_LINES, "lines a container; default: %(default)s", default=20)
    if command == "resume":
        p.add_argument("--job-definition", metavar="NAME", help="with a corrected image; default: that of the run")
        p.add_argument("--report-only", action="store_true", help="submit the report only, which computes the rest")
    return p


def _add_submission(p: Parser) -> None:
    """Add the options of a submission."""
    p.add_argument("--queue", required=True, metavar="NAME", help="job queue")
    p.add_argument("--job-definition", required=True, metavar="NAME", help="its name, NAME:REVISION, or ARN")
    p.add_argument("--run-bucket", required=True, metavar="NAME", help="bucket of finished blocks and of the record")
    p.add_argument("--run-prefix", default="runs", metavar="PREFIX", help="default: %(default)s")
    p.add_argument("--run", metavar="NAME", help="name of the run; default: the time and four digits")
    p.add_argument("--secret", metavar="ARN", help="secret with the token; default: that of the job definition")
    add_number(p, "--attempts", 1, MOST_ATTEMPTS, "starts of a job; default: %(default)s", default=ATTEMPTS)
    p.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="tag of all jobs; repeatable")


@dataclass(frozen=True, slots=True)
class Requested:
    """The run that a command line requests."""

    ours: argparse.Namespace
    """Options of Batch."""
    words: list[str]
    """Options of the run."""
    job: Job
    cpus: int | None
    """Workers, if the user gives them: those of `job` fit this machine."""
    speeds: Speeds

    def plan(self, compute: Compute) -> BatchPlan:
        """Open the volume and plan its run."""
        from batch.planning import plan_of  # intern is imported only where it is used

        return plan_of(self.job, self.job.open_source(), compute, self.ours.shards, self.cpus, self.speeds)


def requested_run(command: str, argv: Sequence[str], environ: Mapping[str, str]) -> Requested:
    """Parse the command line of `plan` or `submit`, and set up logging."""
    # options that are not ours are parsed by the parser of a run
    own, run = parser_of(command), parser()
    run.others = own.option_names
    ours, words = own.parse_known_args(argv)
    options = run.parse_args(words)
    job = job_from(options, environ)
    logs.apply(logs.LogSettings(level_of(options)))
    return Requested(ours, words, job, options.cpus, speeds_from(options))


_MINE = "the run sets it itself"
_HERE = "it names a file of this machine, which containers do not have"

_NEVER = {
    "--dry-run": "`nd-synapse batch plan` does that",
    "--list-pipelines": "`nd-synapse pipelines` does that",
    "--fresh": "every run starts from the beginning, unless it is resumed",
    "--phase": _MINE,
    "--shard": _MINE,
    "--shared": _MINE,
}
"""Options of a run that are impossible for one in parts, and why."""

_NOT_ON_BATCH = {
    "--token": "everyone who may describe the job could read it; Secrets Manager has the token of a job definition",
    "--config": _HERE,
    "--path": "the files of a container are lost with it; results go to S3",
}

_PLANNED_WITH = ("--block-size", "--calibrate")
"""Options that are used here: the plan sets the size of the blocks."""

_NOT_IN_A_SCRIPT = {"--token": "everyone who may read the script could read it; use BOSS_TOKEN or --token-file"}


def for_container(words: Sequence[str], bucket: str | None) -> tuple[str, ...]:
    """Return the options of the job in a container."""
    kept: list[str] = []
    # the token opens the volume for the plan
    for option, value in _kept(words, "on AWS Batch", _NEVER | _NOT_ON_BATCH, ("--token-file", *_PLANNED_WITH)):
        uri = value if option == "--source" else (value or "").partition("=")[2] if option == "--channel" else None
        if uri is not None and is_local(uri):
            raise UsageError(f"{option} on AWS Batch", _HERE, "Copy the volume to S3, and give its s3:// address")
        if option == "--out" and value is not None and "s3://" not in value:
            raise UsageError(f"{option} on AWS Batch", _HERE, "Give an s3:// address")
        kept += [option] if value is None else [option, value]
    if bucket is not None and "--bucket" not in kept and "--no-upload" not in kept:
        kept += ["--bucket", bucket]
    return tuple(kept)


def for_script(words: Sequence[str]) -> tuple[str, ...]:
    """Return the options of all jobs of a cluster."""
    kept = _kept(words, "in a script", _NEVER | _NOT_IN_A_SCRIPT, ("--path", *_PLANNED_WITH))
    return tuple(word for pair in kept for word in pair if word is not None)


def _kept(
    words: Sequence[str], where: str, refused: Mapping[str, str], taken_out: Sequence[str]
) -> Iterator[tuple[str, str | None]]:
    """Yield the options that go on into a job, with their values, and no secret among them."""
    for option, value in _pairs(words):
        if option in refused:
            raise UsageError(f"{option} {where}", refused[option], "Leave it out")
        if option in taken_out:
            continue
        if option == "--param" and value is not None:
            ((name, text),) = parse_assignments([value]).items()
            value = f"{name}={text}"
        without_secrets(option, [] if value is None else [value], where)
        yield option, value


def without_secrets(option: str, values: list[str], where: str = "on AWS Batch") -> list[str]:
    """Return values that a job description will show; refuse a secret of this machine in them."""
    if any(map(is_known_in, values)):
        found = "a secret of this machine is in it, and everyone who may describe the job could read it"
        raise UsageError(f"{option} {where}", found, "Leave it out")
    return values


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield options with their values; no option has more than one."""
    rest = list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if equals:
            yield option, value
        elif rest and not rest[0].startswith("--"):
            yield option, rest.pop(0)
        else:
            yield option, None
