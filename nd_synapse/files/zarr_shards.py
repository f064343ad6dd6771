"""Arrays of Zarr 3 in shards, written without zarr: in less than half the time, by processes that do not import it.

The layout is https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html, with the index at the
end, and chunks packed by zstd.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import DTypeLike, NDArray

from nd_synapse.files.sharded import interleaved
from nd_synapse.geometry import Box

__all__ = ["array_metadata", "chunks_of", "group_metadata", "packed"]

_ZSTD_LEVEL = 3

_ABSENT = 2**64 - 1
_CHECK_BYTES = 4

_Shape = tuple[int, int, int]


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """Return the `zarr.json` of a group."""
    return _json({"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def array_metadata(shape: Sequence[int], dtype: DTypeLike, shard: _Shape, chunk: _Shape) -> bytes:
    """Return the `zarr.json` of an array (z, y, x) of unsigned integers, 0 where nothing is written."""
    several = {"name": "bytes", "configuration": {"endian": "little"}}
    own = several if np.dtype(dtype).itemsize > 1 else {"name": "bytes"}
    zstd = {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}}
    sharding = {
        "chunk_shape": chunk,
        "codecs": [own, zstd],
        "index_codecs": [several, {"name": "crc32c"}],
        "index_location": "end",
    }
    return _json(
        {
            "shape": shape,
            "data_type": np.dtype(dtype).name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
            "dimension_names": tuple("zyx"),
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }
    )


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def packed(
    voxels: NDArray[np.unsignedinteger], shard: _Shape, chunk: _Shape, inside: NDArray[np.bool_] | None = None
) -> bytes | None:
    """Return the file of a shard that begins with some voxels, 0 beyond them and where not `inside`; None if all are 0.

    The bytes are those that zarr writes: chunks of zeros are left out, the others lie in the order of their bits.
    """
    grid = _grid(shard, chunk)
    index = np.full((*grid, 2), _ABSENT, "<u8")
    bodies, end = [], 0
    whole = np.zeros(chunk, voxels.dtype.newbyteorder("<"))
    for place in _order(grid):
        here = _box(place, chunk).slices()
        part = voxels[here]
        if part.shape != chunk:
            whole[:] = 0
        filled = whole[tuple(slice(n) for n in part.shape)]
        if inside is None:
            filled[:] = part
        else:
            np.multiply(part, inside[here], out=filled)
        # numbers are counted in a tenth of the time in which `any` looks at them
        if not np.count_nonzero(whole):
            continue
        body = Zstd(_ZSTD_LEVEL).encode(whole)
        index[place] = end, len(body)
        bodies.append(body)
        end += len(body)
    if not bodies:
        return None
    check: int = google_crc32c.value(index.tobytes())
    return b"".join([*bodies, index.tobytes(), check.to_bytes(_CHECK_BYTES, "little")])


def chunks_of(
    body: bytes, shard: _Shape, chunk: _Shape, dtype: DTypeLike
) -> Iterator[tuple[Box, NDArray[np.unsignedinteger]]]:
    """Yield the chunks of a file that `packed` returned, each with its place in the shard, but those of zeros."""
    grid = _grid(shard, chunk)
    end = len(body) - _CHECK_BYTES
    index = np.frombuffer(body[:end], "<u8", 2 * int(np.prod(grid)), end - 16 * int(np.prod(grid))).reshape(*grid, 2)
    for place in _order(grid):
        start, size = (int(n) for n in index[place])
        if start != _ABSENT:
            voxels = np.frombuffer(Zstd().decode(body[start : start + size]), np.dtype(dtype).newbyteorder("<"))
            yield _box(place, chunk), voxels.reshape(chunk)


def _grid(shard: _Shape, chunk: _Shape) -> _Shape:
    """Return how many chunks a shard has along each axis."""
    z, y, x = (n // m for n, m in zip(shard, chunk, strict=True))
    return z, y, x


@cache
def _order(grid: _Shape) -> list[_Shape]:
    """Return the places of chunks in the order in which zarr writes them: by the bits of z, y and x in turn."""
    places = np.indices(grid, np.uint64).reshape(3, -1)
    order = np.argsort(interleaved(list(places), [(n - 1).bit_length() for n in grid]))
    return [(int(z), int(y), int(x)) for z, y, x in places[:, order].T]


def _box(place: _Shape, chunk: _Shape) -> Box:
    """Return the voxels of a chunk in its shard."""
    return Box.of_shape(chunk, [i * n for i, n in zip(place, chunk, strict=True)])
