"""What functions and pipelines of users return, and what they do to the process that runs them."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

import driver
from nd_synapse.blocks.grid import key_of
from nd_synapse.blocks.pool import BlockPool, Boxes, Done
from nd_synapse.blocks.store import Store
from nd_synapse.blocks.tiles import Tiles
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.geometry import Box
from nd_synapse.importing import load_function
from nd_synapse.multicore.on_block import is_finished, run_on_block, set_up_worker
from nd_synapse.multicore.results import assembled_rows, assembled_volumes
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Pipeline, Place, Summary
from nd_synapse.pipeline.function import FunctionPipeline
from tests.cases import Case

BOX = Box.of_shape((4, 8, 8))
RAMP = np.arange(BOX.voxels, dtype=np.uint8).reshape(BOX.shape)
"""0 to 255, each once."""

BRIGHT = RAMP > 240
"""15 voxels in a row."""

Channels = Mapping[str, NDArray[Any]]


def _answer(observe: Callable[[Path], str], folder: Path) -> str:
    """Return what is observed, or the error that ends it."""
    try:
        return observe(folder)
    except Exception as error:  # noqa: BLE001 - whatever the program raises is its answer
        # what is to be done is the last sentence of a message
        found = str(error).partition(". ")[0].replace(str(folder), "FOLDER")
        return f"{type(error).__name__}: {found}"


# ---------------------------------------------------------------- a function on blocks


def _tiles(folder: Path) -> Tiles:
    """Return the pulled tiles of a box of two blocks, in an empty folder."""
    # relative, as --path is by default
    tiles = Tiles(Store(Path(os.path.relpath(folder))), "tiles", BOX, (2, 8, 8), {"ramp": np.dtype(np.uint8)})
    for tile in BOX.tiles(tiles.size):
        tiles.store.save_plain("tiles", f"0_{key_of(tile)}", RAMP[tile.slices()])
    return tiles


def _kept(function: Callable[[Channels], Any], folder: Path) -> str:
    """Run a function on one block, and return what was kept of it."""
    set_up_worker(_tiles(folder))
    store, box = Store(folder), Box((0, 2), (0, 8), (0, 8))
    run_on_block(box, function, (0, 0, 0))
    volumes = [
        f"{kind.removeprefix('volume-')}: {np.count_nonzero(array)} voxels of {array.dtype}"
        for kind in store.kinds("volume-")
        for array in [store.open_plain(kind, key_of(box))]
    ]
    rows = store.load("rows", key_of(box)) if store.has("rows", key_of(box)) else {}
    return "; ".join([*volumes, *(f"{name}: {values.tolist()} of {values.dtype}" for name, values in rows.items())])


def _returning(value: Any) -> Callable[[Path], str]:
    """Return what observes a function that returns a value."""
    return partial(_kept, lambda _: value)


class Metres(np.ndarray[Any, Any]):
    """An array with a unit."""

    unit = "m"


class Lazy:
    """Computes itself when NumPy asks, as dask, xarray and torch do."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._value


BLOCK = RAMP[:2]
MASKED = np.ma.masked_less(BLOCK, 120)


# ---------------------------------------------------------------- a plain function as a pipeline


def masked_array(channels: Channels) -> Any:
    """Return a masked array: a contrast that is not defined everywhere."""
    return np.ma.masked_where(channels["ramp"] <= 240, np.ones(BOX.shape, np.uint8))


def masked_list(channels: Channels) -> Any:
    """Return a masked array, section by section."""
    return list(masked_array(channels))


def fractions(channels: Channels) -> Any:
    """Return probabilities, some of them not known."""
    return np.where(channels["ramp"] > 240, 0.9, np.nan)


def of_a_mapping(channels: Channels) -> Any:
    """Return a mapping that is no dict."""
    return MappingProxyType({"All": channels["ramp"] > 240})


def nothing(_: Channels) -> Any:
    """Forget to return."""


def _detected(pipeline: Pipeline, _folder: Path, channel: Any = RAMP) -> str:
    """Run a pipeline on an array in memory, and return what it found."""
    found = detect_arrays(pipeline, {"ramp": channel}, (70.0, 100.0, 100.0))
    table, voxels = found.table, [int(np.count_nonzero(mask)) for mask in found.masks.values()]
    more = [f"{n} {table[n].tolist()}" for n in table if n in ("score", "voxels_bright", "voxels_odd")]
    return f"masks of {voxels} voxels; " + "; ".join([f"voxels {table['voxels'].tolist()}", *more])


