"""The script that submits a planned run to Slurm: its phases, each after the one before."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta
from math import ceil
from pathlib import Path

from batch.phases import LAST, PHASES, Phase
from batch.plan import BatchPlan
from batch.requests import Resources

__all__ = ["slurm_script"]

_HEAD = """#!/bin/bash
# Submits {what}
# to Slurm: {jobs}. nd-synapse batch script printed it.
# Run it where sbatch is; after a failure run it again: finished blocks are kept.
# ND_SYNAPSE is the command in the jobs (default: nd-synapse), such as "apptainer exec image.sif nd-synapse".
# sbatch takes further options from its variables, such as SBATCH_PARTITION and SBATCH_ACCOUNT.
set -euo pipefail
# paths in the options begin here; all machines must have this folder
cd {here}
mkdir -p {log}
"""

_JOB = """
{name}=$(sbatch {options}{after} <<'END-OF-JOB'
#!/bin/bash
{lines}
END-OF-JOB
)
"""

_SCRATCH = """scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
"""


def slurm_script(
    plan: BatchPlan, options: Sequence[str], shared: str, here: Path, path: Path, at_once: int | None
) -> str:
    """Return the script; jobs begin in `here`.

    `at_once` is how many children the service that is read can feed, None any number.
    """
    phases = tuple(plan.times)
    path = here / path
    log = path / "log"
    text = _HEAD.format(
        what=f"{plan.pipeline} on {plan.box}",
        jobs=f"{len(phases) - 2} arrays of {plan.shards:,} children, and two jobs" if plan.shards > 1 else "one job",
        here=shlex.quote(str(here)),
        log=shlex.quote(str(log)),
    )
    for before, phase in zip((None, *phases), phases, strict=False):
        is_array = PHASES[phase].is_array
        resources = plan.child if is_array else plan.report
        words = ["run", *options, *_own(resources, options), "--block-size", ",".join(map(str, plan.block_size))]
        words += ["--shared", shared, "--phase", phase]
        run = f"${{ND_SYNAPSE:-nd-synapse}} {shlex.join(words)}"
        if phase == LAST:
            lines = f"exec {run} --path {shlex.quote(str(path))}"
        else:
            part = ' --shard "$SLURM_ARRAY_TASK_ID"' if is_array else ""
            lines = f'{_SCRATCH}{run} --shards {plan.shards}{part} --path "$scratch"'
        array = _array(plan.shards, at_once) if is_array else None
        text += _JOB.format(
            name=phase,
            options=shlex.join(_sbatch(phase, resources, log, array)),
            after="" if before is None else f' --dependency="afterok:${before}"',
            lines=lines,
        )
    return f'{text}\necho "{", ".join(f"{phase} ${phase}" for phase in phases)}"\n'


def _own(resources: Resources, options: Sequence[str]) -> list[str]:
    """Return what the plan chooses where the user does not."""
    given = {word.partition("=")[0] for word in options}
    chosen = {"--cpus": resources.cpus, "--pulls": resources.pulls}
    return [word for name, value in chosen.items() if name not in given and value for word in (name, str(value))]


def _array(shards: int, at_once: int | None) -> str:
    """Return the numbers of an array, and how many of them run at a time."""
    return f"0-{shards - 1}" + (f"%{at_once}" if at_once is not None and at_once < shards else "")


def _sbatch(phase: Phase, resources: Resources, log: Path, array: str | None) -> list[str]:
    """Return the options of sbatch for a job; one whose dependency fails is removed, and would else wait for ever."""
    return [
        "--parsable",
        "--requeue",
        "--kill-on-invalid-dep=yes",
        f"--job-name=nd-synapse-{phase}",
        *([] if array is None else [f"--array={array}"]),
        "--ntasks=1",
        f"--cpus-per-task={resources.cpus}",
        f"--mem={resources.memory_mib}M",
        f"--time={ceil(timedelta(seconds=resources.timeout_s) / timedelta(minutes=1))}",
        f"--output={log}/{phase}-{'%j' if array is None else '%A_%a'}.txt",
    ]
