"""Pipelines: parameters, roles, JSON queries, and what functions of users declare, return and raise."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import nd_multicore
import NeuroDataResource
from nd_synapse.blocks.pool import BlockPool, Done, Failed, Feed
from nd_synapse.blocks.worker import _attempt
from nd_synapse.cli import multicore
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box, Frame
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.function import FunctionPipeline
from nd_synapse.pipeline.parameters import parse_parameters
from pipelines.query import Query, parse_markers, parse_query
from tests.detection.in_process import InProcessPool
from tests.fuzz.cases import (
    ABSENT,
    json_values,
    mutated_json,
    mutated_text,
    names,
    numbers,
    one_of_line,
    one_wrong,
    plain,
    sometimes,
    words,
)
from tests.fuzz.judge import Target, quietly, untold
from tests.fuzz.targets.jobs import bad_gib, bad_numbers, bad_sizes, flag, gib, sizes

# --- parameters and roles -----------------------------------------------------------------------------------------

markers = st.lists(
    st.builds(lambda name, slices: f"{name}:{slices}", names, st.integers(1, 3)) | names, min_size=1, max_size=3
).map(",".join)
bad_markers = st.sampled_from(["a:0", "a:4", ":2", ",", "a:b", ",".join("ab" * 40), "a" * 5000]) | mutated_text(
    ["a:2,b:1"]
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "noise_fold": st.floats(0, 1000).map(str),
    "min_volume_um3": st.floats(0, 10).map(str),
    "min_voxels": st.integers(1, 2**63 - 1).map(str),
    "evidence": st.just("both"),
    "presynaptic": markers,
    "postsynaptic": markers,
    "punctum": st.integers(1, 8).map(lambda half: str(2 * half)),
    "threshold": st.floats(0, 1).map(str),
}
"""Right values by the name of a parameter; all others are tried with their defaults."""


@st.composite
def parameters(draw: st.DrawFn) -> tuple[str, dict[str, str], list[str], dict[str, str]]:
    """A pipeline with values for its parameters, the names of channels, and roles; one of them wrong, or none."""
    name = draw(st.sampled_from(registry.names()))
    declared = registry.parameters(name)
    right = {one.name: VALUES.get(one.name, st.just(str(one.default))) for one in declared if one.name != "query"}
    given = {one: draw(right[one]) for one in draw(st.lists(st.sampled_from(sorted(right)), max_size=2, unique=True))}
    channels = [role.markers[0] for role in registry.build(name, {}).roles]
    if name == "probabilistic":
        channels += [
            word.partition(":")[0]
            for side in ("presynaptic", "postsynaptic")
            for word in given.get(side, "").split(",")
        ]
    channels = list(dict.fromkeys(channel for channel in channels if channel))
    roles: dict[str, str] = {}
    wrong = draw(st.sampled_from(["", "", "", "", "value", "name", "channels", "roles"]))
    if wrong == "value":
        chosen = draw(st.sampled_from(declared))
        given[chosen.name] = draw(mutated_text([str(chosen.default)]) | words | numbers.map(str) | bad_markers)
    elif wrong == "name":
        given[draw(words)] = draw(words)
    elif wrong == "channels":
        channels = draw(st.lists(st.sampled_from(channels) | words, max_size=5))
    elif wrong == "roles":
        role = st.sampled_from(["presynaptic", "postsynaptic"])
        roles = draw(st.dictionaries(role | words, st.sampled_from(channels) | words, max_size=2))
    return name, given, channels, roles


def build_pipeline(case: tuple[str, dict[str, str], list[str], dict[str, str]], folder: Path) -> None:
    name, given, channels, roles = case
    parse_parameters(registry.parameters(name), given)
    pipeline = registry.build(name, given)
    halo = pipeline.halo((70.0, 100.0, 100.0))
    assert all(isinstance(n, int) and 0 <= n < 10**6 for n in halo), halo
    json.dumps(dict(pipeline.settings), allow_nan=False)
    chosen = pipeline.choose(channels, roles)
    assert set(chosen.values()) <= set(channels)


# --- queries ------------------------------------------------------------------------------------------------------

QUERY: dict[str, st.SearchStrategy[Any]] = {
    "presynaptic": markers | st.just(""),
    "postsynaptic": markers,
    "punctum": sometimes(st.integers(1, 8).map(lambda half: 2 * half)),
    "threshold": sometimes(st.floats(0, 1)),
}
WRONG_QUERY: dict[str, st.SearchStrategy[Any]] = {
    "presynaptic": bad_markers | json_values,
    "postsynaptic": bad_markers | json_values,
    "punctum": st.integers(-3, 99) | plain | json_values,
    "threshold": st.floats(-1, 2) | plain | json_values,
}
DEFAULTS = Query(parse_markers("a", "presynaptic"), (), 2, 0.9)


def read_query(text: str, folder: Path) -> None:
    query = parse_query(text, DEFAULTS)
    assert 0 <= query.threshold <= 1
    assert query.base


queries = (
    one_wrong(QUERY, WRONG_QUERY).map(lambda value: json.dumps(value))
    | one_wrong(QUERY, WRONG_QUERY).map(lambda value: json.dumps(value))
    | mutated_text(['{"presynaptic": "a:2", "punctum": 4}', '{"postsynaptic": "a", "postsynaptic": "b"}'])
    | mutated_json([{"presynaptic": "a:2", "punctum": 4}]).map(lambda value: json.dumps(value))
)

# --- what functions of users do -----------------------------------------------------------------------------------

SHAPE = (2, 3, 4)
SIZE_ZYX = (2, 2, 4)
VOXEL_SIZE_NM = (70.0, 100.0, 100.0)


class Unprintable(Exception):  # noqa: N818 - what a user may call one
    """An exception that does not print itself."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS = [
    ValueError("x"),
    KeyError(),
    MemoryError("all"),
    OSError(28, "full"),
    SystemExit(3),
    RecursionError(),
    Unprintable(),
]
DTYPES = [np.bool_, np.uint8, np.uint16, np.int64, np.float32, np.float64]
BAD_DTYPES = [np.complex64, "S3", "U2", "M8[s]", "m8[s]", object, np.float16, [("a", "u1"), ("b", "f4")]]


