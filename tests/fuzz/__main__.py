"""``python -m tests.fuzz --cases 100000``: run all targets and print what became of the cases."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.judge import run_cases
from tests.fuzz.targets import TARGETS


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz everything that takes input.")
    p.add_argument("--cases", type=int, default=2000, help="of all targets together, at least; default: %(default)s")
    p.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    p.add_argument("--only", help="targets whose names have this in them")
    options = p.parse_args()
    chosen = [target for target in TARGETS if not options.only or options.only in target.name]
    shares = sum(target.share for target in chosen)
    total, failed, began = 0, 0, time.monotonic()
    print(f"{'target':<28}{'cases':>8}{'results':>9}{'refusals':>9}  by class")
    for target in chosen:
        cases = -(-options.cases * target.share // shares)
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes = run_cases(target, cases, Path(folder), options.seed)
            except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
                failed += 1
                print(f"{target.name:<28}FAILED")
                traceback.print_exc()
                continue
        total += outcomes.cases
        classes = ", ".join(f"{name} {n}" for name, n in outcomes.refusals.most_common())
        print(f"{target.name:<28}{outcomes.cases:>8}{outcomes.results:>9}{outcomes.refusals.total():>9}  {classes}")
    print(f"{total} cases in {time.monotonic() - began:.0f} s, seed {options.seed}; {failed} targets failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
