"""What a run has finished, and what other parts of it have: its store, and the shelf that the parts share.

It computes nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from box import Box
from detection.outcome import Hole
from detection.shelf import Shelf
from detection.store import Store, key_of
from errors import StorageError

__all__ = ["Exchange"]

_FETCHES = 16
"""Blocks that are fetched at the same time."""


class Exchange:
    """The store of a run, and the shelf of its parts where it has any.

    What a pass finishes of a block may be several things; the last of its kinds is the one that says it is finished.

    Parameters
    ----------
    store : Store
        The store of this run.
    shelf : Shelf or None
        None where a run is not done in parts.
    """

    def __init__(self, store: Store, shelf: Shelf | None) -> None:
        self.store = store
        self.shelf = shelf

    def unfinished(self, kinds: Sequence[str], blocks: Sequence[Box], wanted: bool) -> list[Box]:
        """Return the blocks that nobody finished.

        Parameters
        ----------
        kinds : sequence of str
            What is made of a block.
        blocks : sequence of Box
            The blocks.
        wanted : bool
            Whether to fetch what others finished.

        Returns
        -------
        list of Box
            In their order.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached, or there is no room for what is on it.
        """
        missing = [block for block in blocks if not all(self.store.has(kind, key_of(block)) for kind in kinds)]
        if self.shelf is None or not missing:
            return missing
        there = self.shelf.names(kinds[-1])
        shelved = [block for block in missing if _name_of(key_of(block)) in there]
        if wanted:
            self._fetch(kinds, [key_of(block) for block in shelved], self.shelf)
        finished = set(shelved)
        return [block for block in missing if block not in finished]

    def _fetch(self, kinds: Sequence[str], keys: Sequence[str], shelf: Shelf) -> None:
        """Fetch things by their keys; what says that one is finished is saved last."""

        def fetch(key: str) -> None:
            bodies = _unpacked(shelf.get(kinds[-1], _name_of(key)), len(kinds), f"{kinds[-1]}/{key}")
            for kind, body in zip(kinds, bodies, strict=True):
                self.store.adopt(kind, key, body)

        pool = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        try:
            for _ in pool.map(fetch, keys):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def fetch_all(self, kind: str, keys: Sequence[str]) -> bool:
        """Fetch things that are of use only together.

        Parameters
        ----------
        kind : str
            Their kind.
        keys : sequence of str
            Which.

        Returns
        -------
        bool
            False, and nothing is fetched, if one of them is not on the shelf.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached, or there is no room for what is on it.
        """
        if self.shelf is None or not {_name_of(key) for key in keys} <= self.shelf.names(kind):
            return False
        self._fetch((kind,), keys, self.shelf)
        return True

    def leave(self, kinds: Sequence[str], key: str) -> None:
        """Leave what was made of a block, or something else, for the other parts.

        It becomes one thing on the shelf, so that what two attempts made of a block is never mixed.

        Parameters
        ----------
        kinds : sequence of str
            What was made.
        key : str
            Its name in the store.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached.
        """
        if self.shelf is not None:
            bodies = [self.store.body(kind, key) for kind in kinds]
            self.shelf.put(kinds[-1], _name_of(key), _packed(bodies))

    def leave_hole(self, kind: str, hole: Hole) -> None:
        """Tell the other parts that a block failed: all have to do without it, or they would learn other things.

        Parameters
        ----------
        kind : str
            What was to be made of it.
        hole : Hole
            The block.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached.
        """
        if self.shelf is not None:
            told = {"reason": hole.reason, "traceback": hole.traceback}
            self.shelf.put(f"holes-{kind}", f"{key_of(hole.box)}.json", json.dumps(told).encode())

    def holes(self, kind: str, step: str, blocks: Sequence[Box]) -> list[Hole]:
        """Return which blocks failed in other parts.

        Parameters
        ----------
        kind : str
            What was to be made of them.
        step : str
            What that step is called.
        blocks : sequence of Box
            The blocks to ask for.

        Returns
        -------
        list of Hole
            In their order.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached.
        """
        if self.shelf is None:
            return []
        there = self.shelf.names(f"holes-{kind}")
        found = []
        for block in blocks:
            name = f"{key_of(block)}.json"
            if name in there:
                told = json.loads(self.shelf.get(f"holes-{kind}", name))
                found.append(Hole(block, step, str(told["reason"]), str(told["traceback"])))
        return found


def _packed(bodies: Sequence[bytes]) -> bytes:
    """Put files one after another, each with its length before it."""
    return b"".join(part for body in bodies for part in (struct.pack("<Q", len(body)), body))


def _unpacked(packed: bytes, count: int, name: str) -> list[bytes]:
    """Take files apart again."""
    bodies: list[bytes] = []
    at = 0
    while len(bodies) < count and at + 8 <= len(packed):
        (length,) = struct.unpack_from("<Q", packed, at)
        bodies.append(packed[at + 8 : at + 8 + length])
        at += 8 + length
    if len(bodies) != count or at != len(packed):
        found = f"it has {len(packed)} bytes, which are not {count} files"
        raise StorageError(f"{name} on the shelf", found, "Begin a run under another --shared")
    return bodies


def _name_of(key: str) -> str:
    """Return the name on the shelf."""
    return f"{key}.npz"
