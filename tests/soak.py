"""``python -m tests.soak`` runs small jobs, one after another, against a server with faults, and looks for what grows.

That is memory, open files and threads of the job's process and of the server's, and temporary files.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import driver
from nd_synapse.errors import NDSynapseError
from tests.fixtures_boss import BossServer, fill, spots, start_boss

SHAPE = (4, 64, 64)
FAULTS = {
    "seed": 11,
    "rules": [
        {"fault": "503", "on": "any", "probability": 0.01, "times": None},
        {"fault": "reset", "on": "any", "probability": 0.01, "times": None},
        {"fault": "truncated", "on": "cutout-get", "probability": 0.01, "times": None},
        {"fault": "corrupted", "on": "cutout-get", "probability": 0.01, "times": None},
        {"fault": "wrong-length", "on": "cutout-get", "probability": 0.01, "times": None},
        {"fault": "forbidden", "on": "metadata", "probability": 0.002, "times": None},
    ],
}

MOST_GROWTH = 1.1
SLACK_BYTES = 8 * 2**20
SLACK = 3
"""Files or threads that one job has open at a moment."""


@dataclass(frozen=True)
class Sample:
    """What the two processes hold at one moment."""

    job_bytes: int
    server_bytes: int
    job_files: int
    server_files: int
    job_threads: int
    server_threads: int
    temporary_files: int

    @classmethod
    def now(cls, server: psutil.Process, folder: Path) -> Sample:
        """Measure this process, the server, and the folder of temporary files."""
        gc.collect()
        job = psutil.Process()
        return cls(
            job.memory_info().rss,
            server.memory_info().rss,
            job.num_fds(),
            server.num_fds(),
            job.num_threads(),
            server.num_threads(),
            sum(1 for _ in folder.rglob("*")),
        )


def grown(before: Sequence[Sample], after: Sequence[Sample]) -> dict[str, tuple[float, float, bool]]:
    """Compare the medians of earlier and later samples: before, after, and whether it grew."""
    found = {}
    for name in Sample.__dataclass_fields__:
        old, new = (statistics.median(getattr(sample, name) for sample in some) for some in (before, after))
        most = old * MOST_GROWTH + SLACK_BYTES if name.endswith("bytes") else old + SLACK
        found[name] = (old, new, new > most)
    return found


def job(server: BossServer, path: Path) -> str:
    """Do one job; return how it ended."""
    z, y, x = ((0, n) for n in SHAPE)
    try:
        driver.driver(server.url, server.token, "soak", "spots", z, y, x, path, cpus=1, plots=False)
    except NDSynapseError as error:
        return f"{type(error).__name__} ({error.exit_code})"
    return "done"


def main(argv: Sequence[str] | None = None) -> int:
    """Run jobs for a while; print what the first and the last quarter held; return 1 if anything grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Look for what grows, job after job.")
    parser.add_argument("--seconds", type=float, default=600, help="default: %(default)s")
    seconds = parser.parse_args(argv).seconds
    outcomes: Counter[str] = Counter()
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        temporary = root / "tmp"
        temporary.mkdir()
        # what a job or the server leaves among the temporary files is found here
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        fill(root / "boss", "soak", "spots", spots(SHAPE, 3))
        (root / "faults.json").write_text(json.dumps(FAULTS))
        with start_boss(root / "boss", "--faults", f"@{root / 'faults.json'}") as server:
            watched = psutil.Process(server.process.pid)
            began = time.monotonic()
            while (passed := time.monotonic() - began) < seconds:
                outcomes[job(server, root / "results")] += 1
                if passed > seconds / 10:  # by then all has been imported
                    samples.append(Sample.now(watched, temporary))
            if not samples:  # the first job took longer than all was to take
                samples.append(Sample.now(watched, temporary))
        tempfile.tempdir = None
    quarter = max(1, len(samples) // 4)
    rows = grown(samples[:quarter], samples[-quarter:])
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{sum(outcomes.values())} jobs in {seconds:.0f} s: {counts}")
    for name, (before, after, is_more) in rows.items():
        print(f"{name:16s} first quarter {before:14,.0f}  last quarter {after:14,.0f}  {'GREW' if is_more else ''}")
    return int(any(is_more for _, _, is_more in rows.values()) or not outcomes["done"])


if __name__ == "__main__":
    sys.exit(main())
