"""The measurements by name: ``python -m benchmarks [PART ...]``; without a name, all of them."""

from __future__ import annotations

import argparse
import sys

from benchmarks import accuracy, blocks, chance, cutout, features, peers, pipelines, places, report, sources, steps

PARTS = {
    "accuracy": accuracy.main,
    "chance": chance.main,
    "cutout": cutout.main,
    "features": features.main,
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
    missed = 0
    for name in parser.parse_args().part or PARTS:
        print(f"## {name}", flush=True)
        missed |= PARTS[name]()
    return missed


if __name__ == "__main__":
    sys.exit(main())
