"""The memory that some statements take, measured in a process of their own that cannot take the machine's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

__all__ = ["MIB", "Ended", "run_alone"]

MIB = 2**20

_CHILD = """
import resource
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
from nd_synapse.errors import NDSynapseError

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

{setup}
before = peak()
said = ""
try:
{statements}
except NDSynapseError as error:
    said = f"{{type(error).__name__}}: {{error}}"
print(peak() - before)
print(said)
"""


@dataclass(frozen=True)
class Ended:
    """What became of the statements: by how much the largest resident memory grew, and the error of ours, if any."""

    grown_bytes: int
    error: str


def run_alone(setup: str, statements: str, folder: Path, limit_bytes: int = 3 * 2**30) -> Ended:
    """Run statements after a set-up, in a child whose address space is limited; `folder` is a Path in both.

    Whatever is raised in it and is no error of ours fails.
    """
    indented = "".join(f"    {line}\n" for line in statements.strip().splitlines())
    folded = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{setup}"
    program = _CHILD.format(limit=limit_bytes, setup=folded, statements=indented)
    # threads that were never asked for would take most of the address space
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=REPOSITORY,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grown, said = done.stdout.split("\n")[-3:-1]
    return Ended(int(grown), said)
