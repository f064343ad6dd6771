"""Zarr in S3 and on web servers, for zarr to decode: a store that reads objects, many at a time, and writes none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import requests
import urllib3
from requests.adapters import HTTPAdapter
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from nd_synapse.errors import DataError, PermissionDeniedError, UnavailableError, UnknownNameError, UsageError
from nd_synapse.files.reading import reading
from nd_synapse.files.zarr_arrays import Node, open_node

__all__ = ["open_remote"]

_AT_ONCE = 16
_LIMITS_S = (10, 60)
"""Limits of a request: to connect, and between two pieces of a response."""
_BUSY = (429, 500, 502, 503, 504)
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_REMEDY = "Check the address, and your right to read there"


class _Reader(Protocol):
    """What reads objects below one address."""

    def read(self, key: str, range_header: str | None = None) -> bytes | None:
        """Return an object or a part of it; None if there is none."""

    def names(self, folder: str) -> list[str]:
        """Return what is right below a folder."""


class _Web:
    """The files below a URL; a web server has no lists of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        retries = urllib3.Retry(4, connect=2, status_forcelist=_BUSY, backoff_factor=0.5, raise_on_status=False)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_AT_ONCE, max_retries=retries))

    def read(self, key: str, range_header: str | None = None) -> bytes | None:
        """Return a file, or a part of it by a header such as ``bytes=0-9``; None if there is none."""
        url = f"{self.url}/{key}"
        # with a coding of its own a server would change the bytes that a range counts
        headers = {"Accept-Encoding": "identity"} | ({} if range_header is None else {"Range": range_header})
        try:
            response = self._session.get(url, headers=headers, timeout=_LIMITS_S)
            body = response.content
        except requests.RequestException as error:
            raise UnavailableError(f"reading {url}", f"no answer ({type(error).__name__})", _REMEDY) from error
        if response.status_code in (404, 410):
            return None
        found = f"the server answered {response.status_code} {response.reason or ''}".rstrip()
        if response.status_code in (401, 403):
            raise PermissionDeniedError(f"reading {url}", found, _REMEDY)
        if response.status_code not in (200, 206):
            raise UnavailableError(f"reading {url}", found, _REMEDY)
        return body if range_header is None or response.status_code == 206 else _cut(body, range_header)

    def names(self, folder: str) -> list[str]:
        """Refuse: a group has to name its arrays itself."""
        found = "a web server does not list a folder, and the group has no consolidated metadata"
        raise UsageError(f"{self.url}/{folder}".rstrip("/"), found, "Name an array or an OME-Zarr image in it")


def _cut(body: bytes, range_header: str) -> bytes:
    """Return the part of a whole body that was requested from a server without ranges."""
    start, _, last = range_header.removeprefix("bytes=").partition("-")
    if not start:
        return body[-int(last) :]
    return body[int(start) : int(last) + 1 if last else None]


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

    A server that shows no lists answers 403 for what is missing. Of metadata several kinds are tried, so a 403 counts
    as missing there, and is kept; of a chunk it cannot be told from a zero block, and is raised.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, reader: _Reader) -> None:
        super().__init__(read_only=True)
        self._reader = reader
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="source")
        self.refused: PermissionDeniedError | None = None

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return an object or a part of it; None if there is none."""
        loop = asyncio.get_running_loop()
        try:
            body = await loop.run_in_executor(self._threads, self._reader.read, key, _range_header(byte_range))
        except PermissionDeniedError as error:
            if key.rpartition("/")[2] not in _METADATA:
                raise
            self.refused = error
            return None
        return None if body is None else prototype.buffer.from_bytes(body)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several parts."""
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Return whether there is an object; only small ones, of metadata, are asked for."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._reader.read, key) is not None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield what is right below a folder."""
        names = await asyncio.get_running_loop().run_in_executor(self._threads, self._reader.names, prefix.strip("/"))
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
    reader: _Reader
    if url.startswith("s3://"):
        from nd_synapse.aws.objects import Objects  # boto3 is imported only where it is used

        reader = Objects(url)
    else:
        reader = _Web(url)
    store: Any = _RemoteStore(reader)
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