def _plain(name: str) -> Callable[[Path], str]:
    """Return what observes a function of this module as a pipeline."""
    return partial(_detected, FunctionPipeline(f"{__name__}:{name}"))


# ---------------------------------------------------------------- a pipeline of another distribution


@dataclass(frozen=True)
class Own(Pipeline):
    """Finds `BRIGHT`; each field replaces what one of its methods returns."""

    detected: Any = None
    counts: Any = None
    learned: Any = None
    chosen: Any = None

    name = "own"
    help = "finds what is bright"

    def choose(self, channels: Any, chosen: Any) -> dict[str, str]:
        return {"marker": "ramp"}

    def summarise(self, arrays: Channels, place: Place) -> Summary:
        return {} if self.counts is None else {"levels": self.counts}

    def learn(self, summary: Summary, channels: Mapping[str, str]) -> Finding:
        return {} if self.learned is None else self.learned()

    def detect(self, arrays: Channels, finding: Finding, place: Place) -> Detected:
        return self.detected or Detected({"All": BRIGHT})

    def select(self, objects: Objects, finding: Finding) -> Chosen:
        return self.chosen(objects) if self.chosen else Chosen({"All": objects["voxels"] > 0})


def _own(**fields: Any) -> Callable[[Path], str]:
    """Return what observes such a pipeline."""
    return partial(_detected, Own(**fields))


def _divide(*_: Any) -> Any:
    """Fail as arithmetic does."""
    return 1 // 0


def _on_disk(folder: Path) -> str:
    """Return a mapped array."""
    np.save(folder / "saved.npy", BLOCK)
    return _kept(lambda _: np.load(folder / "saved.npy", mmap_mode="r"), folder / "store")


def _odd_bytes(_: Path) -> str:
    """Detect two sets of booleans whose bytes are 255, as a view of a picture has them."""
    bright, odd = ((mask * 255).astype(np.uint8).view(np.bool_) for mask in (BRIGHT, BRIGHT & (RAMP % 2 == 1)))
    detected = Detected({"bright": bright, "odd": odd})
    return _detected(
        Own(detected, chosen=lambda o: Chosen({"All": o["voxels"] > 0, "odd": o["voxels_odd"] > 0})), Path()
    )


def _chosen(masks: Callable[[Objects], Any], **columns: Callable[[Objects], Any]) -> Callable[[Objects], Chosen]:
    """Return a choice of a pipeline, made from its objects."""
    return lambda objects: Chosen({"All": masks(objects)}, {name: of(objects) for name, of in columns.items()})


def _all(objects: Objects) -> Any:
    return objects["voxels"] > 0


def _fingerprints(_: Path) -> str:
    """Say whether two findings that differ in one of 2,000 numbers have one name on disk."""
    from nd_synapse.detection.plan import _kind

    numbers = np.zeros(2000)
    one, other = (_kind("parts", {"levels": values}) for values in (numbers, np.where(np.arange(2000) == 1000, 1, 0.0)))
    found = _detected(Own(learned=lambda: {"levels": numbers}), Path())
    return f"{'one name' if one == other else 'two names'}; {found}"


# ---------------------------------------------------------------- processes


def twice(channels: Channels) -> Any:
    """Fork, and forget to end the child."""
    os.fork()
    return channels["ramp"] > 100


def helper(channels: Channels) -> Any:
    """Let a child do something, and end."""
    if os.fork() == 0:
        sys.exit(3)
    return channels["ramp"] > 100


def moved(_: Channels) -> Any:
    """Go to another folder, and let NumPy raise."""
    found = [Path.cwd() == Path("/")], [np.geterr()["divide"]]
    os.chdir("/")
    np.seterr(all="raise")
    return dict(zip(("moved", "division"), found, strict=True))


