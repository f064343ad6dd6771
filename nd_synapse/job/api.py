"""A job as functions: the historical ones of `driver.py`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse import logs
from nd_synapse.boss.address import volume_of_uri
from nd_synapse.credentials import Token
from nd_synapse.errors import DataError, UsageError, called, few
from nd_synapse.geometry import Box, Range, voxel_size_of
from nd_synapse.importing import refuse_nested
from nd_synapse.job.deliverables import GROWING
from nd_synapse.job.folder import locked
from nd_synapse.job.in_boss import fields_of
from nd_synapse.job.job import BUCKET_VARIABLE, Job
from nd_synapse.pipeline import registry
from nd_synapse.progress import silent
from nd_synapse.sources.location import Location
from nd_synapse.user_code import array_of
from nd_synapse.values import parse_path

if TYPE_CHECKING:
    from nd_synapse.detection.outcome import Detection
    from nd_synapse.sources.source import Ranges

__all__ = ["driver", "get_data", "load_and_preproc", "run_nomads", "upload_results"]

log = logging.getLogger(__name__)

_Given = str | Path | Mapping[str, str | Path] | None

_Boss = tuple[str | None, Token | str | None, str | None, str | None]
"""Host, token, collection, experiment."""

_VOXEL_SIZE_NM = (70.0, 100.0, 100.0)
"""That of the volumes which the historical function was written for."""


@called(col="col", exp="exp")
def driver(
    host: str | None = None,
    token: Token | str | None = None,
    col: str | None = None,
    exp: str | None = None,
    z_range: Range | None = None,
    y_range: Range | None = None,
    x_range: Range | None = None,
    path: str | Path = "./results/",
    *,
    source: str | Path | Mapping[str, str | Path] | None = None,
    voxel_size_nm: tuple[float, float, float] | None = None,
    resolution: int = 0,
    name: str = "",
    scale_float: bool = False,
    **options: Any,
) -> tuple[dict[str, Any], NDArray[np.uint8] | dict[str, NDArray[np.uint8]], dict[str, str]]:
    """Do one job, as the historical function did.

    Parameters
    ----------
    host : str
        BOSS: a host name, or a URL with its scheme.
    token : Token or str
        The token; it is in nothing that is returned.
    col, exp : str
        Collection and experiment.
    z_range, y_range, x_range : tuple of int
        Half-open ranges.
    path : str or Path
        Folder that holds the result folders.
    source : str, Path or mapping of str to str or Path, optional
        A volume by its URI, as ``--source`` takes it; channels that lie apart are a mapping of name to URI. Of the
        arguments before `path` it takes the ranges, and the token where the URI leads to BOSS; without ranges it is
        read whole.
    voxel_size_nm : tuple of float, optional
        Size of a voxel of `source` along z, y, x in nanometres, where its metadata do not say it.
    resolution : int
        Level of the volume; 0 is the finest.
    name : str
        What the results of `source` are named after; by default its last part.
    scale_float : bool
        Whether values v of 0 to 1 in channels of floating point are read as 65535 v, rounded.
    **options
        Further fields of `nd_synapse.job.job.Job`, such as ``pipeline``, ``channels``, ``bucket``, ``push``, ``cpus``.

    Returns
    -------
    info : dict
        The request, with ``results_key`` and ``folder``.
    results : ndarray of uint8, shape (z, y, x), or dict of such
        The mask, 0 and 255; a dictionary by name where the pipeline has several.
    boss_links : dict of str to str
        Mask to the link of its channel in BOSS; empty without a push.

    Raises
    ------
    NDSynapseError
        If a step failed; what was done by then is in the result folder.
    """
    from nd_synapse.job.steps import finish, opened, run  # not needed by a help of the command

    refuse_nested("driver")
    job = Job(
        **_volume(
            (host, token, col, exp),
            (z_range, y_range, x_range),
            _location(source, voxel_size_nm, resolution, name, scale_float),
            resolution,
        ),
        path=parse_path("path", path),
        **options,
    )
    masks: dict[str, NDArray[np.uint8]] = {}

    def keep(detection: Detection) -> None:
        masks.update({name: np.asarray(mask) for name, mask in detection.masks.items()})

    with opened(job) as folder:
        with logs.job_log(folder.root / GROWING, job.token):
            outcome = run(job, folder, silent, keep)
        finish(outcome, folder)
    if outcome.errors:
        raise outcome.errors[0]
    info = {**job.requested(), "results_key": job.results_key, "folder": str(folder.root)}
    results = next(iter(masks.values())) if len(masks) == 1 else masks
    return info, results, {name: link for name, link in outcome.links.items() if name in masks}


def _location(
    source: _Given, voxel_size_nm: tuple[float, float, float] | None, resolution: int, name: str, scale_float: bool
) -> Location | tuple[str, str, str] | None:
    """Return where a volume lies that is not in BOSS; host, collection and experiment of a URI of BOSS."""
    named = volume_of_uri(source) if isinstance(source, str) else None
    if source is not None and named is None:
        channels = tuple((str(each), str(uri)) for each, uri in source.items()) if isinstance(source, Mapping) else ()
        uri = "" if isinstance(source, Mapping) else str(source)
        sizes_nm = None if voxel_size_nm is None else voxel_size_of(voxel_size_nm)
        return Location(uri, resolution, sizes_nm, name, channels, scale_float)
    if voxel_size_nm is not None or name or scale_float:
        found = "--source is not given, or it is in BOSS"
        raise UsageError("--voxel-size-nm, --name and --scale-float", found, "Leave them out")
    return named


def _volume(
    boss: _Boss, ranges: Ranges, location: Location | tuple[str, str, str] | None, resolution: int
) -> dict[str, Any]:
    """Return the fields of a job that say what to read."""
    if isinstance(location, tuple):
        host, token, col, exp = boss
        if (host, col, exp) != (None, None, None):
            raise UsageError("--source with --host, --col or --exp", "each names a volume", "Give one of them")
        return fields_of(*location, None if token is None else Token.of(token), ranges, resolution)
    if location is not None:
        if any(given is not None for given in boss):
            raise UsageError("--source with --host, --token, --col or --exp", "each names a volume", "Give one of them")
        from nd_synapse.sources.source import box_of

        return {"source": location, "box": box_of(location, ranges)}
    host, token, col, exp = boss
    named = dict(zip(("host", "token", "col", "exp", "z-range", "y-range", "x-range"), (*boss, *ranges), strict=True))
    missing = [f"--{option}" for option, given in named.items() if given is None]
    if missing or token is None:
        raise UsageError("a volume", f"{', '.join(missing)} not given", "Give them, or --source")
    z_y_x: Any = ranges
    names = {"host": host, "collection": col, "experiment": exp, "resolution": resolution}
    return {**names, "token": Token.of(token), "box": Box(*z_y_x)}


@called(col="col", exp="exp")
def get_data(
    host: str | None = None,
    token: Token | str | None = None,
    col: str | None = None,
    exp: str | None = None,
    z_range: Range | None = None,
    y_range: Range | None = None,
    x_range: Range | None = None,
    *,
    source: str | Path | Mapping[str, str | Path] | None = None,
    voxel_size_nm: tuple[float, float, float] | None = None,
    resolution: int = 0,
    scale_float: bool = False,
) -> tuple[dict[str, NDArray[Any]], tuple[float, float, float]]:
    """Pull all channels of a box that can be read into memory.

    Parameters
    ----------
    host : str
        BOSS: a host name, or a URL with its scheme.
    token : Token or str
        The token.
    col, exp : str
        Collection and experiment.
    z_range, y_range, x_range : tuple of int
        Half-open ranges.
    source : str, Path or mapping of str to str or Path, optional
        A volume by its URI, or its channels by theirs, as for `driver`.
    voxel_size_nm : tuple of float, optional
        Size of a voxel of `source` along z, y, x in nanometres, where its metadata do not say it.
    resolution : int
        Level of the volume; 0 is the finest.
    scale_float : bool
        Whether values v of 0 to 1 in channels of floating point are read as 65535 v, rounded.

    Returns
    -------
    data_dict : dict of str to ndarray
        Channel to voxels, shape (z, y, x), in the channel's type.
    voxel_size : tuple of float
        Size of a voxel along z, y, x in nanometres.

    Raises
    ------
    NDSynapseError
        If the data cannot be read.
    """
    ranges = (z_range, y_range, x_range)
    location = _location(source, voxel_size_nm, resolution, "", scale_float)
    volume = Job(**_volume((host, token, col, exp), ranges, location, resolution), push=False).open_source()
    channels = volume.readable_channels
    return {name: volume.get_cutout(name, *volume.box.ranges) for name in channels}, volume.frame.voxel_size_nm


@called(channels=lambda _: "the names in data_dict")
def run_nomads(
    data_dict: Mapping[str, NDArray[Any]], *, voxel_size_nm: tuple[float, float, float] | None = None
) -> NDArray[np.uint8]:
    """Find synapses in arrays with the default pipeline.

    Parameters
    ----------
    data_dict : mapping of str to ndarray
        Channel to voxels, shape (z, y, x), as `get_data` returns them; those that are not uint8 or uint16 are left out,
        and the log names them.
    voxel_size_nm : tuple of float, optional
        Size of a voxel along z, y, x; by default (70, 100, 100), with a warning.

    Returns
    -------
    ndarray of uint8
        The mask, 0 and 255, of the same shape.

    Raises
    ------
    NDSynapseError
        If the arrays cannot be used.
    """
    from nd_synapse.detection.in_memory import detect_arrays

    if voxel_size_nm is None:
        log.warning("voxels are taken to have z, y, x %s nm; give voxel_size_nm for others", _VOXEL_SIZE_NM)
        voxel_size_nm = _VOXEL_SIZE_NM
    channels = _images(_arrays(data_dict))
    found = detect_arrays(registry.build(registry.DEFAULT_PIPELINE, {}), channels, voxel_size_of(voxel_size_nm))
    return next(iter(found.masks.values()))


def _images(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the channels of uint8 or uint16, in the byte order of this machine."""
    native = {name: voxels.astype(voxels.dtype.newbyteorder("="), copy=False) for name, voxels in arrays.items()}
    images = {name: voxels for name, voxels in native.items() if voxels.dtype in (np.uint8, np.uint16)}
    others = few([f"{name} ({voxels.dtype})" for name, voxels in native.items() if name not in images])
    if not images:
        found = f"none of them is uint8 or uint16: {others}" if others else "there is none"
        raise DataError("channels in memory", found, "Give images (z, y, x) of uint8 or uint16")
    if others:
        log.warning("left out, for they are not uint8 or uint16: %s", others)
    return images


