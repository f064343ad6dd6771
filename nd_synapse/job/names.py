"""Names of results: of the folder, of its masks, and with them of the keys in S3 and the channels in BOSS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nd_synapse.errors import UsageError
from nd_synapse.geometry import Box

__all__ = ["mask_names", "results_key"]


def results_key(pipeline: str, col: str, exp: str, box: Box) -> str:
    """Name the results of one request: the folder, the key prefix in S3 and the start of the channel names."""
    words = [pipeline, col, exp]
    for axis, (start, stop) in zip("zyx", box.ranges, strict=True):
        words += [axis, str(start), str(stop)]
    return "_".join(words)


def mask_names(pipeline: str, masks: Sequence[str]) -> dict[str, str]:
    """Give every mask of a pipeline the name of its files, without the suffix."""
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
