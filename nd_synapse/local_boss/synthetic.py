"""A synthetic array-tomography volume with known synapses; every choice and its source: ``docs/sample.md``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nd_synapse.errors import RangeError

__all__ = ["CHANNELS", "MAX_VOXELS", "Parameters", "Synapses", "SyntheticVolume", "generate"]

_STAINED = {
    "Synapsin": ("presynaptic", ("excitatory", "inhibitory")),
    "PSD95": ("postsynaptic", ("excitatory",)),
    "VGlut1": ("presynaptic", ("excitatory",)),
    "GluN1": ("postsynaptic", ("excitatory",)),
    "GABA": ("presynaptic", ("inhibitory",)),
    "GAD": ("presynaptic", ("inhibitory",)),
    "gephyrin": ("postsynaptic", ("inhibitory",)),
}

# How far a stain spreads, in radii of the sphere that has the synapse's cleft volume: the cloud of vesicles before the
# cleft is larger than what lies behind it.
_SPREAD = {"presynaptic": 1.2, "postsynaptic": 0.9}

CHANNELS = tuple(_STAINED)
"""The channels of every volume, in this order."""

MAX_VOXELS = 2**29
"""Largest volume in voxels: all channels are built in memory, about 11 bytes a voxel."""

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a synthetic volume is drawn from; lengths in micrometres, grey levels of 0 to 255."""

    density_per_um3: float = 1.0
    """Synapses in a cubic micrometre of cortex."""
    excitatory_fraction: float = 0.85
    cleft_volume_um3: float = 0.0042
    """Median of the log-normal cleft volumes."""
    cleft_volume_log_std: float = 0.86
    """Standard deviation of the natural logarithm of the cleft volume: 10 % and 90 % lie at 0.0014 and 0.0127."""
    separation_um: tuple[float, float] = (0.1, 0.2)
    """Least and largest distance between the centres of a synapse's two puncta."""
    spacing_um: float = 0.3
    """Least distance between the centres of two synapses."""
    psf_fwhm_um: float = 0.22
    """Lateral width at half maximum of the microscope's blur; sections are cut apart, so there is none along z."""
    orphan_synapsin_fraction: float = 0.2
    """Synapsin puncta without partner, in relation to the synapses."""
    orphan_psd95_fraction: float = 0.15
    dim_orphan_fraction: float = 0.0
    """Dim puncta without partner in each channel, in relation to the synapses."""
    dim_orphan_brightness: float = 24.0
    """Median of their log-normal peak grey levels."""
    autofluorescent_per_um3: float = 0.002
    """Large objects that are bright in all channels."""
    punctum_brightness: float = 60.0
    """Median of the log-normal peak grey levels, before the blur of small puncta."""
    punctum_brightness_log_std: float = 0.4
    autofluorescent_brightness: float = 160.0
    background: float = 22.0
    background_gradient: float = 0.3
    """Relative amplitude of the slow change of the background across a section."""
    section_gain_log_std: float = 0.06
    """Brightness differs from section to section, and for each channel on its own."""
    photons_per_level: float = 3.0
    """Shot noise: the variance of a grey level is the level divided by this."""
    read_noise: float = 1.5
    """Standard deviation of the camera's noise, in grey levels."""


