"""Prices of AWS from `prices.json`, which names page and date of each; check them before you rely on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.retry import Compute
from nd_synapse.errors import UsageError

__all__ = ["PATH", "Machine", "Prices", "Range", "read_prices"]

PATH = Path(__file__).with_name("prices.json")

Range = tuple[float, float]
"""Least and most."""


_GIB_MONTH_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type of EC2."""

    name: str
    vcpus: int
    gib: float
    hour: float
    """USD, on demand."""

    def share(self, vcpus: float, memory_mib: int) -> float:
        """Return the share of the machine that a container takes; above 1 it does not fit."""
        return max(vcpus / self.vcpus, memory_mib / 1024 / self.gib)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in USD."""

    as_of: str
    region: str
    fargate_vcpu_hour: float
    fargate_gib_hour: float
    fargate_storage_gib_hour: float
    fargate_free_gib: float
    machines: tuple[Machine, ...]
    disk_gib_month: float
    discounts: dict[Compute, Range]
    """Shares of the price that Spot takes off."""
    s3_put: float
    s3_get: float
    s3_gib_month: float
    nat_gib: float
    """Through a NAT gateway, in either direction."""

    def machine_for(self, vcpus: float, memory_mib: int) -> Machine:
        """Return the machine type on which a container is cheapest."""
        fitting = [machine for machine in self.machines if machine.share(vcpus, memory_mib) <= 1]
        if not fitting:
            raise UsageError(
                f"a container with {vcpus:g} vCPU and {memory_mib / 1024:,.0f} GiB of memory",
                f"the largest machine of {PATH.name} has {max(machine.gib for machine in self.machines):,.0f} GiB",
                "Take a smaller box, or add a larger machine to that file",
            )
        return min(fitting, key=lambda machine: machine.hour * machine.share(vcpus, memory_mib))

    def per_second(self, compute: Compute, vcpus: float, memory_mib: int, spot: bool, disk_gib: float = 0.0) -> Range:
        """Return the price of a container."""
        if compute == "FARGATE":
            hour = vcpus * self.fargate_vcpu_hour + memory_mib / 1024 * self.fargate_gib_hour
            disk_s = max(0.0, disk_gib - self.fargate_free_gib) * self.fargate_storage_gib_hour / 3600
        else:
            machine = self.machine_for(vcpus, memory_mib)
            hour = machine.hour * machine.share(vcpus, memory_mib)
            disk_s = disk_gib * self.disk_gib_month / _GIB_MONTH_S
        least, most = self.discounts[compute] if spot else (0.0, 0.0)
        return hour / 3600 * (1 - most) + disk_s, hour / 3600 * (1 - least) + disk_s


def read_prices() -> Prices:
    """Read the file of prices."""
    try:
        return _prices(json.loads(PATH.read_bytes()))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UsageError(
            f"prices in {PATH}", f"the file is invalid: {error!r}", "Restore it, and edit it anew"
        ) from error


def _prices(values: dict[str, Any]) -> Prices:
    """Convert JSON values to prices."""
    fargate, ec2, s3, network = (values[name] for name in ("fargate", "ec2", "s3", "network"))
    return Prices(
        as_of=str(values["as_of"]),
        region=str(values["region"]),
        fargate_vcpu_hour=float(fargate["vcpu_hour"]),
        fargate_gib_hour=float(fargate["gib_hour"]),
        fargate_storage_gib_hour=float(fargate["storage_gib_hour"]),
        fargate_free_gib=float(fargate["storage_free_gib"]),
        machines=tuple(
            Machine(name, int(machine["vcpus"]), float(machine["gib"]), float(machine["hour"]))
            for name, machine in ec2["types"].items()
        ),
        disk_gib_month=float(ec2["disk_gib_month"]),
        discounts={"FARGATE": _discount(fargate["spot_discount"]), "EC2": _discount(ec2["spot_discount"])},
        s3_put=float(s3["put_per_1000"]) / 1000,
        s3_get=float(s3["get_per_1000"]) / 1000,
        s3_gib_month=float(s3["gib_month"]),
        nat_gib=float(network["nat_gib"]),
    )


def _discount(value: Mapping[str, Any]) -> Range:
    """Convert a discount: two shares of 1."""
    return float(value["least"]), float(value["most"])
