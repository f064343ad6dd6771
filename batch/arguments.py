"""The command lines of ``nd-synapse batch``, and a run to come as one of them asks for it.

It submits nothing; what an option of ``driver.py`` means is `job_options`'s.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batch.planning import BatchPlan, plan_of
from batch.retry import ATTEMPTS, COMPUTE, MOST_ATTEMPTS, Compute
from batch.shards import MOST_CHILDREN
from nd_synapse import logs
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.cli.options import add_verbosity, level_of
from nd_synapse.cli.run_options import job_from, parser
from nd_synapse.console.parser import IntOption, Parser
from nd_synapse.errors import DataError, PermissionDeniedError, StorageError, UnavailableError, UsageError, exit_codes
from nd_synapse.job.job import Job

__all__ = ["COMMANDS", "Asked", "asked_for", "parser_of"]

COMMANDS = {
    "plan": "tell what a run would do, need and cost, and do nothing",
    "submit": "submit a run",
    "status": "tell how a run fares, and what it cost",
    "logs": "show the last lines that containers of a run wrote",
    "cancel": "end a run before its end; what is finished is kept",
    "resume": "submit what is missing of a run",
}

_PLANNED = ("plan", "submit")
"""Commands that take the options of ``driver.py``, too."""

_LEAST_MIB, _MOST_MIB = 512, 32 * 2**20
"""Memory of a container: with less nothing runs, and no machine has more."""

_MOST_LINES = 10_000

_REST = """All other options are those of nd-synapse run: what to read, which pipeline, where results go. The
volume is opened for the plan, with a token from BOSS_TOKEN or --token-file; the containers have
theirs from Secrets Manager.
"""


def parser_of(command: str) -> Parser:
    """Return the parser of a command; it does not know those options that are ``driver.py``'s."""
    p = Parser(
        prog=f"nd-synapse batch {command}",
        description=f"{COMMANDS[command][0].upper()}{COMMANDS[command][1:]}.",
        epilog=exit_codes(UsageError, DataError, UnavailableError, StorageError, PermissionDeniedError),
    )
    if command in _PLANNED:
        p.appendix = _REST
        p.add_argument(
            "--shards",
            action=IntOption,
            least=1,
            most=MOST_CHILDREN,
            metavar="N",
            help="children of each array; default: as many as the plan says",
        )
    else:
        p.add_argument("run", metavar="RUN", help="address of the run, s3://BUCKET/PREFIX, as submit printed it")
    if command == "plan":
        p.add_argument(
            "--compute", choices=[name.lower() for name in COMPUTE], default="ec2", help="default: %(default)s"
        )
        p.add_argument("--json", action="store_true", help="JSON instead of text")
    if command == "submit":
        _add_submission(p)
    if command in ("submit", "resume"):
        p.add_argument(
            "--memory-mib",
            action=IntOption,
            least=_LEAST_MIB,
            most=_MOST_MIB,
            metavar="N",
            help="memory of each container, instead of the planned",
        )
        p.add_argument("--yes", action="store_true", help="do not ask")
    if command == "logs":
        p.add_argument("--phase", choices=["statistics", "detection", "report"], help="default: all")
        p.add_argument(
            "--shard",
            action=IntOption,
            least=0,
            most=MOST_CHILDREN - 1,
            metavar="I",
            help="default: the children that failed",
        )
        p.add_argument(
            "--lines",
            action=IntOption,
            least=1,
            most=_MOST_LINES,
            default=20,
            metavar="N",
            help="of each container; default: %(default)s",
        )
    if command == "resume":
        p.add_argument(
            "--job-definition", metavar="NAME", help="another one, with a mended image; default: that of the run"
        )
        p.add_argument(
            "--report-only", action="store_true", help="submit the report alone, which does itself what is missing"
        )
    if command not in _PLANNED:
        add_verbosity(p)
    return p


def _add_submission(p: Parser) -> None:
    """Add what only a submission needs."""
    p.add_argument("--queue", required=True, metavar="NAME", help="job queue")
    p.add_argument("--job-definition", required=True, metavar="NAME", help="its name, NAME:REVISION, or ARN")
    p.add_argument("--run-bucket", required=True, metavar="NAME", help="bucket of finished blocks and of the record")
    p.add_argument("--run-prefix", default="runs", metavar="PREFIX", help="default: %(default)s")
    p.add_argument("--run", metavar="NAME", help="name of the run; default: the time and four digits")
    p.add_argument("--secret", metavar="ARN", help="secret with the token; default: that of the job definition")
    p.add_argument(
        "--attempts",
        action=IntOption,
        least=1,
        most=MOST_ATTEMPTS,
        default=ATTEMPTS,
        metavar="N",
        help="how often a job is begun; default: %(default)s",
    )
    p.add_argument(
        "--tag", action="append", default=[], metavar="NAME=VALUE", help="tag of all jobs, for the bill; repeatable"
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A run to come, as it was asked for.

    Parameters
    ----------
    ours : Namespace
        The options that are Batch's.
    words : list of str
        Those of ``driver.py``.
    job : Job
        What these mean.
    cpus : int or None
        Workers, if the user says how many: the job itself has as many as this machine bears.
    """

    ours: argparse.Namespace
    words: list[str]
    job: Job
    cpus: int | None

    def plan(self, compute: Compute) -> BatchPlan:
        """Open the volume and plan its run."""
        job = self.job
        z, y, x = job.box.ranges
        source = NeuroDataResource(
            job.host, job.token, job.collection, job.experiment, list(job.only_channels), x, y, z
        )
        return plan_of(job, source, compute, self.ours.shards, self.cpus)


def asked_for(command: str, argv: Sequence[str], environ: Mapping[str, str]) -> Asked:
    """Parse the command line of a run to come, and log from now on as it says."""
    # what is none of our options is looked at by the parser of driver.py
    own, run = parser_of(command), parser()
    run.others = own.option_names
    ours, words = own.parse_known_args(argv)
    options = run.parse_args(words)
    job = job_from(options, environ)
    logs.apply(logs.LogSettings(level_of(options), (job.token,)))
    return Asked(ours, words, job, options.cpus)
