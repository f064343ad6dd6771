"""Zarr in S3 and on web servers, for zarr to decode: a store that reads objects, many at a time, and writes none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from nd_synapse.errors import DataError, NDSynapseError, PermissionDeniedError, UnknownNameError
from nd_synapse.files.chunked import AT_ONCE
from nd_synapse.files.reading import reading
from nd_synapse.files.zarr_arrays import Node, open_node
from nd_synapse.sources.objects import objects_at

__all__ = ["open_remote"]

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def _range_header(wanted: ByteRequest | None) -> str | None:
    match wanted:
        case RangeByteRequest(start, end):
            return f"bytes={start}-{end - 1}"
        case OffsetByteRequest(offset):
            return f"bytes={offset}-"
        case SuffixByteRequest(suffix):
            return f"bytes=-{suffix}"
    return None


class _RemoteStore(Store):
    """What zarr asks for, read by threads.

    A server that shows no lists answers 403 for what is missing, and others a web page. Of metadata several kinds are
    tried, so both count as missing there, and are kept; of a chunk a 403 cannot be told from zeros, and is raised.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, url: str) -> None:
        super().__init__(read_only=True)
        self.url, self.objects = url, objects_at(url)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="source")
        self.refused: NDSynapseError | None = None

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return an object or a part of it; None if there is none."""
        loop = asyncio.get_running_loop()
        try:
            body = await loop.run_in_executor(self._threads, self.objects.read, key, _range_header(byte_range))
        except PermissionDeniedError as error:
            if key.rpartition("/")[2] not in _METADATA:
                raise
            self.refused = error
            return None
        if body is not None and key.rpartition("/")[2] in _METADATA and body.lstrip()[:1] == b"<":
            remedy = "Check the address, and whether one has to sign in there"
            self.refused = DataError(f"reading {self.url}/{key}", "the server answered a web page", remedy)
            return None
        return None if body is None else prototype.buffer.from_bytes(body)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several parts."""
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Return whether there is an object; only small ones, of metadata, are asked for."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.objects.read, key) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield what is right below a folder."""
        names = await asyncio.get_running_loop().run_in_executor(self._threads, self.objects.names, prefix.strip("/"))
        for name in names:
            yield name

    def list(self) -> AsyncIterator[str]:
        """Refuse: a method that stores of Zarr must have, and that reading does not need."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refuse: a method that stores of Zarr must have, and that reading does not need."""
        raise NotImplementedError

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: the store of a source is read only."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refuse: the store of a source is read only."""
        raise NotImplementedError


def open_remote(url: str) -> Node:
    """Open a Zarr array or group by its URL."""
    store: Any = _RemoteStore(url)
    try:
        with reading(url):
            return open_node(store)
    except UnknownNameError as error:
        if store.refused is not None:
            raise store.refused from None
        if error.requested != url:
            raise
        found = "there is no Zarr array, and no group"
        raise UnknownNameError(url, found, "Check the address: it ends with the folder of the Zarr metadata") from error
    except DataError:
        if store.refused is not None:
            raise store.refused from None
        raise
