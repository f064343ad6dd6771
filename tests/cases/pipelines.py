"""What pipelines of users return, and what arrays they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import driver
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.pipeline.contract import Chosen, Detected, Finding, Objects, Pipeline, Place, Summary
from nd_synapse.pipeline.function import FunctionPipeline
from tests.cases import Case
from tests.cases._user_code import BOX, RAMP, Channels, case

BRIGHT = RAMP > 240
"""15 voxels in a row."""


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


# ---------------------------------------------------------------- arrays that are given to functions


def _standardised(_: Path) -> str:
    """Standardise a channel of which half is masked."""
    (values,) = driver.load_and_preproc({"ramp": np.ma.masked_less(RAMP, 128)}).values()
    return f"mean {np.mean(values):.2f} over {values.size} voxels"


CASES: tuple[Case, ...] = (
    case(
        "pipeline-masked",
        "a plain function that returns a masked array",
        _plain("masked_array"),
        "masks of [256] voxels; voxels [256]",
        "masks of [15] voxels; voxels [15]",
    ),
    case(
        "pipeline-masked-sections",
        "a plain function that returns a list of masked sections",
        _plain("masked_list"),
        "masks of [256] voxels; voxels [256]",
        "DataError: mask 'All' of tests.cases.pipelines:masked_list: it is a masked array, whose mask would be lost",
    ),
    case(
        "pipeline-fractions",
        "a plain function that returns probabilities and NaN",
        _plain("fractions"),
        "DataError: mask 'All': it is float64 of the shape (4, 8, 8), the block has (4, 8, 8)",
        "DataError: mask 'All' of tests.cases.pipelines:fractions: it is float64, and nothing says which values belong",
    ),
    case(
        "pipeline-mapping",
        "a plain function that returns a mapping that is no dict",
        _plain("of_a_mapping"),
        "DataError: mask 'All': it is object of the shape (), the block has (4, 8, 8)",
        "masks of [15] voxels; voxels [15]",
    ),
    case(
        "pipeline-nothing",
        "a plain function that returns nothing",
        _plain("nothing"),
        "DataError: mask 'All': it is object of the shape (), the block has (4, 8, 8)",
        "DataError: mask 'All' of tests.cases.pipelines:nothing: it is None",
    ),
    case(
        "set-masked",
        "a pipeline whose set is masked",
        _own(detected=Detected({"All": np.ma.masked_array(RAMP > 100, RAMP <= 240)})),
        "masks of [155] voxels; voxels [155]",
        "masks of [15] voxels; voxels [15]",
    ),
    case(
        "set-of-other-bytes",
        "two sets of booleans whose bytes are 255",
        _odd_bytes,
        "NDSynapseError: mask odd of own: it has 15 voxels, the objects of the table have 8",
        "masks of [15, 8] voxels; voxels [15]; voxels_bright [15]; voxels_odd [8]",
    ),
    case(
        "evidence-masked",
        "evidence that is masked",
        _own(
            detected=Detected({"All": BRIGHT}, {"score": np.ma.masked_greater(RAMP, 250)}),
            chosen=_chosen(_all, score=lambda o: o["max_score"]),
        ),
        "masks of [15] voxels; voxels [15]; score [255]",
        "DataError: evidence 'score': it is a masked array, whose mask would be lost",
    ),
    case(
        "counts-of-fractions",
        "statistics that are fractions",
        _own(counts=np.array([0.5, 1.5])),
        "UFuncTypeError: Cannot cast ufunc 'add' output from dtype('float64') to dtype('int64')",
        "DataError: the counts 'levels' of a block: they are float64 of the shape (2,)",
    ),
    case(
        "counts-masked",
        "statistics that are masked",
        _own(counts=np.ma.masked_array([3, 4], [True, False]), learned=dict),
        "masks of [15] voxels; voxels [15]",
        "DataError: the counts 'levels' of a block: it is a masked array, whose mask would be lost",
    ),
    case(
        "learn-raises",
        "a pipeline that cannot learn",
        _own(learned=_divide),
        "ZeroDivisionError: integer division or modulo by zero",
        "DataError: learn of own: ZeroDivisionError: integer division or modulo by zero",
    ),
    case(
        "learns-arrays",
        "a pipeline that learns an array of 2,000 numbers",
        _fingerprints,
        "one name; masks of [15] voxels; voxels [15]",
        "DataError: learn of own: TypeError: Object of type ndarray is not JSON serializable",
    ),
    case(
        "select-raises",
        "a pipeline that cannot choose",
        _own(chosen=_divide),
        "ZeroDivisionError: integer division or modulo by zero",
        "DataError: select of own: ZeroDivisionError: integer division or modulo by zero",
    ),
    case(
        "chosen-masked",
        "a choice that is masked",
        _own(chosen=_chosen(lambda o: np.ma.masked_array(_all(o), True))),
        "masks of [0] voxels; voxels []",
        "masks of [0] voxels; voxels []",
    ),
    case(
        "column-masked",
        "a column of the table that is masked",
        _own(chosen=_chosen(_all, score=lambda o: np.ma.masked_array(o["voxels"], True))),
        "masks of [15] voxels; voxels [15]; score [15]",
        "DataError: column 'score' of select of own: it is a masked array, whose mask would be lost",
    ),
    case(
        "column-of-other-length",
        "a column of the table that has a value too many",
        _own(chosen=_chosen(_all, score=lambda _: [1, 2])),
        "IndexError: boolean index did not match indexed array along axis 0",
        "DataError: select of own: of 1 objects it returned {'score': (2,)}",
    ),
    case(
        "input-masked",
        "a masked channel, to the default pipeline's function on arrays",
        partial(_detected, Own(), channel=np.ma.masked_less(RAMP, 128)),
        "masks of [15] voxels; voxels [15]",
        "DataError: channel 'ramp': it is a masked array, whose mask would be lost",
    ),
    case(
        "input-masked-standardised",
        "a masked channel to driver.load_and_preproc",
        _standardised,
        "mean 0.00 over 256 voxels",
        "DataError: channel 'ramp': it is a masked array, whose mask would be lost",
    ),
)
