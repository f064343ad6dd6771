"""Print the fault table: ``python -m tests.faults [--runs N] [--seed N]``.

Each fault alone, on every kind of request, once and lasting; then mixtures. A run is a whole job, and where it ended
with an error, the same job again without faults: it must leave the bytes that a clean run leaves.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import logging
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.faults import faulty_s3
from tests.faults.jobs import LIMIT_S, Verdict, bench
from tests.faults.parts import runs_in_parts
from tests.faults.plans import cases, mixture
from tests.faults.uploads import CASES_OF_PARTS, UPLOAD_FAULTS, Uploads, alone
from tests.fixtures_s3 import start_s3

Table = dict[str, Counter[str]]

IN_PARTS = tuple(itertools.product((1, 12, 40), (False, True)))
"""From which request on each fault occurs in a run in parts, and whether it lasts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Try everything; the exit code is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Print the fault table.")
    parser.add_argument("--runs", type=int, default=500, metavar="N", help="mixtures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first mixture (default: %(default)s)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.CRITICAL)
    began = time.monotonic()
    table: Table = defaultdict(Counter)
    occurred: Counter[str] = Counter()
    wrong: list[str] = []

    def count(row: str, what: str, verdict: Verdict) -> None:
        table[row][verdict.outcome] += 1
        occurred[row] += sum(verdict.hits.values())
        if sum(map(Counter.total, table.values())) % 50 == 0:
            sys.stderr.write(f"{what}, {time.monotonic() - began:.0f} s\n")
        wrong.extend(f"{what}: {sentence}" for sentence in verdict.wrong)
        # a run that hangs ends the process, and shows where it hangs
        faulthandler.dump_traceback_later(2 * LIMIT_S, exit=True)

    faulthandler.dump_traceback_later(2 * LIMIT_S, exit=True)
    with tempfile.TemporaryDirectory() as root, bench(Path(root)) as place:
        for case in cases():
            count(case.fault, str(case), place.try_out(case.plan()))
        for seed in range(options.seed, options.seed + options.runs):
            plan, dirty = mixture(seed)
            count("mixtures", f"mixture {seed}", place.try_out(plan, dirty=dirty))
    seeds = range(options.seed, options.seed + options.runs // 10)
    with tempfile.TemporaryDirectory() as root, start_s3() as server, faulty_s3.through_proxy(server) as faulty:
        uploads = Uploads(Path(root), faulty)
        for fault in UPLOAD_FAULTS:
            for lasting in (False, True):
                count(f"S3: {fault}", f"S3 {fault}", uploads.try_out(alone(fault, lasting)))
        for (request, fault), lasting in itertools.product(CASES_OF_PARTS, (False, True)):
            count(f"S3, {request}: {fault}", f"{fault} of {request}", uploads.try_parts(request, fault, lasting))
        for seed in seeds:
            count("S3: mixtures", f"S3 mixture {seed}", uploads.try_out(faulty_s3.mixture(seed, UPLOAD_FAULTS)))
    with (
        tempfile.TemporaryDirectory() as root,
        start_s3() as server,
        faulty_s3.through_proxy(server) as faulty,
        runs_in_parts(Path(root), faulty) as place_of_parts,
    ):
        for fault in faulty_s3.FAULTS:
            for first, lasting in IN_PARTS:
                verdict = place_of_parts.try_out(faulty_s3.alone(fault, lasting, first))
                count(f"S3, in parts: {fault}", f"parts, {fault}", verdict)
        for seed in seeds:
            count("S3, in parts: mixtures", f"parts, mixture {seed}", place_of_parts.try_out(faulty_s3.mixture(seed)))
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(shown(table, occurred))
    for sentence in wrong:
        sys.stdout.write(f"WRONG: {sentence}\n")
    runs = sum(map(Counter.total, table.values()))
    sys.stdout.write(f"{runs} runs in {time.monotonic() - began:.0f} s, {len(wrong)} wrong\n")
    return 1 if wrong else 0


def shown(table: Table, occurred: Counter[str]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| fault | runs | times that it occurred | same bytes at once | named error, then the same bytes |"
        " wrong or hung |",
        "|---|--:|--:|--:|---|--:|",
    ]
    for fault, outcomes in table.items():
        errors = ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items()) if name not in ("same", "WRONG"))
        counts = f"{outcomes.total()} | {occurred[fault]} | {outcomes['same']}"
        lines.append(f"| {fault} | {counts} | {errors} | {outcomes['WRONG']} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
