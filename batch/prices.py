"""Prices of AWS, as an editable file has them.

It asks nobody: `prices.json` has the page and the date of each price, and is to be checked before anybody relies on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch.retry import Compute
from nd_synapse.errors import UsageError

__all__ = ["PATH", "Machine", "Prices", "Range", "read_prices"]

PATH = Path(__file__).with_name("prices.json")

Range = tuple[float, float]
"""What it is at least, and at most."""

_MOST_BYTES = 2**20
"""Largest file of prices."""

_GIB_MONTH_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A type of machine of EC2.

    Parameters
    ----------
    name : str
        Its name.
    vcpus : int
        Virtual cores.
    gib : float
        Memory.
    hour : float
        USD an hour, on demand.
    """

    name: str
    vcpus: int
    gib: float
    hour: float

    def share(self, vcpus: float, memory_mib: int) -> float:
        """Return the part of the machine that a container takes; above 1 it does not fit."""
        return max(vcpus / self.vcpus, memory_mib / 1024 / self.gib)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What things cost, in USD.

    Parameters
    ----------
    as_of, region : str
        When and where.
    fargate_vcpu_hour, fargate_gib_hour, fargate_storage_gib_hour, fargate_free_gib : float
        Fargate; of storage, what is free.
    machines : tuple of Machine
        Types of EC2 to choose from.
    disk_gib_month : float
        Disks of EC2.
    discounts : dict of str to tuple of float
        EC2 or FARGATE to the part of the price that Spot takes off, least and most.
    s3_put, s3_get : float
        A request.
    s3_gib_month : float
        Storage.
    out_gib, nat_gib : float
        What leaves AWS; what passes a NAT gateway, in either direction.
    """

    as_of: str
    region: str
    fargate_vcpu_hour: float
    fargate_gib_hour: float
    fargate_storage_gib_hour: float
    fargate_free_gib: float
    machines: tuple[Machine, ...]
    disk_gib_month: float
    discounts: dict[Compute, Range]
    s3_put: float
    s3_get: float
    s3_gib_month: float
    out_gib: float
    nat_gib: float

    def machine_for(self, vcpus: float, memory_mib: int) -> Machine:
        """Return the machine on which a container takes the cheapest share."""
        fitting = [machine for machine in self.machines if machine.share(vcpus, memory_mib) <= 1]
        if not fitting:
            raise UsageError(
                f"a container with {vcpus:g} vCPU and {memory_mib / 1024:,.0f} GiB of memory",
                f"the largest machine of {PATH.name} has {max(machine.gib for machine in self.machines):,.0f} GiB",
                "Take a smaller box, or add a larger machine to that file",
            )
        return min(fitting, key=lambda machine: machine.hour * machine.share(vcpus, memory_mib))

    def per_second(self, compute: Compute, vcpus: float, memory_mib: int, spot: bool, disk_gib: float = 0.0) -> Range:
        """Return what a container costs."""
        if compute == "FARGATE":
            hour = vcpus * self.fargate_vcpu_hour + memory_mib / 1024 * self.fargate_gib_hour
            disk_s = max(0.0, disk_gib - self.fargate_free_gib) * self.fargate_storage_gib_hour / 3600
        else:
            machine = self.machine_for(vcpus, memory_mib)
            hour = machine.hour * machine.share(vcpus, memory_mib)
            disk_s = disk_gib * self.disk_gib_month / _GIB_MONTH_S
        least, most = self.discounts[compute] if spot else (0.0, 0.0)
        return hour / 3600 * (1 - most) + disk_s, hour / 3600 * (1 - least) + disk_s


def read_prices(path: Path = PATH) -> Prices:
    """Read a file of prices."""
    try:
        with path.open("rb") as file:
            body = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"prices in {path}", str(error.strerror).lower(), "Name a file that can be read") from error
    if len(body) > _MOST_BYTES:
        raise UsageError(
            f"prices in {path}", f"the file has more than {_MOST_BYTES:,} bytes", f"See {PATH} for the form"
        )
    try:
        return _prices(json.loads(body))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UsageError(
            f"prices in {path}", f"they are not as they should be: {error!r}", f"See {PATH} for the form"
        ) from error


def _prices(values: dict[str, Any]) -> Prices:
    """Make prices of plain values."""
    fargate, ec2, s3, network = (values[name] for name in ("fargate", "ec2", "s3", "network"))
    return Prices(
        as_of=str(values["as_of"]),
        region=str(values["region"]),
        fargate_vcpu_hour=_price(fargate["vcpu_hour"]),
        fargate_gib_hour=_price(fargate["gib_hour"]),
        fargate_storage_gib_hour=_price(fargate["storage_gib_hour"]),
        fargate_free_gib=_price(fargate["storage_free_gib"]),
        machines=tuple(
            Machine(name, int(machine["vcpus"]), _price(machine["gib"]), _price(machine["hour"]))
            for name, machine in ec2["types"].items()
        ),
        disk_gib_month=_price(ec2["disk_gib_month"]),
        discounts={"FARGATE": _discount(fargate["spot_discount"]), "EC2": _discount(ec2["spot_discount"])},
        s3_put=_price(s3["put_per_1000"]) / 1000,
        s3_get=_price(s3["get_per_1000"]) / 1000,
        s3_gib_month=_price(s3["gib_month"]),
        out_gib=_price(network["out_gib"]),
        nat_gib=_price(network["nat_gib"]),
    )


def _price(value: Any) -> float:
    """Return a price, which is a number from 0 upwards."""
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{value} is no price")
    return number


def _discount(value: Any) -> Range:
    """Return a discount: two parts of 1, in their order."""
    least, most = _price(value["least"]), _price(value["most"])
    if not least <= most <= 1:
        raise ValueError(f"{value} is no discount")
    return least, most
