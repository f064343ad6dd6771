"""Calls as programs of 2018 make them, in every form, and what their errors advise."""

from __future__ import annotations

import atexit
import contextlib
import logging
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import driver
import nd_boss
import nd_multicore
import pymeda_driver
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box
from NeuroDataResource import NeuroDataResource, get_boss_resource
from tests.cases import Case
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.in_process import main, restored

Z, Y, X = (0, 6), (0, 64), (0, 64)
LISTS: Any = ([0, 2], [0, 3], [4, 8])
ALL: Any = ([0, 6], [0, 64], [0, 64])
"""Ranges as many programs have them, in lists."""


@cache
def _channels() -> dict[str, NDArray[np.uint8]]:
    return blobs((6, 64, 64), 1, 30)


@cache
def _boss() -> BossServer:
    """Return a BOSS with col/exp to read and col/out to push to; it ends with this process."""
    stack = ExitStack()
    data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    fill(data, "col", "out", {"PSD95": _channels()["PSD95"]})
    fill(data, "col", "exp", {**_channels(), "labels": np.ones((6, 64, 64), np.uint64)})
    atexit.register(stack.close)
    return stack.enter_context(start_boss(data))


def _where(exp: str = "exp") -> tuple[str, str, str, str]:
    return _boss().url, _boss().token, "col", exp


def _config(folder: Path, collection: str = "col") -> str:
    file = folder / "neurodata.cfg"
    file.write_text(
        f"[Default]\ntoken = {_boss().token}\nhost = {_boss().url}\n[shared]\ncollection = {collection}\n"
        "experiment = exp\n[Parallel]\nchannels = PSD95\nx_range = 0,64\ny_range = 0,64\nz_range = 0,6\n"
    )
    return str(file)


def _described(resource: NeuroDataResource) -> str:
    asked = f"{resource.box}; {', '.join(resource.requested_channels)} of {', '.join(resource.channels)}"
    return f"{asked}; {resource.max_dimensions}; {resource.voxel_size}"


def _advice(call: Callable[[Path], object]) -> Callable[[Path], str]:
    """Return what tells how an error of a call advises."""

    def observe(folder: Path) -> str:
        try:
            call(folder)
        except NDSynapseError as error:
            return error.remedy
        return "no error"

    return observe