def _in_pool(function: Callable[[Channels], Any], folder: Path) -> str:
    """Run a function on two blocks in a worker process, and return what came of them, and the rows."""
    tiles = _tiles(folder)
    with BlockPool(1, set_up_worker, (tiles,)) as pool:
        task = partial(run_on_block, function=function, halo=(0, 0, 0))
        outcomes = sorted(pool.run(task, Boxes(BOX.tiles(tiles.size))), key=lambda outcome: outcome.box)
    came = ["done" if isinstance(outcome, Done) else outcome.reason.partition(". ")[0] for outcome in outcomes]
    rows = assembled_rows(tiles.store, [key_of(outcome.box) for outcome in outcomes if isinstance(outcome, Done)])
    return "; ".join([*dict.fromkeys(came), *(f"{name} {values.tolist()}" for name, values in rows.items())])


# ---------------------------------------------------------------- modules


@contextmanager
def _module(text: str, folder: Path) -> Iterator[None]:
    """Let a module `bright` be found while the context lasts."""
    (folder / "bright.py").write_text(textwrap.dedent(text))
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("bright", None)


def _imported(text: str, folder: Path) -> str:
    """Import a function `f` as commands do, and return what that changed in the process."""
    place = Path.cwd()
    with _module(text, folder), np.errstate():
        try:
            load_function("bright:f")
        finally:
            moved, division = Path.cwd() != place, np.geterr()["divide"]
            os.chdir(place)
    return f"working directory {'another' if moved else 'as before'}, division: {division}"


MOVES = """
    import os, numpy
    os.chdir("/")
    numpy.seterr(all="raise")
    def f(channels): pass
"""

CALLS = """
    import nd_multicore
    def f(channels): return {"bright": [(channels["PSD95"] > 100).sum()]}
    results = nd_multicore.run_parallel("neurodata.cfg", f, cpus=2)
"""


def _called_in_worker(folder: Path) -> str:
    """Run a function of a module that starts a run when a worker imports it."""
    text = f"""
        import os, nd_multicore
        def f(channels): pass
        if os.getpid() != {os.getpid()}: nd_multicore.run_parallel("neurodata.cfg", f)
    """
    with _module(text, folder):
        return _in_pool(importlib.import_module("bright").f, folder)


# ---------------------------------------------------------------- files of finished blocks


def _again(change: Callable[[list[Path]], object], kind: str, folder: Path) -> str:
    """Finish two blocks, change the files of one kind, go on, and return what came of it."""
    tiles = _tiles(folder)
    set_up_worker(tiles)
    boxes = list(BOX.tiles(tiles.size))
    task = partial(run_on_block, function=lambda c: {"same": c["ramp"], "most": [int(c["ramp"].max())]}, halo=(0, 0, 0))
    for box in boxes:
        task(box)
    change(sorted((folder / kind).iterdir()))
    missing = [box for box in boxes if not is_finished(tiles.store, box)]
    for box in missing:
        task(box)
    keys = [key_of(box) for box in boxes]
    rows = assembled_rows(tiles.store, keys)["most"].tolist()
    volume = np.asarray(assembled_volumes(tiles.store, keys, BOX, tiles.size)["same"])
    return (
        f"{len(missing)} blocks run again; volume {'right' if np.array_equal(volume, RAMP) else 'wrong'}, rows {rows}"
    )


def _trade(files: list[Path]) -> None:
    one, other = (path.read_bytes() for path in files)
    files[0].write_bytes(other)
    files[1].write_bytes(one)


def _flip(files: list[Path]) -> None:
    body = bytearray(files[0].read_bytes())
    body[-3] ^= 16
    files[0].write_bytes(bytes(body))


# ---------------------------------------------------------------- arrays that are given to functions


def _standardised(_: Path) -> str:
    """Standardise a channel of which half is masked."""
    (values,) = driver.load_and_preproc({"ramp": np.ma.masked_less(RAMP, 128)}).values()
    return f"mean {np.mean(values):.2f} over {values.size} voxels"


def _case(name: str, given: str, observe: Callable[[Path], str], before: str, after: str, slow: bool = False) -> Case:
    return Case(name, given, before, after, partial(_answer, observe), slow)


