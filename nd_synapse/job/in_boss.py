"""A volume in BOSS by its URI, as the fields of a job."""

from __future__ import annotations

from typing import Any

from nd_synapse.boss.address import DEFAULT_HOST
from nd_synapse.credentials import Token, find_token
from nd_synapse.geometry import Box, Range

__all__ = ["fields_of"]


def fields_of(
    host: str,
    collection: str,
    experiment: str,
    token: Token | None,
    ranges: tuple[Range | None, ...],
    resolution: int = 0,
) -> dict[str, Any]:
    """Return what of a job says what to read; BOSS is asked for the extent if one of the ranges (z, y, x) is None.

    BossDB shows its public data to everybody: there the token is "public" unless another is given.
    """
    if token is None:
        token = Token(Token.PUBLIC) if host == DEFAULT_HOST else find_token(None, None, {}, None)
    z, y, x = ranges
    if z is None or y is None or x is None:
        from nd_synapse.boss.resource import NeuroDataResource  # intern is imported only where it is used

        box = NeuroDataResource(host, token, collection, experiment, (), x, y, z, resolution=resolution).box
    else:
        box = Box(z, y, x)
    names = {"host": host, "collection": collection, "experiment": experiment, "resolution": resolution}
    return {**names, "token": token, "box": box}
