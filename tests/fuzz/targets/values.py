"""Single values: hosts, names, ranges, boxes, sizes, pairs, files of parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from nd_synapse import values
from nd_synapse.boss import connection, destination
from nd_synapse.cli import run_options
from nd_synapse.geometry import Box
from nd_synapse.job import folder as result_folder
from nd_synapse.job import job as result_names
from tests.fuzz.cases import half, mutated_bytes, mutated_text, names, numbers, one_wrong, plain, words
from tests.fuzz.judge import Target
from tests.fuzz.targets.jobs import (
    bad_gib,
    bad_hosts,
    bad_names,
    bad_ranges,
    bad_roles,
    bad_sizes,
    gib,
    hosts,
    ranges,
    sizes,
)


def read_host(text: str, folder: Path) -> None:
    address = connection.address_of(text)
    assert connection.address_of(address.url) == address


def read_names(case: dict[str, str], folder: Path) -> None:
    destination.Destination(*case.values())


def name_folder(case: dict[str, str], folder: Path) -> None:
    key = result_names.results_key(*case.values(), Box((0, 1), (0, 1), (0, 1)))
    assert result_folder.ResultFolder.named(folder, key).root.parent == folder


def read_range(text: Any, folder: Path) -> None:
    start, stop = run_options.parse_axis_range("z", text)
    box = Box((start, stop), (0, 3), (0, 4))
    assert box.voxels == math.prod(box.shape) > 0


def read_box(case: dict[str, Any], folder: Path) -> None:
    size = case.pop("size")
    box = Box(**case)
    if math.prod(-(-n // max(s, 1)) for n, s in zip(box.shape, size, strict=True)) < 1000:
        assert sum(tile.voxels for tile in box.tiles(size)) == box.voxels
        assert sum(tile.voxels for tile in box.tiles(size, aligned=True)) == box.voxels
    inner = box.grown((1, 2, 3), Box(*[(1 - 2**63, 2**63 - 1)] * 3))
    assert inner.contains(box)
    assert box.intersection(inner) == box


def read_size(text: str, folder: Path) -> None:
    assert min(values.parse_block_size(text)) > 0


def read_gib(text: str, folder: Path) -> None:
    assert (values.parse_gib("--memory", text) or 0) >= 0


def read_pairs(text: str, folder: Path) -> None:
    assert all(values.parse_pairs("--channels", text.split(","), empty=True))


def read_parameters(case: tuple[str, bytes], folder: Path) -> None:
    text, body = case
    (folder / "query.json").write_bytes(body)
    values.parse_assignments([text.replace("FOLDER", str(folder))])


addresses_of_hosts = st.builds(
    lambda scheme, host, port, end: f"{scheme}{host}{port}{end}",
    st.sampled_from(["http://", "https://", ""]),
    hosts.filter(lambda host: ":" not in host),
    st.integers(1, 65535).map(lambda port: f":{port}") | st.just(""),
    st.sampled_from(["", "/"]),
)
ends = st.tuples(st.integers(-5, 40), st.integers(41, 90)) | st.tuples(st.integers(-(2**70), 0), st.integers(1, 2**70))
bad_ends = (
    st.tuples(st.integers(41, 90), st.integers(-5, 41))
    | st.tuples(plain, plain)
    | st.lists(st.integers(0, 9), max_size=4)
    | plain
)
pairs = st.dictionaries(names, names | st.just(""), min_size=1, max_size=4).map(
    lambda given: ",".join(f"{name}={value}" for name, value in given.items())
)
BOX = {"z": ends, "y": ends, "x": ends, "size": st.lists(st.integers(1, 99), min_size=3, max_size=3)}
NAMES = {"collection": names, "experiment": names, "channel": names}

TARGETS = [
    Target("host", half(hosts | addresses_of_hosts, bad_hosts), read_host, 4, results=0.3, places=5),
    Target("names", one_wrong(NAMES, dict.fromkeys(NAMES, bad_names | st.just("e" * 252))), read_names, 3, 0.4, 2),
    Target(
        "names of folders",
        one_wrong(
            {"pipeline": names, "collection": names, "experiment": names}, {"collection": words, "experiment": words}
        ),
        name_folder,
        3,
        results=0.4,
        places=1,
    ),
    Target(
        "ranges",
        half(
            ranges | st.tuples(st.integers(0, 9), st.integers(10, 10**9 - 1)),
            bad_ranges | st.lists(numbers, max_size=3),
        ),
        read_range,
        3,
        results=0.2,
        places=2,
    ),
    Target(
        "boxes and blocks",
        one_wrong(
            BOX,
            {"z": bad_ends, "y": bad_ends, "x": bad_ends, "size": st.lists(st.integers(-1, 1), min_size=3, max_size=3)},
        ),
        read_box,
        4,
        results=0.4,
        places=2,
    ),
    Target("sizes of blocks", half(sizes, bad_sizes), read_size, 2, 0.2, 1),
    Target("sizes in GiB", half(gib, bad_gib), read_gib, 2, 0.3, 1),
    Target("pairs", half(pairs, bad_roles), read_pairs, 2, 0.3, 2),
    Target(
        "parameters in files",
        st.tuples(
            st.sampled_from(["query=@FOLDER/query.json"] * 4 + ["query=@nowhere", "query=@FOLDER", "query=@\0", "a=b"])
            | mutated_text(["query=@FOLDER/query.json"]),
            mutated_bytes([b'{"threshold": 0.9}', "é".encode()])
            | words.map(lambda text: text.encode("utf-8", "replace")),
        ),
        read_parameters,
        2,
        results=0.2,
        places=3,
    ),
]