CASES: tuple[Case, ...] = (
    _case(
        "masked-volume",
        "a masked array as a volume",
        _returning(MASKED),
        "result: 127 voxels of uint8",
        "DataError: 'result' of a block: it is a masked array, whose mask would be lost",
    ),
    _case(
        "masked-column",
        "a masked column",
        _returning({"rows": MASKED[1, 7]}),
        "rows: [120, 121, 122, 123, 124, 125, 126, 127] of uint8",
        "DataError: 'rows' of a block: it is a masked array, whose mask would be lost",
    ),
    _case(
        "masked-sections",
        "a list of masked sections",
        _returning(list(MASKED)),
        "result: 127 voxels of uint8",
        "DataError: 'result' of a block: it is a masked array, whose mask would be lost",
    ),
    _case(
        "masked-value",
        "a list with a masked value in it",
        _returning({"rows": [1.5, np.ma.masked]}),
        "rows: [1.5, nan] of float64",
        "DataError: 'rows' of a block: it is a masked array, whose mask would be lost",
    ),
    _case(
        "masked-lazy",
        "an array that computes itself, and is masked then",
        _returning(Lazy(MASKED)),
        "result: 127 voxels of uint8",
        "DataError: 'result' of a block: it is a masked array, whose mask would be lost",
    ),
    _case(
        "lazy",
        "an array that computes itself",
        _returning(Lazy(BLOCK)),
        "result: 127 voxels of uint8",
        "result: 127 voxels of uint8",
    ),
    _case(
        "quantity",
        "an array with a unit",
        _returning(BLOCK.astype(np.float32).view(Metres)),
        "result: 127 voxels of float32",
        "DataError: 'result' of a block: it is a Metres, which is more than an array",
    ),
    _case("mapped", "an array on disk", _on_disk, "result: 127 voxels of uint8", "result: 127 voxels of uint8"),
    _case(
        "view-of-input",
        "a view of the input",
        partial(_kept, lambda channels: channels["ramp"][:, ::-1]),
        "result: 127 voxels of uint8",
        "result: 127 voxels of uint8",
    ),
    _case(
        "complex",
        "complex numbers",
        _returning(BLOCK * 1j),
        "result: 127 voxels of complex128",
        "result: 127 voxels of complex128",
    ),
    _case(
        "times",
        "a column of times",
        _returning({"rows": np.array(["2018-05-01"], "M8[D]")}),
        "rows: [datetime.date(2018, 5, 1)] of datetime64[D]",
        "rows: [datetime.date(2018, 5, 1)] of datetime64[D]",
    ),
    _case(
        "sparse",
        "a sparse column",
        _returning({"rows": scipy.sparse.coo_array(np.array([0, 0, 7]))}),
        "ValueError: 'rows' holds objects: numbers or texts can be saved",
        "DataError: 'rows' of a block: it holds objects or records (coo_array)",
    ),
    _case(
        "none-in-list",
        "a list with None in it",
        _returning({"rows": [1, None]}),
        "ValueError: 'rows' holds objects: numbers or texts can be saved",
        "DataError: 'rows' of a block: it holds objects or records (NoneType)",
    ),
    _case(
        "records",
        "records",
        _returning({"rows": np.zeros(2, [("z", "i4"), ("x", "i4")])}),
        "rows: [(0, 0), (0, 0)] of [('z', '<i4'), ('x', '<i4')]",
        "DataError: 'rows' of a block: it holds objects or records ([('z', '<i4'), ('x', '<i4')])",
    ),
    _case(
        "texts-and-numbers",
        "a list of numbers and texts",
        _returning({"rows": [1, "two"]}),
        "rows: ['1', 'two'] of <U21",
        "DataError: 'rows' of a block: NumPy would change its values, to those of <U21",
    ),
    _case(
        "fractions-and-large-numbers",
        "a list of 2**53 + 1 and a fraction",
        _returning({"rows": [2**53 + 1, 0.5]}),
        "rows: [9007199254740992.0, 0.5] of float64",
        "DataError: 'rows' of a block: NumPy would change its values, to those of float64",
    ),
    _case(
        "trailing-zero-bytes",
        "bytes that end with a zero",
        _returning({"rows": [b"ab\0"]}),
        "rows: [b'ab'] of |S3",
        "DataError: 'rows' of a block: NumPy would change its values, to those of |S3",
    ),
    _case(
        "unequal-lengths",
        "lists of unequal length",
        _returning({"rows": [[1, 2], [3]]}),
        "ValueError: setting an array element with a sequence",
        "DataError: 'rows' of a block: its parts differ in shape",
    ),
    _case(
        "two-results",
        "a tuple of a mask and a number",
        _returning((BLOCK > 5, 3)),
        "ValueError: setting an array element with a sequence",
        "DataError: 'result' of a block: its parts differ in shape",
    ),
    _case(
        "pipeline-masked",
        "a plain function that returns a masked array",
        _plain("masked_array"),
        "masks of [256] voxels; voxels [256]",
        "masks of [15] voxels; voxels [15]",
    ),
    _case(
        "pipeline-masked-sections",
        "a plain function that returns a list of masked sections",
        _plain("masked_list"),
        "masks of [256] voxels; voxels [256]",
        "DataError: mask 'All' of tests.cases.user_code:masked_list: it is a masked array, whose mask would be lost",
    ),
    _case(
        "pipeline-fractions",
        "a plain function that returns probabilities and NaN",
        _plain("fractions"),
        "DataError: mask 'All': it is float64 of the shape (4, 8, 8), the block has (4, 8, 8)",
        "DataError: mask 'All' of tests.cases.user_code:fractions: it is float64, and nothing says which values belong",
    ),
    _case(
        "pipeline-mapping",
        "a plain function that returns a mapping that is no dict",
        _plain("of_a_mapping"),
        "DataError: mask 'All': it is object of the shape (), the block has (4, 8, 8)",
        "masks of [15] voxels; voxels [15]",
    ),
    _case(
        "pipeline-nothing",
        "a plain function that returns nothing",
        _plain("nothing"),
        "DataError: mask 'All': it is object of the shape (), the block has (4, 8, 8)",
        "DataError: mask 'All' of tests.cases.user_code:nothing: it is None",
    ),
    _case(
        "set-masked",
        "a pipeline whose set is masked",
        _own(detected=Detected({"All": np.ma.masked_array(RAMP > 100, RAMP <= 240)})),
        "masks of [155] voxels; voxels [155]",
        "masks of [15] voxels; voxels [15]",
    ),
    _case(
        "set-of-other-bytes",
        "two sets of booleans whose bytes are 255",
        _odd_bytes,
        "NDSynapseError: mask odd of own: it has 15 voxels, the objects of the table have 8",
        "masks of [15, 8] voxels; voxels [15]; voxels_bright [15]; voxels_odd [8]",
    ),
    _case(
        "evidence-masked",
        "evidence that is masked",
        _own(
            detected=Detected({"All": BRIGHT}, {"score": np.ma.masked_greater(RAMP, 250)}),
            chosen=_chosen(_all, score=lambda o: o["max_score"]),
        ),
        "masks of [15] voxels; voxels [15]; score [255]",
        "DataError: evidence 'score': it is a masked array, whose mask would be lost",
    ),
    _case(
        "counts-of-fractions",
        "statistics that are fractions",
        _own(counts=np.array([0.5, 1.5])),
        "UFuncTypeError: Cannot cast ufunc 'add' output from dtype('float64') to dtype('int64')",
        "DataError: the counts 'levels' of a block: they are float64 of the shape (2,)",
    ),
    _case(
        "counts-masked",
        "statistics that are masked",
        _own(counts=np.ma.masked_array([3, 4], [True, False]), learned=dict),
        "masks of [15] voxels; voxels [15]",
        "DataError: the counts 'levels' of a block: it is a masked array, whose mask would be lost",
    ),
    _case(
        "learn-raises",
        "a pipeline that cannot learn",
        _own(learned=_divide),
        "ZeroDivisionError: integer division or modulo by zero",
        "DataError: learn of own: ZeroDivisionError: integer division or modulo by zero",
    ),
    _case(
        "learns-arrays",
        "a pipeline that learns an array of 2,000 numbers",
        _fingerprints,
        "one name; masks of [15] voxels; voxels [15]",
        "DataError: learn of own: TypeError: Object of type ndarray is not JSON serializable",
    ),
    _case(
        "select-raises",
        "a pipeline that cannot choose",
        _own(chosen=_divide),
        "ZeroDivisionError: integer division or modulo by zero",
        "DataError: select of own: ZeroDivisionError: integer division or modulo by zero",
    ),
    _case(
        "chosen-masked",
        "a choice that is masked",
        _own(chosen=_chosen(lambda o: np.ma.masked_array(_all(o), True))),
        "masks of [0] voxels; voxels []",
        "masks of [0] voxels; voxels []",
    ),
    _case(
        "column-masked",
        "a column of the table that is masked",
        _own(chosen=_chosen(_all, score=lambda o: np.ma.masked_array(o["voxels"], True))),
        "masks of [15] voxels; voxels [15]; score [15]",
        "DataError: column 'score' of select of own: it is a masked array, whose mask would be lost",
    ),
    _case(
        "column-of-other-length",
        "a column of the table that has a value too many",
        _own(chosen=_chosen(_all, score=lambda _: [1, 2])),
        "IndexError: boolean index did not match indexed array along axis 0",
        "DataError: select of own: of 1 objects it returned {'score': (2,)}",
    ),
    _case(
        "input-masked",
        "a masked channel, to the default pipeline's function on arrays",
        partial(_detected, Own(), channel=np.ma.masked_less(RAMP, 128)),
        "masks of [15] voxels; voxels [15]",
        "DataError: channel 'ramp': it is a masked array, whose mask would be lost",
    ),
    _case(
        "input-masked-standardised",
        "a masked channel to driver.load_and_preproc",
        _standardised,
        "mean 0.00 over 256 voxels",
        "DataError: channel 'ramp': it is a masked array, whose mask would be lost",
    ),
    _case(
        "file-damaged-rows",
        "rows of a finished block with a flipped bit",
        partial(_again, _flip, "rows"),
        "StorageError: reading FOLDER/rows/0_0_0.npz: the file is damaged, in every run",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    _case(
        "file-damaged-volume",
        "a volume of a finished block with a flipped bit",
        partial(_again, _flip, "volume-same"),
        "0 blocks run again; volume wrong, rows [127, 255]",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    _case(
        "file-damaged-mark",
        "the mark of a finished block with a flipped bit",
        partial(_again, _flip, "done"),
        "0 blocks run again; volume right, rows [127, 255]",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    _case(
        "files-traded-rows",
        "rows of two finished blocks that traded their contents",
        partial(_again, _trade, "rows"),
        "0 blocks run again; volume right, rows [255, 127]",
        "2 blocks run again; volume right, rows [127, 255]",
    ),
    _case(
        "files-traded-volumes",
        "volumes of two finished blocks that traded their contents",
        partial(_again, _trade, "volume-same"),
        "0 blocks run again; volume wrong, rows [127, 255]",
        "2 blocks run again; volume right, rows [127, 255]",
    ),
    _case(
        "file-cut",
        "a volume of a finished block that was cut short",
        partial(_again, lambda files: os.truncate(files[0], 100), "volume-same"),
        "StorageError: reading FOLDER/volume-same/0_0_0.npy: the file is damaged, in every run",
        "1 blocks run again; volume right, rows [127, 255]",
    ),
    _case(
        "import-calls-run",
        "a module that calls run_parallel at its top level, imported by a command",
        partial(_imported, CALLS),
        "the run began while its module was imported",
        "UsageError: run_parallel while the module bright was imported: every worker would call it again",
    ),
    _case(
        "import-moves",
        "a module that changes the working directory and NumPy's errors",
        partial(_imported, MOVES),
        "working directory another, division: raise",
        "working directory as before, division: warn",
    ),
    _case(
        "worker-calls-run",
        "a module that calls run_parallel at its top level, imported by a worker",
        _called_in_worker,
        "UsageError: configuration neurodata.cfg: there is no such file: the run began in the worker",
        "UsageError: run_parallel while the module of the function was imported: every worker would call it again",
        slow=True,
    ),
    _case(
        "forks-and-returns",
        "a function that forks, and returns twice",
        partial(_in_pool, twice),
        "done: both processes answered, and took blocks",
        "DataError: the function on a block: it forked, and the child returned from it as well",
        slow=True,
    ),
    _case(
        "forks-and-ends",
        "a function whose child ends by sys.exit",
        partial(_in_pool, helper),
        "no end within eight minutes: both processes took blocks",
        "done",
        slow=True,
    ),
    _case(
        "moves",
        "a function that changes the working directory and NumPy's errors, with a relative folder, on two blocks",
        partial(_in_pool, moved),
        "StorageError: writing scratch/rows/0_0_0.npz: no such file or directory: the run ended",
        "done; moved [False, False]; division ['warn', 'warn']",
        slow=True,
    ),
)
