"""What the phases of a run cost, as ranges.

It knows no rule of sharing and asks for no price: `estimates` has the phases, `prices` what things cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batch.estimates import Phase, added
from batch.prices import Prices, Range
from batch.requests import Resources
from batch.retry import Compute

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run costs, in USD, at least and at most.

    Parameters
    ----------
    on_demand, spot : tuple of float
        Containers; with `spot` those of the arrays on spare machines, without what interruptions cost.
    s3 : float
        Requests to S3.
    nat : float
        What is pulled, if it passes a NAT gateway: containers with public addresses need none.
    prices : str
        Where and when the prices were so.
    """

    on_demand: Range
    spot: Range
    s3: float
    nat: float
    prices: str


def cost_of(
    prices: Prices,
    compute: Compute,
    phases: Sequence[Phase],
    containers: Sequence[tuple[Resources, int]],
) -> Cost:
    """Add up what the phases of a run cost."""
    on_demand: Range = (0.0, 0.0)
    spot: Range = (0.0, 0.0)
    for phase, (container, disk_gib) in zip(phases, containers, strict=True):
        for is_spot in (False, True):
            rate = prices.per_second(
                compute, container.vcpus, container.memory_mib, is_spot and phase.jobs > 1, float(disk_gib)
            )
            usd = (phase.machine_s[0] * rate[0], phase.machine_s[1] * rate[1])
            if is_spot:
                spot = added(spot, usd)
            else:
                on_demand = added(on_demand, usd)
    gib = sum(phase.pulled_bytes for phase in phases) / 2**30
    return Cost(
        on_demand=on_demand,
        spot=spot,
        s3=sum(phase.s3_puts * prices.s3_put + phase.s3_gets * prices.s3_get for phase in phases),
        nat=gib * prices.nat_gib,
        prices=f"{prices.region}, {prices.as_of}",
    )
