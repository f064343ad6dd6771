"""Finished blocks: those of other parts on the shelf, and those of an earlier run in a scratch folder."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import blosc
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import nd_multicore
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.store import Store
from nd_synapse.detection.exchange import Exchange
from nd_synapse.detection.plan import remembered_block_size
from nd_synapse.geometry import Box
from tests.fuzz.cases import mutated_bytes, mutated_json, names, words
from tests.fuzz.judge import Target
from tests.fuzz.targets.detectors import SIZE_ZYX, at_hand
from tests.fuzz.targets.stacks import bad_types, npys, types, voxels

BLOCK = Box((0, 2), (0, 3), (0, 4))
KINDS = ("first", "last")

# --- what `Store.save` saves --------------------------------------------------------------------------------------

columns = st.builds(voxels, st.tuples(st.integers(0, 5)), types | bad_types, st.integers(0, 9))
arrays = st.dictionaries(
    names | words.filter(lambda text: "\ud800" not in text and "\x00" not in text), columns, max_size=3
)


def saved(given: dict[str, NDArray[Any]]) -> bytes:
    """Return the file of some arrays."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.save("kind", "key", given)
        return store.body("kind", "key")


def _packed(body: bytes) -> bytes:
    packed: bytes = blosc.compress(body, typesize=4, cname="lz4")
    return packed


def _savez(**given: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **given)
    return file.getvalue()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """The file of some arrays, which may be damaged: in Blosc's header, in the archive, or in an array."""
    body = saved(draw(arrays))
    match draw(st.sampled_from([""] * 9 + ["header", "bytes", "inner", "names", "objects", "pickle"])):
        case "header":
            changed = bytearray(body)
            place = draw(st.sampled_from([0, 1, 2, 3, 4, 8, 12]))
            changed[place] = draw(st.integers(0, 255))
            return bytes(changed)
        case "bytes":
            return draw(mutated_bytes([body]))
        case "inner":
            return _packed(draw(mutated_bytes([blosc.decompress(body)])))
        case "names":
            listed = draw(
                st.sampled_from(
                    [np.array(["a", "b"]), np.array(3), np.array([1.5]), np.zeros((2, 2)), np.array([b"x"])]
                )
            )
            return _packed(_savez(arr_0=np.zeros(2), names=listed))
        case "objects":
            return _packed(_savez(arr_0=np.array([None], object), names=np.array(["a"])))
        case "pickle":
            return draw(st.sampled_from([_packed(pickle.dumps({"a": 1})), pickle.dumps({"a": 1}), b"", _packed(b"")]))
    return body


MOST_BYTES = 2**20


def load(body: bytes, folder: Path) -> None:
    store = Store(folder)
    store.adopt("kind", "key", body, MOST_BYTES)
    for values in store.load("kind", "key").values():
        assert values.dtype.kind != "O"


def open_plain(body: bytes, folder: Path) -> None:
    store = Store(folder)
    (folder / "kind").mkdir(exist_ok=True)
    store.path("kind", "key", "npy").write_bytes(body)
    array = store.open_plain("kind", "key")
    assert array.dtype.kind != "O"
    assert np.array(array).size == array.size


# --- the shelf ----------------------------------------------------------------------------------------------------


class SharedStore:
    """A shelf on which anything may lie."""

    def __init__(self, there: dict[str, bytes]) -> None:
        self.there = there

    def names(self, kind: str) -> set[str]:
        return {name.removeprefix(f"{kind}/") for name in self.there if name.startswith(f"{kind}/")}

    def get(self, kind: str, name: str, most_bytes: int) -> bytes | None:
        body = self.there[f"{kind}/{name}"]
        return body if len(body) <= most_bytes else None

    def put(self, kind: str, name: str, body: bytes) -> None:
        self.there.setdefault(f"{kind}/{name}", body)


