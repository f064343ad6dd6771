"""What a run has finished, and what other parts of it have: its store, and the shared block store of the parts."""

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

_TEXT_CHARACTERS = 2**15
"""Characters that other parts get of a reason (its beginning) and of a traceback (its end)."""

_FAILED_BLOCK_BYTES = 2**20
"""Largest note of a block that failed: twice so many characters, escaped."""

_LENGTH = struct.Struct("<Q")
_REMEDY = "Begin a run under another --shared, where nobody else may write"


class Exchange:
    """The store of a run, and the shared block store of its parts, if it has any.

    What a pass finishes of a block may be several kinds of things; the last kind says that the block is finished.
    """

    def __init__(self, store: Store, shared_store: SharedStore | None, max_bytes: int) -> None:
        self.store = store
        self.shared_store = shared_store
        self._max_bytes = max_bytes  # what one thing of a block may unpack to

    def unfinished(self, kinds: Sequence[str], blocks: Sequence[Box], wanted: bool) -> list[Box]:
        """Return the blocks that nobody finished; fetch what other parts finished, if it is wanted."""
        missing = [block for block in blocks if not all(self.store.sound(kind, key_of(block)) for kind in kinds)]
        if self.shared_store is None or not missing:
            return missing
        there = self.shared_store.names(kinds[-1])
        shared = [block for block in missing if _name_of(key_of(block)) in there]
        if wanted:
            self._fetch(kinds, [key_of(block) for block in shared], self.shared_store)
        finished = set(shared)
        return [block for block in missing if block not in finished]

    def _fetch(self, kinds: Sequence[str], keys: Sequence[str], shared_store: SharedStore) -> None:
        """Fetch things by their keys; the kind that says that a block is finished is saved last."""
        # what cannot be compressed is a little longer when it is packed
        limit = (self._max_bytes + self._max_bytes // 64) * len(kinds)
        alone = Lock()

        def fetch(key: str) -> None:
            packed = shared_store.get(kinds[-1], _name_of(key), min(_AT_ONCE_BYTES, limit))
            if packed is not None:
                adopt(key, packed)
                return
            with alone:
                adopt(key, _within(limit, shared_store.get(kinds[-1], _name_of(key), limit), f"{kinds[-1]}/{key}"))

        def adopt(key: str, packed: bytes) -> None:
            bodies = _unpacked(packed, len(kinds), f"{kinds[-1]}/{key}")
            for kind, body in zip(kinds, bodies, strict=True):
                self.store.adopt(kind, key, body, self._max_bytes)

        pool = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        try:
            for _ in pool.map(fetch, keys):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def fetch_all(self, kind: str, keys: Sequence[str]) -> bool:
        """Fetch things that are of use only together; return False if one is missing."""
        if self.shared_store is None or not {_name_of(key) for key in keys} <= self.shared_store.names(kind):
            return False
        self._fetch((kind,), keys, self.shared_store)
        return True

    def leave(self, kinds: Sequence[str], key: str) -> None:
        """Leave what was made of a block for the other parts.

        It becomes one object, so that what two attempts made of a block is never mixed.
        """
        if self.shared_store is not None:
            bodies = [self.store.body(kind, key) for kind in kinds]
            packed = b"".join(part for body in bodies for part in (_LENGTH.pack(len(body)), body))
            self.shared_store.put(kinds[-1], _name_of(key), packed)

    def leave_failed_block(self, kind: str, failed_block: FailedBlock) -> None:
        """Record for the other parts that a block failed."""
        if self.shared_store is not None:
            reason, traceback = failed_block.reason[:_TEXT_CHARACTERS], failed_block.traceback[-_TEXT_CHARACTERS:]
            note = json.dumps({"reason": reason, "traceback": traceback}).encode()
            self.shared_store.put(_failed_kind(kind), f"{key_of(failed_block.box)}.json", note)

    def failed_blocks(self, kind: str, step: str, blocks: Sequence[Box]) -> list[FailedBlock]:
        """Return which blocks failed in other parts."""
        if self.shared_store is None:
            return []
        kind = _failed_kind(kind)
        there = self.shared_store.names(kind)
        found = []
        for block in blocks:
            name = f"{key_of(block)}.json"
            if name not in there:
                continue
            body = _within(
                _FAILED_BLOCK_BYTES, self.shared_store.get(kind, name, _FAILED_BLOCK_BYTES), f"{kind}/{name}"
            )
            try:
                note = json.loads(body)
                found.append(FailedBlock(block, step, str(note["reason"]), str(note["traceback"])))
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                requested = f"{kind}/{name} in the shared block store"
                raise StorageError(requested, f"it is no note of a failed block ({error})", _REMEDY) from error
        return found


def _failed_kind(kind: str) -> str:
    """Return the name of the notes of failed blocks."""
    return f"failed-{kind}"


def _within(limit: int, body: bytes | None, name: str) -> bytes:
    """Refuse what was too large to be fetched."""
    if body is None:
        found = f"it has more than the {limit:,} bytes that a run of this plan leaves"
        raise StorageError(f"{name} in the shared block store", found, _REMEDY)
    return body


def _unpacked(packed: bytes, count: int, name: str) -> list[bytes]:
    """Return the files that `leave` put together."""
    bodies: list[bytes] = []
    at = 0
    while len(bodies) < count and at + _LENGTH.size <= len(packed):
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        bodies.append(packed[at : at + length])
        at += length
    if len(bodies) != count or at != len(packed):
        found = f"it has {len(packed)} bytes, which are not {count} files"
        raise StorageError(f"{name} in the shared block store", found, _REMEDY)
    return bodies


def _name_of(key: str) -> str:
    """Return the name in the shared block store."""
    return f"{key}.npz"
