"""The report's input: tables in files, arrays of masks and images, the command line of ``pymeda_driver``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import pymeda_driver
from nd_synapse.cli import report as cli_report
from nd_synapse.errors import UsageError
from nd_synapse.report import entry
from nd_synapse.report.alerts import alerts
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.table import SynapseTable, standardise
from tests.fuzz.cases import ABSENT, mutated_bytes, names, numbers, one_of_line, one_wrong, plain, sometimes, words
from tests.fuzz.judge import Target, untold

# --- tables -------------------------------------------------------------------------------------------------------

TABLES = [
    b"id,voxels,mean_PSD95,class,in_Gaba\n1,30,1.5,Gaba,True\n2,40,,Glut,False\n",
    b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4\r\n",
    b"z,y,x,type\n1,2,3,inhibitory\n4,5,6,excitatory\n",
    b"a\n1e308\n-1e308\n",
    b'"a,b",c\n"1",2\n',
]
cells = st.floats(-1e6, 1e6).map(str) | st.integers(0, 99).map(str) | st.sampled_from(["", "NA", "nan"])
bad_cells = words | numbers.map(str) | st.sampled_from(['"', '"a', "1,2", "\r", "1e400", "True"])
HEADINGS = ["id", "voxels", "volume_um3", "slices", "touches_border", "class", "in_Gaba", "mean_PSD95", "mean_a", "b"]
HEADINGS += [f"centroid_{axis}_{unit}" for axis in "zyx" for unit in ("voxel", "um")]


def csv_of(header: list[str], rows: list[list[str]]) -> bytes:
    return "".join(",".join(row) + "\n" for row in [header, *rows]).encode("utf-8", "replace")


@st.composite
def csv_tables(
    draw: st.DrawFn, headings: list[str], right: st.SearchStrategy[str], wrong: st.SearchStrategy[str]
) -> bytes:
    """A table of some columns."""
    header = draw(st.lists(st.sampled_from(headings), min_size=1, max_size=8, unique=True))
    return draw(csv_under(header, right, wrong))


@st.composite
def csv_under(
    draw: st.DrawFn, header: list[str], right: st.SearchStrategy[str], wrong: st.SearchStrategy[str], least: int = 0
) -> bytes:
    """A table under a header; a heading, a cell or a row is odd in half of the cases."""
    header = list(header)
    row = st.lists(right, min_size=len(header), max_size=len(header))
    rows = draw(st.lists(row, min_size=least, max_size=6))
    match draw(st.sampled_from(["", "", "", "", "heading", "cell", "cell", "row"])):
        case "heading":
            header[draw(st.integers(0, len(header) - 1))] = draw(words | st.sampled_from(header))
        case "cell" if rows:
            draw(st.sampled_from(rows))[draw(st.integers(0, len(header) - 1))] = draw(wrong)
        case "row":
            rows.append(draw(st.lists(right, max_size=9)))
    return csv_of(header, rows)


def log_error(table: Mapping[str, Any], facts: RunFacts) -> None:
    """Do what a report does before it draws."""
    synapses = SynapseTable(table)
    brightness = np.stack(
        [np.asarray(table[name], np.float64) for name in synapses.channels.values()] or [np.zeros(synapses.n)]
    )
    found = standardise(list(synapses.channels) or ["none"], brightness.T)
    assert np.isfinite(found.values).all()
    assert set(synapses.groups) is not None
    assert all(isinstance(text, str) for text in alerts(synapses, found, facts))


def read_table(body: bytes, folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(body)
    log_error(pymeda_driver.read_table(path), RunFacts(requested={}))


# --- arrays -------------------------------------------------------------------------------------------------------


@st.composite
def volumes(draw: st.DrawFn, shape: tuple[int, ...], types: list[Any]) -> NDArray[Any]:
    dtype = np.dtype(draw(st.sampled_from(types)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype.kind in "fc":
        values = rng.normal(0, draw(st.sampled_from([1.0, 0.0, 1e30, 1e308])), shape).astype(dtype)
        values[rng.random(shape) < 0.1] = draw(st.sampled_from([0, 1, 0, np.nan, np.inf, -np.inf]))
        return values
    top = np.iinfo(dtype).max if dtype.kind in "iu" else 1
    return rng.integers(0, draw(st.sampled_from([1, 2, min(top, 255)])), shape, endpoint=True).astype(dtype)


SHAPE = (2, 5, 6)
MASK_TYPES = [np.bool_, np.uint8, np.int64, np.float32]
IMAGE_TYPES = [np.uint8, np.uint16, np.float32, np.float64, np.int16]
ODD_TYPES = [np.bool_, np.complex64, np.uint64, object, "U1", np.float16]
bad_shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
mask = volumes(SHAPE, MASK_TYPES)
masks = mask | st.dictionaries(names, mask, min_size=1, max_size=3)
images = st.dictionaries(names, volumes(SHAPE, IMAGE_TYPES), max_size=3)


def _odd(types: list[Any]) -> st.SearchStrategy[Any]:
    """Draw a volume of another shape or type."""
    other = bad_shapes.flatmap(lambda shape: volumes(shape, types))
    return other | st.builds(lambda dtype: np.zeros(SHAPE).astype(dtype), st.sampled_from(ODD_TYPES))


ARRAYS: dict[str, st.SearchStrategy[Any]] = {
    "results": masks,
    "norm_data": images,
    "title": sometimes(names),
    "origin": sometimes(st.tuples(*[st.integers(0, 99)] * 3)),
    "voxel_size_nm": st.none() | st.tuples(*[st.floats(1, 999)] * 3),
}
WRONG_ARRAYS: dict[str, st.SearchStrategy[Any]] = {
    "results": _odd(MASK_TYPES) | st.dictionaries(names, mask | _odd(MASK_TYPES), max_size=2),
    "norm_data": st.dictionaries(names | words, _odd(IMAGE_TYPES), min_size=1, max_size=2),
    "title": words,
    "origin": st.lists(plain, max_size=4).map(tuple),
    "voxel_size_nm": st.lists(numbers, max_size=4).map(tuple)
    | st.sampled_from([(0, 1, 1), (-1, 1, 1), (1, float("nan"), 1)]),
}


def _undrawn(path: Path, *, title: str, table: Mapping[str, Any], facts: RunFacts, **_: Any) -> Path:
    """Do what a report does, but for the figures, which take seconds."""
    log_error(table, facts)
    return path


def measure(case: dict[str, Any], folder: Path) -> None:
    with mock.patch.object(entry, "write_report", _undrawn):
        pymeda_driver.pymeda_pipeline(**case, path=folder)


# --- the command line ---------------------------------------------------------------------------------------------

LINE: dict[str, st.SearchStrategy[Any]] = {"table": st.just("table.csv"), "--out": names, "--title": sometimes(names)}
WRONG_LINE: dict[str, st.SearchStrategy[Any]] = {
    "table": st.just(ABSENT) | st.sampled_from(["nowhere.csv", "a folder", "\x00"]) | words,
    "--out": st.just(ABSENT) | words,
    "--title": words | st.sampled_from(["--nope", "-h"]),
}


def draw_report(case: tuple[list[str], bytes], folder: Path) -> None:
    line, body = case
    (folder / "table.csv").write_bytes(body)
    (folder / "a folder").mkdir(exist_ok=True)
    line = [str(folder / word) if word in ("table.csv", "a folder") else word for word in line]
    with (
        untold(),
        mock.patch.object(cli_report, "write_report", _undrawn),
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        try:
            assert pymeda_driver.main(line) == 0
        except SystemExit as end:
            if end.code == 2:
                # a parser of Python's own has told what is wrong, on a page of usage
                raise UsageError("the command line", "its parser refuses it", "See --help") from end
            if end.code != 0:
                raise AssertionError(f"it exits with {end.code}") from end


tables = csv_tables(HEADINGS, cells, bad_cells)

TARGETS = [
    Target("tables of the report", tables | tables | mutated_bytes(TABLES), read_table, 4, results=0.4, places=3),
    Target("arrays of the report", one_wrong(ARRAYS, WRONG_ARRAYS), measure, 4, results=0.4, places=2),
    Target(
        "report's command line", st.tuples(one_of_line(LINE, WRONG_LINE), tables), draw_report, 3, results=0.3, places=3
    ),
]
