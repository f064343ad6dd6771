"""A run in parts: which blocks a part has, and the contract of the store where parts leave what they finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from nd_synapse.errors import UsageError

__all__ = ["Part", "Phase", "SharedStore"]

T = TypeVar("T")

Phase = Literal["statistics", "detection", "contacts", "join", "objects", "push"]
"""What is done in parts, in this order; the join, which is small, is one part. What comes after is one job's."""


class SharedStore(Protocol):
    """Where the jobs of one run leave finished blocks for each other; what is whole there never changes."""

    def names(self, kind: str) -> set[str]:
        """List what is there of a kind."""
        ...

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        """Fetch one thing; None, before it is in memory, if it has more bytes; `UnknownNameError` if there is none."""
        ...

    def put(self, kind: str, name: str, body: bytes, *, replaces: bool = False) -> None:
        """Leave one thing, unless it is there already; `replaces`: what is there is damaged."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a phase: number `index`, from 0, of `count`."""

    phase: Phase
    index: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a part that does not exist."""
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"part {self.index} of {self.count} of the {self.phase}",
                "parts are counted from 0",
                "Give --shards the number of all, and --shard one from 0 to one below it",
            )

    def of(self, blocks: Sequence[T]) -> list[T]:
        """Return what this part has of all blocks, in their order; the join has all of them."""
        if self.phase == "join":
            return list(blocks)
        n = len(blocks)
        return list(blocks[self.index * n // self.count : (self.index + 1) * n // self.count])