@dataclass(frozen=True, slots=True, eq=False)
class Synapses:
    """The planted synapses, one row each; the centre is the middle between the two puncta.

    Voxel coordinates count from the first voxel's *centre*, as centroids of masks do.
    """

    centre: Points
    """Shape (n, 3), float64: z, y, x in voxels."""
    centre_um: Points
    """Shape (n, 3), float64: z, y, x in micrometres."""
    presynaptic_um: Points
    """Shape (n, 3), float64: centre of the pre-synaptic punctum in micrometres."""
    postsynaptic_um: Points
    """Shape (n, 3), float64: centre of the post-synaptic punctum in micrometres."""
    excitatory: NDArray[np.bool_]
    """Shape (n,): inhibitory where False."""
    volume_um3: NDArray[np.float64]
    """Shape (n,): cleft volume in cubic micrometres."""
    radius_um: NDArray[np.float64]
    """Shape (n,): radius of the sphere of that volume, in micrometres."""

    @property
    def types(self) -> list[str]:
        """``excitatory`` or ``inhibitory`` for each synapse."""
        return ["excitatory" if one else "inhibitory" for one in self.excitatory]

    def __len__(self) -> int:
        """Return the number of synapses."""
        return len(self.excitatory)


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticVolume:
    """A synthetic volume and what was planted in it."""

    channels: dict[str, NDArray[np.uint8]]
    """Name of the channel to uint8, shape (z, y, x)."""
    synapses: Synapses
    orphans_um: dict[str, Points]
    """Name of the channel to the centres of its puncta without a partner, bright and dim, shape (n, 3): z, y, x."""
    voxel_size_nm: tuple[float, float, float]
    """z, y, x in nanometres."""
    seed: int
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class _Blobs:
    """Gaussian blobs: centres and widths (one standard deviation) in micrometres, peaks in grey levels."""

    centre_um: Points
    width_um: Points
    peak: NDArray[np.float64]


def generate(
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float] = (70.0, 100.0, 100.0),
    seed: int = 0,
    parameters: Parameters | None = None,
) -> SyntheticVolume:
    """Draw a synthetic volume."""
    _check(shape, voxel_size_nm, seed)
    drawn = parameters or Parameters()
    # one stream for the truth and one a channel: what is drawn for one does not move the others
    count = len(CHANNELS)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2 + 2 * count)]
    size_um = np.asarray(voxel_size_nm, dtype=np.float64) / 1000
    synapses = _plant(streams[0], shape, size_um, drawn)
    autofluorescent = _autofluorescent(streams[1], shape, size_um, drawn)
    channels, orphans_um = {}, {}
    for name, rng, dim_rng in zip(CHANNELS, streams[2 : 2 + count], streams[2 + count :], strict=True):
        fraction = {"Synapsin": drawn.orphan_synapsin_fraction, "PSD95": drawn.orphan_psd95_fraction}.get(name, 0.0)
        orphans = round(fraction * len(synapses)), round(drawn.dim_orphan_fraction * len(synapses))
        dim = replace(drawn, punctum_brightness=drawn.dim_orphan_brightness)
        blobs = [
            _puncta(rng, name, synapses, drawn),
            _orphans(rng, name, orphans[0], shape, size_um, drawn),
            _orphans(dim_rng, name, orphans[1], shape, size_um, dim),
        ]
        orphans_um[name] = np.concatenate([some.centre_um for some in blobs[1:]])
        # the same objects shine in every channel, each time with another brightness
        shine = rng.uniform(0.7, 1.0, len(autofluorescent.peak))
        blobs.append(_Blobs(autofluorescent.centre_um, autofluorescent.width_um, autofluorescent.peak * shine))
        signal = np.zeros(shape, dtype=np.float32)
        for some in blobs:
            _stamp(signal, some, size_um)
        channels[name] = _imaged(rng, signal, drawn)
    return SyntheticVolume(channels, synapses, orphans_um, voxel_size_nm, seed, drawn)


def _check(shape: tuple[int, int, int], voxel_size_nm: tuple[float, float, float], seed: int) -> None:
    requested = f"a synthetic volume of {' x '.join(map(str, shape))} voxels"
    if len(shape) != 3 or min(shape) < 1:
        raise RangeError(requested, "it holds no voxel", "Give Z,Y,X of at least 1 each")
    if math.prod(shape) > MAX_VOXELS:
        found = f"it is built in memory, and at most {MAX_VOXELS:,} voxels are allowed"
        raise RangeError(requested, found, "Give a smaller shape")
    if not all(math.isfinite(size) and size > 0 for size in voxel_size_nm):
        raise RangeError(requested, f"the voxel size {voxel_size_nm} nm is not positive", "Give Z,Y,X in nanometres")
    if seed < 0:
        raise RangeError(requested, f"the seed is {seed}", "Give a seed of 0 or more")


