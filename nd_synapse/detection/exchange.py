"""What a run has finished, and what other parts of it have: its store, and the shared block store of the parts."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.packing import sealed, unsealed
from nd_synapse.blocks.shared_store import SharedStore
from nd_synapse.blocks.store import Store
from nd_synapse.detection.outcome import FailedBlock
from nd_synapse.geometry import Box

__all__ = ["NOTES_SAMPLED", "Exchange"]

log = logging.getLogger(__name__)

_FETCHES = 16
"""Blocks that are fetched at the same time."""

_AT_ONCE_BYTES = 2**25
"""Largest thing that is fetched while others are: labels are nearly all background, and packed."""

_TEXT_CHARACTERS = 2**15
"""Characters that other parts get of a reason (its beginning) and of a traceback (its end)."""

_NOTE_BYTES = 2**20
"""Largest note, which is of a block that failed: twice so many characters, escaped."""

NOTES_SAMPLED = 64
"""Notes that are read where a sample suffices."""

_LENGTH = struct.Struct("<Q")


class Exchange:
    """The store of a run, and the shared block store of its parts, if it has any.

    What a pass finishes of a block may be several kinds of things; the last kind says that the block is finished.
    What is damaged in the shared store, or of another block, counts as absent: who finds it makes it again.
    """

    def __init__(self, store: Store, shared_store: SharedStore | None, max_bytes: int) -> None:
        self.store = store
        self.shared_store = shared_store
        self._max_bytes = max_bytes  # what one thing of a block may unpack to
        self._damaged: set[tuple[str, str]] = set()
        self._shared: set[tuple[str, str]] = set()
        """What is known to be in the shared store, by kind and key."""

    def unfinished(self, kinds: Sequence[str], blocks: Sequence[Box], wanted: bool, shared: bool = True) -> list[Box]:
        """Return the blocks that nobody finished; fetch what other parts finished, if it is wanted.

        What an attempt that was killed finished here, and did not leave, is left now if it is to be `shared`.
        """
        missing = [block for block in blocks if not all(self.store.sound(kind, key_of(block)) for kind in kinds)]
        if self.shared_store is None or not shared:
            return missing
        self._leave_what_is_here(kinds, set(blocks) - set(missing), self.shared_store)
        if not missing:
            return missing
        there = self._names(kinds[-1], self.shared_store)
        keys = [key_of(block) for block in missing if _name_of(key_of(block)) in there]
        finished = self._fetch(kinds, keys, self.shared_store) if wanted else set(keys)
        return [block for block in missing if key_of(block) not in finished]

    def _leave_what_is_here(self, kinds: Sequence[str], blocks: Iterable[Box], shared_store: SharedStore) -> None:
        """Leave what is finished here and nowhere else."""
        keys = {key for block in blocks if (kinds[-1], key := key_of(block)) not in self._shared}
        if keys:
            there = self._names(kinds[-1], shared_store)
            self._shared |= {(kinds[-1], key) for key in keys}
            self.leave_all(kinds, sorted(key for key in keys if _name_of(key) not in there))

    def _names(self, kind: str, shared_store: SharedStore) -> set[str]:
        """List what is there of a kind, but for what was found damaged."""
        return {name for name in shared_store.names(kind) if (kind, name) not in self._damaged}

    def _fetch(self, kinds: Sequence[str], keys: Sequence[str], shared_store: SharedStore) -> set[str]:
        """Fetch things by their keys, and return those that are whole; the last kind is saved last."""
        # what cannot be compressed is a little longer when it is packed
        limit = (self._max_bytes + self._max_bytes // 64) * len(kinds)
        alone = Lock()

        def fetch(key: str) -> bool:
            packed = shared_store.get(kinds[-1], _name_of(key), min(_AT_ONCE_BYTES, limit))
            if packed is not None:
                return adopt(key, packed)
            with alone:
                return adopt(key, shared_store.get(kinds[-1], _name_of(key), limit))

        def adopt(key: str, packed: bytes | None) -> bool:
            try:
                bodies = _unpacked(_within(limit, packed), len(kinds))
                for kind, body in zip(kinds, bodies, strict=True):
                    self.store.adopt(kind, key, body, self._max_bytes)
            except ValueError as error:
                self._make_again(kinds[-1], _name_of(key), error)
                return False
            self._shared.add((kinds[-1], key))
            return True

        pool = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        try:
            return {key for key, is_whole in zip(keys, pool.map(fetch, keys), strict=True) if is_whole}
        finally:
            pool.shutdown(cancel_futures=True)

    def _make_again(self, kind: str, name: str, error: Exception) -> None:
        """Let what is damaged in the shared store count as absent, and be replaced."""
        log.warning("%s/%s in the shared block store is made again: %s", kind, name, error)
        self._damaged.add((kind, name))

    def fetch_all(self, kind: str, keys: Sequence[str]) -> bool:
        """Fetch things that are of use only together; return False if one is missing."""
        if self.shared_store is None or not set(map(_name_of, keys)) <= self._names(kind, self.shared_store):
            return False
        return self._fetch((kind,), keys, self.shared_store) == set(keys)

    def _leave(self, kind: str, name: str, body: bytes) -> None:
        """Leave one thing for the other parts."""
        if self.shared_store is not None:
            self.shared_store.put(kind, name, body, replaces=(kind, name) in self._damaged)

    def leave(self, kinds: Sequence[str], key: str) -> None:
        """Leave what was made of a block for the other parts.

        It becomes one object, so that what two attempts made of a block is never mixed.
        """
        if self.shared_store is not None:
            bodies = [self.store.body(kind, key) for kind in kinds]
            packed = b"".join(part for body in bodies for part in (_LENGTH.pack(len(body)), body))
            self._leave(kinds[-1], _name_of(key), packed)
            self._shared.add((kinds[-1], key))

    def leave_all(self, kinds: Sequence[str], keys: Sequence[str]) -> None:
        """Leave what was made of many blocks, some at a time."""
        if self.shared_store is not None:
            with ThreadPoolExecutor(_FETCHES, thread_name_prefix="leave") as pool:
                list(pool.map(lambda key: self.leave(kinds, key), keys))

    def leave_failed_block(self, kind: str, failed_block: FailedBlock) -> None:
        """Record for the other parts that a block failed."""
        reason, traceback = failed_block.reason[:_TEXT_CHARACTERS], failed_block.traceback[-_TEXT_CHARACTERS:]
        self.leave_note(f"failed-{kind}", key_of(failed_block.box), {"reason": reason, "traceback": traceback})

    def leave_note(self, kind: str, key: str, content: Mapping[str, Any]) -> None:
        """Leave plain values for the other parts."""
        name = f"{key}.note"
        self._leave(kind, name, sealed(json.dumps(content).encode(), f"{kind}/{name}"))

    def failed_blocks(self, kind: str, step: str, blocks: Sequence[Box]) -> list[FailedBlock]:
        """Return which blocks failed in other parts, and were not done since."""
        if self.shared_store is None:
            return []
        noted = self._names(f"failed-{kind}", self.shared_store)
        done = self._names(kind, self.shared_store) if noted else set()
        kind = f"failed-{kind}"
        found = []
        for block in blocks:
            name = f"{key_of(block)}.note"
            is_lost = name in noted and _name_of(key_of(block)) not in done
            note = self._note(kind, name, self.shared_store) if is_lost else None
            if note is not None:
                found.append(FailedBlock(block, step, str(note.get("reason")), str(note.get("traceback"))))
        return found

    def notes(self, kind: str) -> list[dict[str, Any]]:
        """Return some of the notes that other parts left, spread over all; what many parts say a sample says."""
        if self.shared_store is None:
            return []
        names = sorted(self._names(kind, self.shared_store))
        some = names[:: max(1, -(-len(names) // NOTES_SAMPLED))]
        return [note for name in some if (note := self._note(kind, name, self.shared_store)) is not None]

    def notes_of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return all of the notes of a kind by their keys."""
        if self.shared_store is None:
            return {}
        names = sorted(self._names(kind, self.shared_store))
        with ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch") as pool:
            notes = list(pool.map(partial(self._note, kind, shared_store=self.shared_store), names))
        found = zip(names, notes, strict=True)
        return {name.removesuffix(".note"): note for name, note in found if note is not None}

    def note_of(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return one note; None if there is none."""
        name = f"{key}.note"
        if self.shared_store is None or name not in self._names(kind, self.shared_store):
            return None
        return self._note(kind, name, self.shared_store)

    def _note(self, kind: str, name: str, shared_store: SharedStore) -> dict[str, Any] | None:
        """Read a note; None if it is damaged."""
        body = shared_store.get(kind, name, _NOTE_BYTES)
        try:
            return dict(json.loads(unsealed(_within(_NOTE_BYTES, body), f"{kind}/{name}")))
        except (ValueError, TypeError, RecursionError) as error:
            self._make_again(kind, name, error)
            return None


def _within(limit: int, body: bytes | None) -> bytes:
    """Return what was fetched; raise ValueError for what was too large."""
    if body is None:
        raise ValueError(f"it has more than the {limit:,} bytes that a run of this plan leaves")
    return body


def _unpacked(packed: bytes, count: int) -> list[bytes]:
    """Return the files that `leave` put together; raise ValueError if they are not so many."""
    bodies: list[bytes] = []
    at = 0
    while len(bodies) < count and at + _LENGTH.size <= len(packed):
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        bodies.append(packed[at : at + length])
        at += length
    if len(bodies) != count or at != len(packed):
        raise ValueError(f"it has {len(packed):,} bytes, which are not {count} files")
    return bodies


def _name_of(key: str) -> str:
    """Return the name in the shared block store."""
    return f"{key}.npz"