def together(parts: list[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


@st.composite
def shelved(draw: st.DrawFn) -> bytes:
    """What two kinds of one block became on the shelf; a length or a file in it is odd in half of the cases."""
    parts = [saved(draw(arrays)), saved(draw(arrays))]
    match draw(st.sampled_from(["", "", "", "length", "count", "part", "bytes"])):
        case "length":
            body = bytearray(together(parts))
            body[0:8] = struct.pack("<Q", draw(st.integers(0, 2**64 - 1) | st.integers(0, 999)))
            return bytes(body)
        case "count":
            return together(draw(st.sampled_from([parts[:1], parts * 2, []])))
        case "part":
            parts[draw(st.integers(0, 1))] = draw(bodies())
        case "bytes":
            return draw(mutated_bytes([together(parts)]))
    return together(parts)


def fetch(body: bytes, folder: Path) -> None:
    shutil.rmtree(folder / "store", ignore_errors=True)
    store = Store(folder / "store")
    exchange = Exchange(store, SharedStore({f"last/{key_of(BLOCK)}.npz": body}), MOST_BYTES)
    assert exchange.unfinished(KINDS, [BLOCK], wanted=True) == []
    for kind in KINDS:
        store.load(kind, key_of(BLOCK))


HOLE = {"reason": "it failed", "traceback": "Traceback"}
notes = (
    st.fixed_dictionaries({"reason": words, "traceback": words}).map(lambda note: json.dumps(note).encode())
    | mutated_json([HOLE]).map(lambda note: json.dumps(note).encode())
    | mutated_bytes([json.dumps(HOLE).encode()])
)


def read_holes(body: bytes, folder: Path) -> None:
    exchange = Exchange(Store(folder), SharedStore({f"holes-last/{key_of(BLOCK)}.json": body}), MOST_BYTES)
    (failed_block,) = exchange.failed_blocks("last", "step", [BLOCK])
    assert isinstance(failed_block.reason, str)


# --- an earlier run's scratch folder ------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 99), min_size=3, max_size=3).map(lambda size: json.dumps(size).encode())
remembered = (
    sizes | mutated_json([[8, 64, 64]]).map(lambda size: json.dumps(size).encode()) | mutated_bytes([b"[8, 64, 64]"])
)


def remember(body: bytes, folder: Path) -> None:
    (folder / "block_size.json").write_bytes(body)
    size = remembered_block_size(folder)
    assert size is None or (len(size) == 3 and min(size) > 0)


def halved(channels: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A function on blocks, of this module, so that what it returned can be kept."""
    voxels_ = channels["one"]
    return {"half": voxels_ // 2, "mean": np.array([voxels_.mean()])}


def _run(scratch: Path) -> nd_multicore.Results:
    z, y, x = SIZE_ZYX
    with at_hand():
        return nd_multicore.run_parallel("none.cfg", halved, 2, (x, y, z), scratch=scratch, memory_bytes=2**34)


@cache
def scratch_files() -> dict[str, bytes]:
    """What a run of four blocks leaves in its scratch folder."""
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder))
        return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@st.composite
def scratches(draw: st.DrawFn) -> dict[str, bytes]:
    """A scratch folder of which one file is changed or missing."""
    files = dict(scratch_files())
    name = draw(st.sampled_from(sorted(files)))
    match draw(st.sampled_from(["bytes", "bytes", "file", "out"])):
        case "bytes":
            files[name] = draw(mutated_bytes([files[name]]))
        case "file":
            files[name] = draw(npys if name.endswith("npy") else bodies())
        case "out":
            for other in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=4)):
                files.pop(other, None)
    return files


def go_on(files: dict[str, bytes], folder: Path) -> None:
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    for name, body in files.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(body)
    with mock.patch("nd_multicore.log"):
        found = _run(scratch)
    assert len(found) + len(found.failed) == 4
    for volume in found.volumes.values():
        assert np.asarray(volume).shape == (2, 3, 4)


TARGETS = [
    Target("stored blocks", bodies(), load, 3, results=0.3, places=2),
    Target("stored arrays", npys, open_plain, 2, results=0.3, places=1),
    Target("blocks on the shelf", shelved(), fetch, 3, results=0.4, places=2),
    Target("holes on the shelf", notes, read_holes, 2, results=0.3, places=0),
    Target("sizes of earlier blocks", remembered, remember, 2, results=0.3, places=0),
    Target("blocks of an earlier run", st.deferred(scratches), go_on, 3, results=0.2, places=1),
]
