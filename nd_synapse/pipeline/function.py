"""The pipeline of a plain function: ``--pipeline package.module:function``, no class needed.

The function takes a dictionary of channel name to voxels (z, y, x; uint8 or uint16, read-only) and returns a mask, or a
dictionary of masks. A mask is an array of the block's shape, with or without the halo; voxels that are not 0 belong to
it. ``function.halo = (z, y, x)`` declares a halo, as for `nd_multicore`; ``function.masks = ("All", "Gaba")`` names the
masks, the first of which holds the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nd_synapse.errors import DataError, UsageError
from nd_synapse.importing import load_function
from nd_synapse.pipeline.contract import Detected, Finding, Parameter, Pipeline, Place, check_parameters
from nd_synapse.user_code import mask_of

__all__ = ["FunctionPipeline"]

_load = cache(load_function)

_MASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _are_names(masks: tuple[Any, ...]) -> bool:
    """Return whether these are valid, different names."""
    named = all(isinstance(name, str) and _MASK_NAME.fullmatch(name) for name in masks)
    return bool(masks) and named and len(set(masks)) == len(masks)


@dataclass(frozen=True, slots=True)
class FunctionPipeline(Pipeline):
    """Runs a function on each block; every voxel it returns belongs to an object."""

    target: str
    """``package.module:function``."""
    working_bytes: int = 64

    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "working_bytes",
            64,
            "bytes",
            "memory of the function beside its input, a voxel",
            minimum=0,
            shows=False,
        ),
    )

    def __post_init__(self) -> None:
        """Check that the function exists and declares a valid halo and masks."""
        check_parameters(self)
        halo, masks = self._declared("halo", (0, 0, 0)), self.masks
        if len(halo) != 3 or not all(isinstance(n, Integral) and int(n) >= 0 for n in halo):
            raise UsageError(
                f"halo {halo!r} of {self.target}", "it is not three whole numbers from 0 upwards", "Correct it"
            )
        if not _are_names(masks):
            raise UsageError(
                f"masks {masks!r} of {self.target}",
                "names are letters, digits, - and _, at most 64, each once",
                "Correct them",
            )

    def _declared(self, name: str, default: Any) -> Any:
        """Return an attribute of the function as a tuple."""
        value = getattr(_load(self.target), name, default)
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @property
    def name(self) -> str:
        """The function's name as part of keys and channel names."""
        return re.sub(r"[^A-Za-z0-9_-]", "-", self.target)

    @property
    def help(self) -> str:
        """The first line of the function's docstring."""
        text = (_load(self.target).__doc__ or "").strip()
        return text.splitlines()[0] if text else "a function without a docstring"

    @property
    def masks(self) -> tuple[str, ...]:
        """The declared masks, or ``All``."""
        return self._declared("masks", ("All",))  # type: ignore[no-any-return] # names, as was checked

    def halo(self, voxel_size_nm: tuple[float, float, float]) -> tuple[int, int, int]:
        """Return the declared halo."""
        del voxel_size_nm
        z, y, x = map(int, self._declared("halo", (0, 0, 0)))
        return (z, y, x)

    def choose(self, channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
        """Return every channel by its name."""
        if chosen:
            raise UsageError(
                "--channels " + ",".join(f"{role}={channel}" for role, channel in chosen.items()),
                f"{self.target} is a plain function, which gets every channel by its name and has no roles",
                "Leave --channels out",
            )
        if not channels:
            raise DataError(
                f"channels for {self.target}",
                "the experiment has no image channel of uint8 or uint16 that can be read",
                "Check --col and --exp, and what the token may read",
            )
        return {channel: channel for channel in channels}

    def detect(self, arrays: Mapping[str, NDArray[Any]], finding: Finding, place: Place) -> Detected:
        """Call the function."""
        del finding
        returned = _load(self.target)(dict(arrays))
        masks = returned if isinstance(returned, Mapping) else {self.masks[0]: returned}
        if set(masks) != set(self.masks):
            raise DataError(
                f"{self.target} on a block",
                f"it returned the masks {sorted(map(str, masks))}, and declares {list(self.masks)}",
                "Set function.masks to the names that it returns",
            )
        halo = self.halo(place.voxel_size_nm)
        sets = {name: self._mask(name, masks[name], halo, place.shape) for name in self.masks}
        first, *others = self.masks
        for name in others:
            if np.any(sets[name] & ~sets[first]):
                raise DataError(
                    f"mask {name!r} of {self.target}",
                    f"it has voxels that {first!r} has not, and the table is that of the first mask",
                    "Let the first of function.masks hold all the others",
                )
        return Detected(sets)

    def _mask(self, name: str, mask: Any, halo: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return a mask as booleans of the block's shape, without a halo."""
        with_halo = tuple(n + 2 * h for n, h in zip(shape, halo, strict=True))
        voxels = mask_of(f"mask {name!r} of {self.target}", mask)
        if voxels.shape == with_halo:
            voxels = voxels[tuple(slice(h, h + n) for n, h in zip(shape, halo, strict=True))]
        if voxels.shape != shape:
            raise DataError(
                f"mask {name!r} of {self.target}",
                f"it has the shape {voxels.shape}, the block has {shape}",
                "Return an array of the block's shape, with or without its halo",
            )
        return voxels
