"""``nd-synapse sources``: says what is in a volume in files or in a bucket, and how to run a pipeline on it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence

from nd_synapse import logs
from nd_synapse.cli.options import FORMS, add_source_details, location_of
from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.errors import REMOTE, NDSynapseError, UsageError, exit_codes
from nd_synapse.files.slabs import shown_size
from nd_synapse.pipeline import registry
from nd_synapse.sources.contents import Contents, contents_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return app.run(_sources, argv)


def _sources(argv: Sequence[str], _environ: Mapping[str, str]) -> int:
    """Print what a volume is."""
    p = Parser(
        prog="nd-synapse sources",
        description="Say what is in a volume, and how to find synapses in it. No voxel is read.",
        epilog=exit_codes(*REMOTE),
    )
    p.add_argument("source", metavar="URI", nargs="?", help=FORMS)
    add_source_details(p)
    options = p.parse_args(argv)
    logs.apply(logs.LogSettings(logging.WARNING))
    if options.source is None and not options.channel:
        raise UsageError("nd-synapse sources", "it has no URI", "Give one, or --channel NAME=URI")
    location = location_of(options)
    assert location is not None, "a source is given"
    words = list(argv)
    if options.source is not None:
        words.insert(words.index(options.source), "--source")
    return app.write_stdout(described(contents_of(location), words))


def described(contents: Contents, words: Sequence[str]) -> str:
    """Return what a volume is, as text; `words` are the arguments that opened it."""
    z, y, x = contents.shape
    size, levels = contents.voxel_size_nm, contents.levels
    lacking = ",".join("ZYX"[axis] if n is None else f"{n:g}" for axis, n in enumerate(size))
    more = ["--voxel-size-nm", lacking] if None in size else []
    lines = {
        "volume": contents.location.uri,
        "channels": ", ".join(f"{name} ({volume.dtype})" for name, volume in contents.volumes.items()),
        "axes": f"z {z}, y {y}, x {x} voxels",
        "voxel": f"{shown_size(size)} nm (z, y, x){'; ? is not in the metadata' if more else ''}",
        "levels": f"0 to {levels - 1}; this is {contents.location.resolution}" if levels > 1 else "one",
        **{name: _roles(contents.images, name) for name in registry.names()},
        "to run": shlex.join(["nd-synapse", "run", *words, *more]),
    }
    width = max(map(len, lines))
    return "".join(f"{name:<{width}}  {text}\n" for name, text in lines.items())


def _roles(channels: Sequence[str], name: str) -> str:
    """Return the channels that a pipeline would take for its roles, or why it would take none."""
    try:
        roles = registry.build(name, {}).choose(channels, {})
    except NDSynapseError as error:
        return f"{error.requested}: {error.found}. {error.remedy}"
    return ", ".join(f"{role} {channel}" for role, channel in roles.items())