def _plant(rng: Generator, shape: tuple[int, int, int], size_um: Points, drawn: Parameters) -> Synapses:
    extent = np.asarray(shape) * size_um
    count = round(drawn.density_per_um3 * float(np.prod(extent)))
    # voxel 0 reaches from -1/2 to +1/2, so the volume starts half a voxel before 0
    centre_um = _spaced(rng, count, extent, drawn.spacing_um) - size_um / 2
    count = len(centre_um)
    volume = np.exp(rng.normal(math.log(drawn.cleft_volume_um3), drawn.cleft_volume_log_std, count))
    half_way = _directions(rng, count) * rng.uniform(*drawn.separation_um, count)[:, None] / 2
    return Synapses(
        centre=centre_um / size_um,
        centre_um=centre_um,
        presynaptic_um=centre_um + half_way,
        postsynaptic_um=centre_um - half_way,
        excitatory=rng.random(count) < drawn.excitatory_fraction,
        volume_um3=volume,
        radius_um=_radius(volume),
    )


def _spaced(rng: Generator, count: int, extent: Points, spacing: float) -> Points:
    """Draw uniform points of which no two are closer than `spacing`; fewer than `count` where they find no room."""
    from scipy.spatial import cKDTree  # a help appears sooner without scipy

    points = np.empty((0, 3))
    for _ in range(20):
        if len(points) >= count:
            break
        points = np.concatenate([points, rng.random((count - len(points), 3)) * extent])
        pairs = cKDTree(points).query_pairs(spacing, output_type="ndarray")
        keep = np.ones(len(points), dtype=bool)
        keep[pairs.max(axis=1)] = False  # the later of two goes: those kept before stay where they are
        points = points[keep]
    return points