def _array(shape: tuple[int, ...], dtype: Any, value: int) -> NDArray[Any]:
    return np.full(shape, value).astype(dtype)


@st.composite
def _of_block(draw: st.DrawFn, halo: tuple[int, int, int], good: bool) -> Any:
    """What a function makes of a block: a function of the block's shape, for blocks at a border are smaller."""
    cut, value = draw(st.booleans()), draw(st.integers(0, 1))
    if good:
        dtype, off = draw(st.sampled_from(DTYPES)), (0, 0, 0)
    else:
        dtype = draw(st.sampled_from([*DTYPES, *BAD_DTYPES]))
        off = draw(st.tuples(*[st.integers(-1, 1)] * draw(st.integers(0, 4))))

    def made(shape: tuple[int, ...]) -> Any:
        inner = [n - 2 * h if cut else n for n, h in zip(shape, halo, strict=True)]
        padded = [*inner, *[1] * len(off)][: len(off)]
        return _array(tuple(max(0, n + d) for n, d in zip(padded, off, strict=True)), dtype, value)

    return made


@st.composite
def functions(draw: st.DrawFn, columns: bool) -> dict[str, Any]:
    """A function: what it declares, and what it returns or raises, of which one thing is wrong or none."""
    wrong = draw(st.sampled_from(["", "", "", "", "halo", "masks", "array", "name", "error", "other", "bytes"]))
    halo = draw(st.tuples(*[st.integers(0, 2)] * 3))
    declared = draw(st.lists(plain, max_size=4).map(tuple) | plain) if wrong == "halo" else halo
    masks = draw(st.sampled_from([("All",), ("All", "Gaba")]))
    returned = {name: draw(_of_block(halo, wrong != "array")) for name in masks}
    if columns and draw(st.booleans()):
        rows = draw(st.integers(0, 3))
        dtype = draw(st.sampled_from([*DTYPES, "U3"] if wrong != "array" else [*DTYPES, *BAD_DTYPES]))
        returned |= {name: lambda _shape: _array((rows,), dtype, 1) for name in ("x", "y")}
        if wrong == "array":
            returned["z"] = lambda _shape: _array((draw_rows,), np.int64, 1)
            draw_rows = draw(st.integers(0, 4))
    if wrong == "name":
        returned[draw(words | plain)] = draw(_of_block(halo, True))
    return {
        "halo": declared,
        "masks": draw(plain | st.lists(words, max_size=3).map(tuple)) if wrong == "masks" else masks,
        "working_bytes": draw(plain) if wrong == "bytes" else 16,
        "returned": returned,
        "error": draw(st.sampled_from(ERRORS)) if wrong == "error" else None,
        "other": (draw(json_values | st.sampled_from([b"", object(), {1, 2}, iter(()), np.float64(1)])),)
        if wrong == "other"
        else (),
        "alone": draw(st.booleans()),
    }


def given_function(case: Mapping[str, Any]) -> Callable[[dict[str, NDArray[Any]]], Any]:
    """Return the function of a case."""

    def function(channels: dict[str, NDArray[Any]]) -> Any:
        if case["error"] is not None:
            raise case["error"]
        if case["other"]:
            return case["other"][0]
        shape = next(iter(channels.values())).shape
        made = {name: make(shape) for name, make in case["returned"].items()}
        return next(iter(made.values())) if case["alone"] and len(made) == 1 else made

    for name in ("halo", "masks", "working_bytes"):
        setattr(function, name, case[name])
    return function