@called()
def load_and_preproc(data_dict: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Standardise channels: subtract the mean of each, and divide by its standard deviation.

    Parameters
    ----------
    data_dict : mapping of str to ndarray
        Channel to voxels, shape (z, y, x); they are not changed.

    Returns
    -------
    dict of str to ndarray of float64
        Channel to values of the same shape.

    Raises
    ------
    DataError
        If a channel is empty, has values that are not finite, or all of its voxels are equal.
    """
    standardised = {}
    for name, voxels in _arrays(data_dict).items():
        if not np.isfinite(voxels).all():
            found = f"{np.count_nonzero(~np.isfinite(voxels)):,} of its values are not finite"
            raise DataError(f"channel {name!r}", found, "Replace them, or leave it out")
        if voxels.size == 0 or voxels.min() == voxels.max():
            raise DataError(f"channel {name!r}", "its voxels do not differ", "Leave it out")
        values = voxels.astype(np.float64)
        values -= values.mean()
        standardised[name] = values / values.std()
    return standardised


def _arrays(data_dict: object) -> dict[str, NDArray[Any]]:
    """Return channels as arrays; refuse arguments of other types."""
    if not isinstance(data_dict, Mapping):
        found = f"they are of the type {type(data_dict).__name__}"
        raise UsageError("channels in memory", found, "Give a dictionary of channel to array (z, y, x)")
    arrays = {name: array_of(f"channel {name!r}", voxels) for name, voxels in data_dict.items()}
    other = [name for name, voxels in arrays.items() if voxels.dtype.kind not in "buif"]
    if other:
        raise DataError(f"channel {other[0]!r}", "it does not consist of numbers", "Give arrays (z, y, x)")
    return arrays


@called()
def upload_results(path: str | Path, results_key: str) -> None:
    """Upload every file under a folder to ``s3://$RESULTS_BUCKET/<results_key>/...``.

    Parameters
    ----------
    path : str or Path
        The folder.
    results_key : str
        Prefix of the objects' keys.

    Raises
    ------
    UsageError
        If RESULTS_BUCKET is not set.
    NDSynapseError
        If S3 refuses or does not answer; the same call resumes the upload.
    """
    from nd_synapse.job import upload

    bucket = os.environ.get(BUCKET_VARIABLE)
    if not bucket:
        raise UsageError(
            f"uploading {path}", f"{BUCKET_VARIABLE} is not set", f"Set {BUCKET_VARIABLE} to a bucket's name"
        )
    if not isinstance(results_key, str):
        raise UsageError(
            f"uploading {path} under {results_key!r:.100}", "a results key is a string", "Give the folder's name"
        )
    folder = parse_path("path", path)
    with locked(folder):
        upload.upload_folder(folder, bucket, results_key)
