"""``python -m tests.fuzz --cases 100000``: run all targets and print what became of the cases."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.judge import run_cases, shallow
from tests.fuzz.targets import TARGETS


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz everything that takes input.")
    p.add_argument("--cases", type=int, default=2000, help="of all targets together, at least; default: %(default)s")
    p.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    p.add_argument("--only", help="targets whose names have this in them")
    p.add_argument("--processes", type=int, default=2, help="targets at the same time; default: %(default)s")
    options = p.parse_args()
    chosen = [number for number, target in enumerate(TARGETS) if not options.only or options.only in target.name]
    shares = sum(TARGETS[number].share for number in chosen)
    total, failed, began = 0, 0, time.monotonic()
    print(f"{'target':<30}{'cases':>7}{'results':>9}{'share':>7}{'places':>8}  most refusals; by class")
    with ProcessPoolExecutor(options.processes) as pool:
        for cases, line, is_good in pool.map(partial(_run, options.cases, shares, options.seed), chosen):
            print(line, flush=True)
            total += cases
            failed += not is_good
    print(f"{total} cases in {time.monotonic() - began:.0f} s, seed {options.seed}; {failed} targets failed")
    return 1 if failed else 0


def _run(all_cases: int, shares: int, seed: int, number: int) -> tuple[int, str, bool]:
    """Run a target; return how many cases ran, what became of them in words, and whether that is as it should be."""
    target = TARGETS[number]
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = run_cases(target, -(-all_cases * target.share // shares), Path(folder), seed)
        except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
            return 0, f"{target.name:<30} FAILED\n{traceback.format_exc()}", False
    classes = ", ".join(f"{name} {n}" for name, n in outcomes.refusals.most_common())
    line = (
        f"{target.name:<30}{outcomes.cases:>7}{outcomes.results:>9}{outcomes.results / outcomes.cases:>7.0%}"
        f"{len(outcomes.places):>8}  {outcomes.most_frequent_place}; {classes}"
    )
    why = shallow(target, outcomes)
    return outcomes.cases, f"{line}\n{target.name:<30} SHALLOW: {why}" if why else line, not why


if __name__ == "__main__":
    sys.exit(main())