def _logged(call: Callable[[], object]) -> str:
    """Return the last line that a call logs as a warning or an error."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign] # shorter than a class
    logging.getLogger().addHandler(handler)
    try:
        call()
    finally:
        logging.getLogger().removeHandler(handler)
    return lines[-1]


def _break_down(data_dict: dict[str, NDArray[Any]]) -> None:
    raise RuntimeError("no synapse")


def _filled(folder: Path) -> str:
    block = nd_multicore.Block((0, 2), (0, 3), (0, 4))
    nd_multicore.get_data(NeuroDataResource(*_where(), ["PSD95"]), block)
    return "None" if block.data is None else f"PSD95 {block.data['PSD95'].shape}"


def _cutout(folder: Path) -> str:
    resource = NeuroDataResource(*_where(), ["PSD95"])
    found = resource.get_cutout(chan="PSD95", zRange=LISTS[0], yRange=LISTS[1], xRange=LISTS[2])
    right = np.array_equal(found, _channels()["PSD95"][0:2, 0:3, 4:8])
    return f"{found.dtype} {found.shape}, {'right' if right else 'wrong'}"


def _blocks(folder: Path) -> str:
    blocks = nd_multicore.compute_blocks(NeuroDataResource(*_where()), (64, 32, 4))
    return "; ".join(f"z {b.z_start}:{b.z_end} y {b.y_start}:{b.y_end} x {b.x_start}:{b.x_end}" for b in blocks)


def _wide() -> NeuroDataResource:
    resource = NeuroDataResource(*_where())
    resource.box = Box((0, 300), (0, 3000), (0, 3000))
    return resource


def _data(folder: Path) -> str:
    data, voxel_size = driver.get_data(*_where(), *LISTS)
    return f"{', '.join(f'{name} {voxels.dtype} {voxels.shape}' for name, voxels in data.items())}; {voxel_size}"


def _left_out(folder: Path) -> str:
    return _logged(lambda: driver.run_nomads({**_channels(), "GABA": _channels()["PSD95"] / 255}))


def _standardised(folder: Path) -> str:
    found = driver.load_and_preproc(_channels())
    return ", ".join(f"{name} {v.dtype} {abs(v.mean()):.3f} {v.std():.3f}" for name, v in found.items())


def _jobs(folder: Path) -> str:
    block, resource = nd_multicore.Block(*LISTS), NeuroDataResource(*_where())
    found = [
        nd_multicore.job(block, resource),
        nd_multicore.job(block, resource, _break_down),
        nd_multicore.job(block=block, resource=resource, function=lambda data_dict: data_dict["PSD95"]),
    ]
    return ", ".join(map(str, found))


def _remote(config: Any) -> str:
    remote = nd_boss.create_boss_remote(config)
    return ", ".join(sorted(remote.list_channels("col", "exp"))[:3])


def _mask(channels: dict[str, NDArray[Any]]) -> str:
    mask = driver.run_nomads(channels)
    same = np.array_equal(mask, driver.run_nomads(_channels()))
    return f"{mask.dtype} {mask.shape}, {'that' if same else 'another than that'} of the same voxels in uint8"


def _pushed(folder: Path) -> str:
    host, token, col, exp = _where("out")
    mask = (_channels()["PSD95"] > 100).astype(np.int64)
    links = nd_boss.boss_push(token, col, exp, ALL[0], ALL[1], ALL[2], {"All": mask}, "key", host=host)
    there = NeuroDataResource(host, token, col, exp).get_cutout(chan="key_All", zRange=Z, yRange=Y, xRange=X)
    return f"{links}; the channel is {'' if np.array_equal(there != 0, mask != 0) else 'not '}the mask"


def _taken(folder: Path) -> object:
    host, token, col, exp = _where("out")
    mask = _channels()["PSD95"] > 100
    for given in (mask, ~mask):
        nd_boss.boss_push(token, col, exp, Z, Y, X, {"All": given}, "taken", host=host)
    return None


def _driven(folder: Path) -> str:
    host, token, col, exp = _where()
    info, results, links = driver.driver(host, token, col, exp, Z, Y, X, path=f"{folder}/results/", push=False)
    return f"{info['results_key']}; {results.dtype} {results.shape}; {links}"  # type: ignore[union-attr] # there are results


def _pymeda(folder: Path) -> str:
    mask = driver.run_nomads(_channels())
    page = pymeda_driver.pymeda_pipeline(mask, driver.load_and_preproc(_channels()), title="T", path=f"{folder}/")
    return page.name


def _command(folder: Path) -> str:
    """Return the error of a command whose configuration names no collection that is there."""

    def run() -> None:
        with restored():
            main("nd_multicore", _config(folder, "cl"), "json:loads")

    with contextlib.redirect_stderr(None):
        return _logged(run)


CASES: tuple[Case, ...] = (
    Case(
        "resource-of-four",
        "NeuroDataResource(host, token, col, exp)",
        "as now",
        ("z 0:6 y 0:64 x 0:64; PSD95, SYNAPSIN, labels of PSD95, SYNAPSIN, labels; (6, 64, 64); (70.0, 100.0, 100.0)"),
        lambda folder: _described(NeuroDataResource(*_where())),
    ),
    Case(
        "resource-of-eight",
        "... with channels, x, y, z in lists",
        "as now",
        "z 0:2 y 0:3 x 4:8; PSD95 of PSD95, SYNAPSIN, labels; (6, 64, 64); (70.0, 100.0, 100.0)",
        lambda folder: _described(NeuroDataResource(*_where(), ["PSD95"], *LISTS[::-1])),
    ),
    Case(
        "resource-of-a-file",
        'get_boss_resource("neurodata.cfg")',
        "as now",
        "z 0:6 y 0:64 x 0:64; PSD95 of PSD95, SYNAPSIN, labels; (6, 64, 64); (70.0, 100.0, 100.0)",
        lambda folder: _described(get_boss_resource(_config(folder))),
    ),
    Case(
        "cutout-by-keywords",
        "get_cutout(chan=, zRange=, yRange=, xRange=) with lists",
        "as now",
        "uint8 (2, 3, 4), right",
        _cutout,
    ),
    Case(
        "data-of-a-block", "nd_multicore.get_data(resource, block), then block.data", "None", "PSD95 (2, 3, 4)", _filled
    ),
    Case(
        "jobs", "job(block, resource); with a function that raises; by keywords", "as now", "0_0_4, None, 0_0_4", _jobs
    ),
    Case(
        "blocks",
        "compute_blocks(resource, block_size) in x, y, z",
        "as now",
        "z 0:4 y 0:32 x 0:64; z 0:4 y 32:64 x 0:64; z 4:6 y 0:32 x 0:64; z 4:6 y 32:64 x 0:64",
        _blocks,
    ),
    Case(
        "remote",
        "create_boss_remote with token, host and protocol",
        "as now",
        "PSD95, SYNAPSIN, labels",
        lambda folder: _remote({"token": _boss().token, "host": _boss().host, "protocol": "http"}),
    ),
    Case(
        "remote-of-none",
        "create_boss_remote(None)",
        "TypeError: argument of type 'NoneType' is not iterable",
        "Give a dictionary with host and token",
        _advice(lambda folder: nd_boss.create_boss_remote(None)),
    ),
    Case(
        "data",
        "driver.get_data(host, token, col, exp, z, y, x)",
        "as now",
        ("PSD95 uint8 (2, 3, 4), SYNAPSIN uint8 (2, 3, 4), labels uint64 (2, 3, 4); (70.0, 100.0, 100.0)"),
        _data,
    ),
    Case(
        "nomads",
        "run_nomads(data_dict)",
        "as now",
        "uint8 (6, 64, 64), that of the same voxels in uint8",
        lambda folder: _mask(_channels()),
    ),
    Case(
        "nomads-big-endian",
        "run_nomads of uint16 in the other byte order",
        "DataError: a detection in arrays: their shapes are {}. Give arrays of one shape z, y, x.",
        "uint8 (6, 64, 64), that of the same voxels in uint8",
        lambda folder: _mask({name: voxels.astype(">u2") for name, voxels in _channels().items()}),
    ),
    Case(
        "nomads-of-fractions",
        "run_nomads of float64",
        "Give arrays of one shape z, y, x",
        "Give images (z, y, x) of uint8 or uint16",
        _advice(lambda folder: driver.run_nomads({name: voxels / 255 for name, voxels in _channels().items()})),
    ),
    Case(
        "nomads-left-out",
        "run_nomads with a channel of float64 beside two of uint8",
        "voxels are taken to have z, y, x (70.0, 100.0, 100.0) nm; give voxel_size_nm for others",
        "left out, for they are not uint8 or uint16: GABA (float64)",
        _left_out,
    ),
    Case(
        "preproc",
        "load_and_preproc(data_dict)",
        "as now",
        "SYNAPSIN float64 0.000 1.000, PSD95 float64 0.000 1.000",
        _standardised,
    ),
    Case(
        "preproc-not-finite",
        "load_and_preproc with one NaN",
        "no error",
        "Replace them, or leave it out",
        _advice(lambda folder: driver.load_and_preproc({"A": np.array([[[0, np.nan, 2.0]]])})),
    ),
    Case(
        "push",
        "boss_push(token, col, exp, z, y, x, data_dict, results_key)",
        "as now",
        "{'All': 'http://ndwt.neurodata.io/channel_detail/col/out/key_All/'}; the channel is the mask",
        _pushed,
    ),
    Case(
        "driver",
        "driver.driver(host, token, col, exp, z, y, x, path)",
        "as now",
        "nomads-unsupervised_col_exp_z_0_6_y_0_64_x_0_64; uint8 (6, 64, 64); {}",
        _driven,
        slow=True,
    ),
    Case("pymeda", "pymeda_pipeline(results, norm_data, title=, path=)", "as now", "PyMeda_t.html", _pymeda, slow=True),
    Case(
        "pymeda-not-a-number",
        "pymeda_pipeline of a mask with a NaN",
        "it counted as a synapse",
        "Give 0 or 255",
        _advice(lambda folder: pymeda_driver.pymeda_pipeline(np.array([[[0, np.nan]]]), {}, path=folder)),
    ),
    Case(
        "advice-block-size",
        "compute_blocks with a million blocks too many",
        "Give --block-size 4,32,32",
        "Give block_size=(32, 32, 4)",
        _advice(lambda folder: nd_multicore.compute_blocks(_wide(), (1, 1, 1))),
    ),
    Case(
        "advice-memory",
        "run_parallel with too little memory",
        "Give fewer --cpus or --pulls, or more --memory",
        "Give fewer cpus or pulls, or more memory_bytes",
        _advice(lambda folder: nd_multicore.run_parallel(_config(folder), len, 1, memory_bytes=10**6)),
    ),
    Case(
        "advice-range",
        "a range beyond the volume",
        "Give --x-range within it; the end is not included, so 64 reaches the last voxel",
        "Give x_range within it; the end is not included, so 64 reaches the last voxel",
        _advice(lambda folder: NeuroDataResource(*_where(), [], (0, 65), Y, Z)),
    ),
    Case(
        "advice-collection",
        "driver.get_data of a collection that is not there",
        "Check --col",
        "Check col",
        _advice(lambda folder: driver.get_data(*_where()[:2], "cl", "exp", Z, Y, X)),
    ),
    Case(
        "advice-file",
        "a collection in neurodata.cfg that is not there",
        "Check --col",
        "Check collection in neurodata.cfg",
        _advice(lambda folder: get_boss_resource(_config(folder, "cl"))),
    ),
    Case(
        "advice-file-command",
        "the same, in the command nd-synapse multicore",
        "collection cl: there is no such collection; there are col. Check --col.",
        ("collection cl: there is no such collection; there are col. Check collection in neurodata.cfg."),
        _command,
    ),
    Case(
        "advice-roles",
        "run_nomads with names that tell no role",
        "Name it with --channels presynaptic=NAME",
        "Name it with the names in data_dict",
        _advice(lambda folder: driver.run_nomads({"a": _channels()["PSD95"], "b": _channels()["SYNAPSIN"]})),
    ),
    Case(
        "advice-taken",
        "boss_push over another mask",
        ("Replace its mask with --overwrite (overwrite=True), or choose another experiment with --out-exp NAME"),
        "Replace its mask with overwrite=True, or choose another experiment with exp",
        _advice(_taken),
    ),
    Case(
        "advice-path",
        "driver.driver into a folder that cannot be made",
        "Give a --path that you may write to",
        "Give a path that you may write to",
        _advice(lambda folder: driver.driver(*_where(), Z, Y, X, path="/proc/x")),
    ),
)
