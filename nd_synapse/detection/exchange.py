"""What a run has finished, and what other parts of it have: its store, and the shelf that the parts share.

It computes nothing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.blocks.store import Store
from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.errors import StorageError
from nd_synapse.geometry import Box

__all__ = ["Exchange"]

_FETCHES = 16
"""Blocks that are fetched at the same time."""

_AT_ONCE_BYTES = 2**25
"""Largest thing that is fetched while others are: labels are nearly all background, and packed."""

_SAID = 2**15
"""Characters that other parts are told: of a reason from its beginning, of a traceback to its end."""

_FAILED_BLOCK_BYTES = 2**20
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

    def __init__(self, store: Store, shared_store: SharedStore | None, most_bytes: int) -> None:
        self.store = store
        self.shared_store = shared_store
        self._most_bytes = most_bytes

    def unfinished(self, kinds: Sequence[str], blocks: Sequence[Box], wanted: bool) -> list[Box]:
        """Return the blocks that nobody finished."""
        missing = [block for block in blocks if not all(self.store.has(kind, key_of(block)) for kind in kinds)]
        if self.shared_store is None or not missing:
            return missing
        there = self.shared_store.names(kinds[-1])
        shelved = [block for block in missing if _name_of(key_of(block)) in there]
        if wanted:
            self._fetch(kinds, [key_of(block) for block in shelved], self.shared_store)
        finished = set(shelved)
        return [block for block in missing if block not in finished]

    def _fetch(self, kinds: Sequence[str], keys: Sequence[str], shared_store: SharedStore) -> None:
        """Fetch things by their keys; what says that one is finished is saved last."""
        # what cannot be compressed is a little longer when it is packed
        most = (self._most_bytes + self._most_bytes // 64) * len(kinds)
        alone = Lock()

        def fetch(key: str) -> None:
            packed = shared_store.get(kinds[-1], _name_of(key), min(_AT_ONCE_BYTES, most))
            if packed is not None:
                adopt(key, packed)
                return
            with alone:
                adopt(key, _whole(shared_store.get(kinds[-1], _name_of(key), most), f"{kinds[-1]}/{key}", most))

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
        """Fetch things that are of use only together."""
        if self.shared_store is None or not {_name_of(key) for key in keys} <= self.shared_store.names(kind):
            return False
        self._fetch((kind,), keys, self.shared_store)
        return True

    def leave(self, kinds: Sequence[str], key: str) -> None:
        """Leave what was made of a block, or something else, for the other parts.

        It becomes one thing on the shelf, so that what two attempts made of a block is never mixed.
        """
        if self.shared_store is not None:
            bodies = [self.store.body(kind, key) for kind in kinds]
            self.shared_store.put(kinds[-1], _name_of(key), _packed(bodies))

    def leave_failed_block(self, kind: str, failed_block: FailedBlock) -> None:
        """Tell the other parts that a block failed: all have to do without it, or they would learn other things."""
        if self.shared_store is not None:
            told = {"reason": failed_block.reason[:_SAID], "traceback": failed_block.traceback[-_SAID:]}
            self.shared_store.put(f"holes-{kind}", f"{key_of(failed_block.box)}.json", json.dumps(told).encode())

    def failed_blocks(self, kind: str, step: str, blocks: Sequence[Box]) -> list[FailedBlock]:
        """Return which blocks failed in other parts."""
        if self.shared_store is None:
            return []
        there = self.shared_store.names(f"holes-{kind}")
        found = []
        for block in blocks:
            name = f"{key_of(block)}.json"
            if name in there:
                body = _whole(
                    self.shared_store.get(f"holes-{kind}", name, _FAILED_BLOCK_BYTES),
                    f"holes-{kind}/{name}",
                    _FAILED_BLOCK_BYTES,
                )
                try:
                    told = json.loads(body)
                    found.append(FailedBlock(block, step, str(told["reason"]), str(told["traceback"])))
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