def _directions(rng: Generator, count: int) -> Points:
    """Return unit vectors, uniform on the sphere, shape (count, 3)."""
    vectors = rng.standard_normal((count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _radius(volume_um3: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cbrt(volume_um3 * 3 / (4 * math.pi)))


def _width(radius_um: NDArray[np.float64], spread: float, drawn: Parameters) -> Points:
    """Return the widths z, y, x of a stained punctum's image, shape (n, 3)."""
    own = spread * radius_um
    lateral = np.hypot(own, drawn.psf_fwhm_um / math.sqrt(8 * math.log(2)))
    return np.stack([own, lateral, lateral], axis=1)


def _blurred_blobs(
    rng: Generator, centre_um: Points, radius_um: NDArray[np.float64], spread: float, drawn: Parameters
) -> _Blobs:
    """Return puncta whose peak sinks as the blur spreads their light: small ones are dim."""
    width = _width(radius_um, spread, drawn)
    peak = np.exp(rng.normal(math.log(drawn.punctum_brightness), drawn.punctum_brightness_log_std, len(centre_um)))
    typical = _width(_radius(np.array([drawn.cleft_volume_um3])), spread, drawn)[0]
    typical_loss = (typical[0] / typical[1]) ** 2
    return _Blobs(centre_um, width, peak * (width[:, 0] / width[:, 1]) ** 2 / typical_loss)


def _puncta(rng: Generator, channel: str, synapses: Synapses, drawn: Parameters) -> _Blobs:
    """Return the puncta of a channel that belong to synapses."""
    side, kinds = _STAINED[channel]
    rows = np.flatnonzero([kind in kinds for kind in synapses.types])
    centre = synapses.presynaptic_um if side == "presynaptic" else synapses.postsynaptic_um
    return _blurred_blobs(rng, centre[rows], synapses.radius_um[rows], _SPREAD[side], drawn)


def _orphans(
    rng: Generator, channel: str, count: int, shape: tuple[int, int, int], size_um: Points, drawn: Parameters
) -> _Blobs:
    """Return puncta that belong to no synapse: same sizes, no partner."""
    centre = (rng.random((count, 3)) * shape - 0.5) * size_um
    volume = np.exp(rng.normal(math.log(drawn.cleft_volume_um3), drawn.cleft_volume_log_std, count))
    return _blurred_blobs(rng, centre, _radius(volume), _SPREAD[_STAINED[channel][0]], drawn)


def _autofluorescent(rng: Generator, shape: tuple[int, int, int], size_um: Points, drawn: Parameters) -> _Blobs:
    count = round(drawn.autofluorescent_per_um3 * float(np.prod(np.asarray(shape) * size_um)))
    centre = (rng.random((count, 3)) * shape - 0.5) * size_um
    width = np.repeat(rng.uniform(0.25, 0.6, (count, 1)), 3, axis=1)
    return _Blobs(centre, width, rng.uniform(0.8, 1.6, count) * drawn.autofluorescent_brightness)


def _stamp(signal: NDArray[np.float32], blobs: _Blobs, size_um: Points) -> None:
    """Add blobs to a volume; each touches a window of three standard deviations only."""
    limits = np.asarray(signal.shape)
    centre = blobs.centre_um / size_um
    width = blobs.width_um / size_um
    start = np.clip(np.ceil(centre - 3 * width).astype(np.int64), 0, limits)
    stop = np.clip(np.floor(centre + 3 * width).astype(np.int64) + 1, 0, limits)
    # a Gaussian is the product of its profiles: three short vectors for each blob instead of a box of exponentials
    profiles = [_profiles(centre[:, axis], width[:, axis], start[:, axis], stop[:, axis]) for axis in range(3)]
    for (z0, y0, x0), (z1, y1, x1), peak, pz, py, px in zip(
        start.tolist(), stop.tolist(), blobs.peak.astype(np.float32), *profiles, strict=True
    ):
        plane = py[: y1 - y0, None] * px[: x1 - x0]
        signal[z0:z1, y0:y1, x0:x1] += (peak * pz[: z1 - z0])[:, None, None] * plane


def _profiles(
    centre: NDArray[np.float64], width: NDArray[np.float64], start: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the Gaussian profile of each blob along one axis from its start, shape (n, longest window), float32."""
    longest = int(np.max(stop - start, initial=0))
    offset = start[:, None] + np.arange(longest) - centre[:, None]
    return np.exp(-0.5 * (offset / width[:, None]) ** 2).astype(np.float32)


def _imaged(rng: Generator, signal: NDArray[np.float32], drawn: Parameters) -> NDArray[np.uint8]:
    """Return what a camera sees of a signal: background, gain of each section, noise, whole grey levels."""
    background = drawn.background * (1 + drawn.background_gradient * _slow_field(rng, signal.shape[1:]))
    gains = np.exp(rng.normal(0.0, drawn.section_gain_log_std, len(signal)))
    image = np.empty(signal.shape, dtype=np.uint8)
    for section, gain, seen in zip(signal, gains, image, strict=True):
        level = (section + background) * np.float32(gain)
        # shot noise drawn from a normal distribution: the background alone has about 60 photons, where the two hardly
        # differ, and it is ten times quicker than Poisson's
        noise = rng.standard_normal(level.shape, dtype=np.float32)
        level += noise * np.sqrt(level / np.float32(drawn.photons_per_level) + np.float32(drawn.read_noise**2))
        seen[...] = np.clip(np.rint(level), 0, 255)
    return image


def _slow_field(rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a smooth field within -1 and 1: half a wave to one wave across the section along each axis."""
    waves = []
    for n in shape:
        turns, phase = rng.uniform(0.5, 1.0), rng.uniform(0, 2 * math.pi)
        waves.append(np.cos(2 * math.pi * turns * np.arange(n) / n + phase))
    return np.asarray(np.add.outer(*waves) / 2, dtype=np.float32)
