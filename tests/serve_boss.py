"""``nd-synapse boss serve`` with faults: ``python -m tests.serve_boss --faults PLAN --delay-ms N --lag-s N``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp

from nd_synapse.cli import boss as command
from nd_synapse.local_boss import server, tokens
from nd_synapse.local_boss.boss import Boss
from tests.faults.boss_faults import FaultyBoss
from tests.faults.boss_plan import FaultPlan
from tests.late_boss import LateVoxels
from tests.throttle import Link, Throttle


def main() -> int:
    """Serve as the command does; what it has no options for is wrapped around its application."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--rate-mb-s", type=float, default=math.inf)
    parser.add_argument("--lag-s", type=float, help="carry out writes and erases late, see tests.late_boss")
    parser.add_argument("--faults", help="a plan in JSON, or @FILE with it")
    options, rest = parser.parse_known_args()
    text = options.faults
    plan = FaultPlan.from_json(Path(text[1:]).read_text() if text and text.startswith("@") else text or '{"rules": []}')
    link = Link(options.delay_ms, options.rate_mb_s)
    build = server.application

    def application(boss: Boss, bearers: Mapping[str, tokens.Rights]) -> ASGIApp:
        if options.lag_s is not None:
            boss.voxels = LateVoxels(boss.data, lambda _: float(options.lag_s))
        wrapped: ASGIApp = build(boss, bearers)
        # the faults are outermost: they reach for the connection
        return FaultyBoss(Throttle(wrapped, link) if link.is_slow else wrapped, plan)

    server.application = application  # type: ignore[assignment] # an ASGI application around it
    return command.main(["serve", *rest])


if __name__ == "__main__":
    sys.exit(main())
