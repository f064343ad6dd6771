"""How long each step of a job takes on the real volume, or on the synthetic sample where that is not at hand.

It measures `driver.py` as a process against a local BOSS on the same machine, which shares its cores with the job.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nd_synapse.files.stacks import open_stack
from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.ingest import ingest
from nd_synapse.local_boss.sample import write_sample
from tests.fixtures_boss import REPOSITORY, start_boss

REAL = REPOSITORY.parent / "shared" / "data" / "at_example"
CHANNELS = ("PSD95", "SYNAPSIN", "GLUR1", "LY")


def fill(data: Path) -> list[str]:
    """Fill a data folder; return the arguments that name its volume."""
    boss = Boss(data)
    if not REAL.is_dir():
        print(f"no {REAL}: measuring on the synthetic sample")
        info = write_sample(boss)
        names, box = (info.collection, info.experiment), info.box
    else:
        stacks = {name: open_stack([REAL / f"{name}.tif"]) for name in CHANNELS}
        stored = [ingest(boss, "real", "at_example", name, stack, (70, 100, 100)) for name, stack in stacks.items()]
        names, box = ("real", "at_example"), stored[0].box
    boss.close()
    ranges = [text for axis, (a, b) in zip("zyx", box.ranges, strict=True) for text in (f"--{axis}-range", f"{a},{b}")]
    return ["--col", names[0], "--exp", names[1], *ranges]


def main() -> int:
    """Measure and print; return 0."""
    with tempfile.TemporaryDirectory() as folder:
        data, results = Path(folder, "boss"), Path(folder, "results")
        where = fill(data)
        with start_boss(data) as server:
            for cpus in ("1", "2"):
                command = [sys.executable, "driver.py", "--host", server.url, *where, "--cpus", cpus, "--quiet"]
                started = time.perf_counter()
                subprocess.run(
                    [*command, "--path", str(results)],
                    check=True,
                    cwd=REPOSITORY,
                    env={**os.environ, "BOSS_TOKEN": server.token},
                )
                took = time.perf_counter() - started
                (run,) = results.glob("*/run.json")
                seconds = json.loads(run.read_text())["seconds"]
                steps = "  ".join(f"{step} {value:.2f}" for step, value in seconds.items())
                print(f"{' '.join(where)} --cpus {cpus}: {took:.1f} s in all; {steps}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
