"""A job as functions: the historical `driver`, `get_data` and `upload_results`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nd_synapse import logs
from nd_synapse.boss.resource import NeuroDataResource
from nd_synapse.credentials import Token
from nd_synapse.detection import Detection
from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box, Range
from nd_synapse.job.deliverables import GROWING
from nd_synapse.job.folder import locked
from nd_synapse.job.job import BUCKET_VARIABLE, Job
from nd_synapse.job.steps import finish, opened, run
from nd_synapse.progress import silent
from nd_synapse.values import parse_path

__all__ = ["driver", "get_data", "upload_results"]


def driver(
    host: str,
    token: Token | str,
    col: str,
    exp: str,
    z_range: Range,
    y_range: Range,
    x_range: Range,
    path: str | Path = "./results/",
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
    job = Job(
        host=host,
        token=Token.of(token),
        collection=col,
        experiment=exp,
        box=Box(z_range, y_range, x_range),
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


def get_data(
    host: str, token: Token | str, col: str, exp: str, z_range: Range, y_range: Range, x_range: Range
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
    source = NeuroDataResource(host, token, col, exp, [], x_range, y_range, z_range)
    channels = source.readable_channels
    return {name: source.get_cutout(name, *source.box.ranges) for name in channels}, source.voxel_size


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
