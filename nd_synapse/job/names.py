"""Names of results: of the folder, of its masks, and with them of the keys in S3 and the channels in BOSS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["mask_names", "results_key"]


def results_key(pipeline: str, col: str, exp: str, box: Box) -> str:
    """Name the results of one request: the folder, the key prefix in S3 and the start of the channel names.

    Parameters
    ----------
    pipeline : str
        The pipeline, such as ``nomads-unsupervised``.
    col : str
        Collection.
    exp : str
        Experiment.
    box : Box
        The requested box; its ranges are half-open.

    Returns
    -------
    str
        ``pipeline_col_exp_z_z0_z1_y_y0_y1_x_x0_x1``.

    Examples
    --------
    >>> results_key("nomads-unsupervised", "collman", "M247514", Box(z=(0, 8), y=(10, 20), x=(0, 5)))
    'nomads-unsupervised_collman_M247514_z_0_8_y_10_20_x_0_5'
    """
    words = [pipeline, col, exp]
    for axis, (start, stop) in zip("zyx", box.ranges, strict=True):
        words += [axis, str(start), str(stop)]
    return "_".join(words)


def mask_names(pipeline: str, masks: Sequence[str]) -> dict[str, str]:
    """Give every mask of a pipeline the name of its files, without the suffix.

    Parameters
    ----------
    pipeline : str
        The pipeline.
    masks : sequence of str
        Names of the masks, the main one first.

    Returns
    -------
    dict of str to str
        ``<pipeline>-predictions`` for the first mask, each further mask's own name for the others; empty for none.

    Raises
    ------
    UsageError
        If two masks would be one file, or one channel in BOSS, where case does not count.
    """
    names = {mask: mask if place else f"{pipeline}-predictions" for place, mask in enumerate(masks)}
    for what in (list(masks), list(names.values())):
        twice = [name for name, count in Counter(map(str.casefold, what)).items() if count > 1]
        if twice:
            raise UsageError(
                f"masks {', '.join(masks)} of {pipeline}",
                f"{twice[0]} would be the name of two of them, in files or in BOSS, where case may not count",
                "Give the masks other names",
            )
    return names