class Resource:
    """A volume in place of BOSS, for functions on blocks."""

    box = Box.of_shape(SHAPE, (1, 5, 0))
    frame = Frame("frame", box, VOXEL_SIZE_NM)
    identity = "arrays"
    channels = image_channels = requested_channels = readable_channels = ("one", "two")

    def dtype(self, channel: str) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def get_cutout(self, channel: str, *ranges: tuple[int, int]) -> NDArray[Any]:
        return np.arange(24, dtype=np.uint8).reshape(SHAPE)[Box(*ranges).slices(self.box.start)]


class Pool(InProcessPool):
    """Runs blocks in this process, and makes of what they raise what a worker does; what they send is pickled."""

    def __init__(self, cpus: int, setup: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        # it refuses what no pool can have, and starts its workers later, which is never
        BlockPool(cpus)
        super().__init__(cpus, setup, arguments)

    def run(self, function: Callable[[Box], Any], feed: Feed) -> Iterator[Done | Failed]:
        def attempt(box: Box) -> Any:
            return pickle.loads(pickle.dumps(_attempt(function, box)))

        for outcome in super().run(attempt, feed):
            result = outcome.result if isinstance(outcome, Done) else outcome
            if isinstance(result, NDSynapseError):
                raise result
            assert isinstance(result, Done | Failed)
            yield result


@contextmanager
def at_hand() -> Iterator[None]:
    """Let blocks be run here, on a volume that is here."""
    with (
        mock.patch.object(nd_multicore, "BlockPool", Pool),
        mock.patch.object(NeuroDataResource, "get_boss_resource", return_value=Resource()),
    ):
        yield


def run_on_blocks(case: Mapping[str, Any], folder: Path) -> None:
    with at_hand():
        z, y, x = SIZE_ZYX
        results = nd_multicore.run_parallel("none.cfg", given_function(case), 2, (x, y, z), memory_bytes=2**34)
    assert len(results) + len(results.failed) == 4
    for failed in results.failed.values():
        assert failed.reason.strip()
    if results.failed:
        assert set(results.volumes) | set(results.rows) <= set(case["returned"]) | {"result"}
    for name, volume in results.volumes.items():
        assert np.asarray(volume).shape == SHAPE, name
    assert len({len(column) for column in results.rows.values()}) <= 1


def run_as_pipeline(case: Mapping[str, Any], folder: Path) -> None:
    function = given_function(case)
    if case["error"] is not None:
        outcome = _attempt(lambda box: function({"one": np.zeros(SHAPE)}), Resource.box)
        assert isinstance(outcome, Failed)
        assert outcome.reason.strip()
        return
    with mock.patch("pipelines.function._load", return_value=function):
        pipeline = FunctionPipeline("module:function")
        channels = {name: np.arange(24, dtype=np.uint8).reshape(SHAPE) for name in ("one", "two")}
        found = detect_arrays(pipeline, channels, VOXEL_SIZE_NM, block_size=SIZE_ZYX, threads=1)
        assert set(found.masks) == set(pipeline.masks)
    assert all(mask.shape == SHAPE for mask in found.masks.values())


# --- the command line of nd_multicore -----------------------------------------------------------------------------

LINE: dict[str, st.SearchStrategy[Any]] = {
    "config": st.just("neurodata.cfg"),
    "function": st.sampled_from(
        ["tests.pipelines.variants:bright", "math:fsum", "tests.fuzz.targets.detectors:nothing"]
    ),
    "--cpus": sometimes(st.integers(1, 4).map(str)),
    "--block-size": sometimes(sizes),
    "--pulls": sometimes(st.integers(1, 8).map(str)),
    "--memory": gib.filter(lambda text: float(text) > 1),
    "--scratch": sometimes(st.just("scratch")),
    "--quiet": flag,
}
WRONG_LINE: dict[str, st.SearchStrategy[Any]] = {
    "config": st.just(ABSENT) | st.just("--config"),
    "function": st.sampled_from(["math", "math:", ":x", "math:pi", "no.such:f", "math:nope", "builtins:int", "..a:b"])
    | mutated_text(["math:fsum"]),
    "--cpus": bad_numbers,
    "--block-size": bad_sizes,
    "--pulls": bad_numbers,
    "--memory": bad_gib | st.just("0.00001"),
    "--quiet": words | st.sampled_from(["--tokn", "--block-size=1"]),
}


def nothing(channels: dict[str, NDArray[Any]]) -> None:
    """A function that saves nothing."""


def run_shell(line: list[str], folder: Path) -> None:
    line = [str(folder / word) if word == "scratch" else word for word in line]
    with at_hand(), untold(), mock.patch("stopping.hear"), mock.patch("stopping.ignore"):
        code = multicore.main(line)
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    assert code == 0


TARGETS = [
    Target("parameters and roles", parameters(), build_pipeline, 5, results=0.35, places=8),
    Target("queries", queries, read_query, 5, results=0.25, places=8),
    Target("functions as pipelines", functions(False), run_as_pipeline, 4, results=0.3, places=3),
    Target("functions on blocks", functions(True), run_on_blocks, 3, results=0.4, places=2),
    Target("nd_multicore's command line", one_of_line(LINE, WRONG_LINE), quietly(run_shell), 3, results=0.25, places=7),
]
