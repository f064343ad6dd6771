"""What a run has finished, and what other parts of it have: its store, and the shelf that the parts share.

It computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from box import Box
from detection.shelf import Shelf
from detection.store import Store, key_of

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
        missing = [block for block in blocks if not self.store.has(kinds[-1], key_of(block))]
        if self.shelf is None or not missing:
            return missing
        there = self.shelf.names(kinds[-1])
        shelved = [block for block in missing if _name_of(key_of(block)) in there]
        if wanted:
            self._fetch([(kind, key_of(block)) for block in shelved for kind in kinds], self.shelf)
        finished = set(shelved)
        return [block for block in missing if block not in finished]

    def _fetch(self, wanted: Sequence[tuple[str, str]], shelf: Shelf) -> None:
        """Fetch things, given by their kinds and keys; the last kind of a block comes last."""

        def fetch(one: tuple[str, str]) -> None:
            kind, key = one
            self.store.adopt(kind, key, shelf.get(kind, _name_of(key)))

        pool = ThreadPoolExecutor(_FETCHES, thread_name_prefix="fetch")
        try:
            for _ in pool.map(fetch, wanted):
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
        self._fetch([(kind, key) for key in keys], self.shelf)
        return True

    def leave_one(self, kind: str, key: str) -> None:
        """Leave one thing for the other parts.

        Parameters
        ----------
        kind, key : str
            Which, in the store.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached.
        """
        if self.shelf is not None:
            self.shelf.put(kind, _name_of(key), self.store.body(kind, key))

    def leave(self, kinds: Sequence[str], block: Box) -> None:
        """Leave what was made of a block for the other parts.

        Parameters
        ----------
        kinds : sequence of str
            What was made of it.
        block : Box
            The block.

        Raises
        ------
        NDSynapseError
            If the shelf cannot be reached.
        """
        for kind in kinds:
            self.leave_one(kind, key_of(block))


def _name_of(key: str) -> str:
    """Return the name on the shelf."""
    return f"{key}.npz"
