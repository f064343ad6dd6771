"""What a run has finished, and what other parts of it have: its store, and the shelf that the parts share.

It computes nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from nd_synapse.blocks.shared_store import Shelf
from nd_synapse.blocks.store import Store, key_of
from nd_synapse.detection.outcome import Hole
from nd_synapse.errors import StorageError
from nd_synapse.geometry import Box

__all__ = ["Exchange"]

_FETCHES = 16
"""Blocks that are fetched at the same time."""

_AT_ONCE_BYTES = 2**25
"""Largest thing that is fetched while others are: labels are nearly all background, and packed."""

_SAID = 2**15
"""Characters that other parts are told: of a reason from its beginning, of a traceback to its end."""

_HOLE_BYTES = 2**20
"""Largest note of a block that failed: twice so many characters, escaped."""

_HEAD = struct.Struct("<Q")
_REMEDY = "Begin a run under another --shared, where nobody else may write"


class Exchange:
    """The store of a run, and the shelf of its parts where it has any.

    What a pass finishes of a block may be several things; the last of its kinds is the one that says it is finished.

    Parameters
    ----------
    store : Store
        The store of this run.
    shelf : Shelf or None
        None where a run is not done in parts.
    most_bytes : int
        What one thing of a block may unpack to; larger ones on the shelf are refused.
    """

    def __init__(self, store: Store, shelf: Shelf | None, most_bytes: int) -> None:
        self.store = store
        self.shelf = shelf
        self._most_bytes = most_bytes

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
        # what cannot be compressed is a little longer when it is packed
        most = (self._most_bytes + self._most_bytes // 64) * len(kinds)
        alone = Lock()

        def fetch(key: str) -> None:
            packed = shelf.get(kinds[-1], _name_of(key), min(_AT_ONCE_BYTES, most))
            if packed is not None:
                adopt(key, packed)
                return
            with alone:
                adopt(key, _whole(shelf.get(kinds[-1], _name_of(key), most), f"{kinds[-1]}/{key}", most))

        def adopt(key: str, packed: bytes) -> None:
            bodies = _unpacked(packed, len(kinds), f"{kinds[-1]}/{key}")
            for kind, body in zip(kinds, bodies, strict=True):
                self.store.adopt(kind, key, body, self._most_bytes)

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
            told = {"reason": hole.reason[:_SAID], "traceback": hole.traceback[-_SAID:]}
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
                body = _whole(self.shelf.get(f"holes-{kind}", name, _HOLE_BYTES), f"holes-{kind}/{name}", _HOLE_BYTES)
                try:
                    told = json.loads(body)
                    found.append(Hole(block, step, str(told["reason"]), str(told["traceback"])))
                except (ValueError, LookupError, TypeError, RecursionError) as error:
                    raise StorageError(
                        f"holes-{kind}/{name} on the shelf", f"it is no hole of ours ({error})", _REMEDY
                    ) from error
        return found


def _packed(bodies: Sequence[bytes]) -> bytes:
    """Put files one after another, each with its length before it."""
    return b"".join(part for body in bodies for part in (_HEAD.pack(len(body)), body))


def _whole(body: bytes | None, name: str, most_bytes: int) -> bytes:
    """Refuse what was too large to be fetched."""
    if body is None:
        found = f"it has more than the {most_bytes:,} bytes that a run of this plan leaves"
        raise StorageError(f"{name} on the shelf", found, _REMEDY)
    return body


def _unpacked(packed: bytes, count: int, name: str) -> list[bytes]:
    """Take files apart again."""
    bodies: list[bytes] = []
    at = 0
    while len(bodies) < count and at + _HEAD.size <= len(packed):
        (length,) = _HEAD.unpack_from(packed, at)
        at += _HEAD.size
        bodies.append(packed[at : at + length])
        at += length
    if len(bodies) != count or at != len(packed):
        found = f"it has {len(packed)} bytes, which are not {count} files"
        raise StorageError(f"{name} on the shelf", found, _REMEDY)
    return bodies


def _name_of(key: str) -> str:
    """Return the name on the shelf."""
    return f"{key}.npz"
