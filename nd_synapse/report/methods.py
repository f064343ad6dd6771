"""The methods: a paragraph to cite, the tables of the run, and how to open its files."""

from __future__ import annotations

from nd_synapse.detection.confidence import Chance
from nd_synapse.detection.density import Density
from nd_synapse.detection.registration import WITHIN, Registration
from nd_synapse.report.captions import TIMES, count, plain, times
from nd_synapse.report.facts import RunFacts
from nd_synapse.report.table import SynapseTable
from nd_synapse.version import __version__

__all__ = ["paragraph", "run_tables", "snippets"]


def paragraph(table: SynapseTable, facts: RunFacts) -> str:
    """Return the methods of a run with its numbers, to be cited."""
    program = f"nd-synapse {facts.versions.get('nd-synapse', __version__)}"
    if not facts.pipeline:
        return (
            f"A table of {count(table.whole.n, 'synapse')} with brightness in {count(len(table.channels), 'channel')} "
            f"was summarised with {program}. It comes without a record of its detection."
            f"{' ' * bool(table.sampling)}{table.sampling}"
        )
    found = [
        f"Synapses were detected with {program}, pipeline {facts.pipeline}{_parameters(facts)}{_channels(facts)}.",
        _volume(facts),
        f"{count(table.whole.n, 'object')} {'was' if table.whole.n == 1 else 'were'} detected{_classes(table)}.",
        _density(facts.density) if facts.density is not None else "",
        _chance(facts.chance, table.whole.n),
        _registration(facts.registration) if facts.registration is not None else "",
        table.sampling,
    ]
    return " ".join(filter(None, found))


def _parameters(facts: RunFacts) -> str:
    if not facts.parameters:
        return ""
    known = facts.finding
    auto = {n: f"auto, {known[n]}" for n, value in facts.parameters.items() if value == "auto" and n in known}
    return f" ({'; '.join(f'{name} {value}' for name, value in {**facts.parameters, **auto}.items())})"


def _channels(facts: RunFacts) -> str:
    channels: dict[str, list[str]] = {}
    for role, channel in facts.roles.items():
        channels.setdefault(channel, []).append(role)
    named = [f"{channel} ({', '.join(roles)})" for channel, roles in channels.items()]
    return f", in the channels {', '.join(named)}" if named else ""


def _volume(facts: RunFacts) -> str:
    if facts.box is None:
        return ""
    size = facts.voxel_size_nm
    ranges = ", ".join(f"{axis} {a:,}\N{EN DASH}{b:,}" for axis, (a, b) in zip("zyx", facts.box.ranges, strict=True))
    of = f" of {times(f'{nm:g}' for nm in size)} nm" if size else ""
    words = f"The volume has {times(f'{n:,}' for n in facts.box.shape)} voxels (z {TIMES} y {TIMES} x; {ranges}){of}"
    if facts.tissue is not None and size is not None:
        words += f"; {plain(facts.tissue.um3(size))} µm³ ({100 * facts.tissue.fraction:.3g} %) of it were searched"
    return f"{words}."


def _classes(table: SynapseTable) -> str:
    groups = [f"{number:,} {name}" for name, number in table.group_sizes.items()]
    return f", of which {', '.join(groups)}" if groups else ""


def _density(density: Density) -> str:
    if density.brick.per_um3 is None:
        return f"There is no density: {density.no_interval}."
    digits = density.brick.digits
    between = f"no interval: {density.no_interval}"
    if density.interval is not None:
        ends = " to ".join(f"{value:.{digits}g}" for value in density.interval)
        between = f"95 % interval {ends}, from {density.tiles} tiles"
    return (
        f"The density, by unbiased counting bricks (Gundersen 1977, Howard et al. 1985), is {density.brick} per µm³ "
        f"({between}; excluding at first faces {density.without_low}, at last ones {density.without_high}; with the "
        f"{density.cut:,} cut at a border or at padding counted as whole ones {density.every})."
    )


def _chance(chance: Chance, detections: int) -> str:
    return "" if chance.reason else chance.words(detections)


def _registration(registration: Registration) -> str:
    within = sum(pair.outcome == WITHIN for pair in registration.pairs)
    return (
        f"By phase correlation {within:,} of {count(len(registration.pairs), 'pair')} of images that lie next to each "
        f"other are displaced by no more than {registration.limit_nm:,.0f} nm."
    )


def run_tables(facts: RunFacts) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the tables of the run as id, heading, rows; empty ones are left out."""
    pipeline = [("pipeline", facts.pipeline)] if facts.pipeline else []
    durations = [(step, f"{seconds:,.2f} s") for step, seconds in facts.times_s.items()]
    if len(durations) > 1:
        durations.append(("all of these", f"{sum(facts.times_s.values()):,.2f} s"))
    tables = [
        ("requested", "Request", list(facts.requested.items())),
        ("parameters", "Pipeline and parameters", pipeline + list(facts.parameters.items())),
        ("finding", "Learned from the volume", list(facts.finding.items())),
        ("counts", "Counts", [(label, f"{number:,}") for label, number in facts.counts.items()]),
        ("times", "Time by step", durations),
        ("versions", "Versions", list(facts.versions.items())),
    ]
    return [entry for entry in tables if entry[2]]


def snippets(facts: RunFacts) -> list[tuple[str, str]]:
    """Return how to open the files of a run, as heading and text to copy; for files that there are."""
    found = []
    if facts.table_file:
        read = "parquet" if facts.table_file.endswith(".parquet") else "csv"
        found.append(("The table, in pandas", f'import pandas\nsynapses = pandas.read_{read}("{facts.table_file}")'))
    if not facts.mask_files:
        return found
    mask = facts.mask_files[0]
    size = facts.voxel_size_nm or (1, 1, 1)
    place = ", ".join(f"{n * nm:.12g}" for n, nm in zip(facts.origin, size, strict=True))
    if mask.endswith(".tiff"):
        found.append(("The mask, in Fiji", f'File > Import > Bio-Formats, or drop the file on it: "{mask}"'))
        read, whole = f'import tifffile, zarr\nmask = tifffile.imread("{mask}")', "[:]"
    else:
        # neither fits a memory: parts are read as they are sliced
        read, whole = f'import zarr\nmask = zarr.open("{mask}/0")', ""
    found += [
        (
            "Mask and labels, in Python",
            f"{read}  # z, y, x; 255 at synapses\n"
            f'labels = zarr.open("synapses.ome.zarr/labels/synapses/0"){whole}  # the id of the table',
        ),
        (
            "Mask and labels, in napari",
            "import napari\nviewer = napari.Viewer()\n"
            f'viewer.open("synapses.ome.zarr", plugin="napari-ome-zarr",\n    translate=({place}))  # nm',
        ),
        ("Images, labels and points, in neuroglancer", "nd-synapse view ."),
    ]
    return found
