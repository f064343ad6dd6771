"""The measurements by name: ``python -m benchmarks [PART ...]``; without a name, all of them."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from benchmarks import (
    accuracy,
    blocks,
    chance,
    cutout,
    features,
    join,
    peers,
    pipelines,
    places,
    report,
    sources,
    steps,
)

PARTS = {
    "accuracy": accuracy.main,
    "chance": chance.main,
    "cutout": cutout.main,
    "features": features.main,
    "join": join.main,
    "peers": peers.main,
    "pipelines": pipelines.main,
    "places": places.main,
    "report": report.main,
    "sources": sources.main,
    "steps": steps.main,
    "blocks": blocks.main,
}


def main() -> int:
    """Run the parts that were asked for; return 1 if one of them missed its aim."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure, and print the figures.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=f"one or more of {', '.join(PARTS)}")
    parser.add_argument("--most", type=int, default=join.MILLIONS[-1], help="million parts at which join stops")
    given, missed = parser.parse_args(), 0
    parts = PARTS | {"join": partial(join.main, given.most)}
    for name in given.part or parts:
        print(f"## {name}", flush=True)
        missed |= parts[name]()
    return missed


if __name__ == "__main__":
    sys.exit(main())
