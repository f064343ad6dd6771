"""``nd-synapse sources``: says what is in a volume, and how to run a pipeline on it."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Mapping, Sequence

from nd_synapse import logs
from nd_synapse.boss.address import DEFAULT_HOST
from nd_synapse.cli.options import FORMS, add_source_details, add_token, boss_volume_of, location_of
from nd_synapse.console import app
from nd_synapse.console.parser import Parser
from nd_synapse.credentials import Token, find_token
from nd_synapse.errors import REMOTE, NDSynapseError, UsageError, exit_codes
from nd_synapse.files.slabs import shown_size
from nd_synapse.pipeline import registry
from nd_synapse.pipeline.roles import Role, find_channels
from nd_synapse.redaction import hide
from nd_synapse.sources.contents import Contents, contents_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return app.run(_sources, argv)


def _sources(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print what a volume is."""
    p = Parser(
        prog="nd-synapse sources",
        description="Say what is in a volume, and how to find synapses in it. No voxel is read.",
        epilog=exit_codes(*REMOTE),
    )
    p.add_argument("source", metavar="URI", nargs="?", help=FORMS)
    add_source_details(p)
    add_token(p)
    options = p.parse_args(argv)
    logs.apply(logs.LogSettings(logging.WARNING))
    if options.source is None and not options.channel:
        raise UsageError("nd-synapse sources", "it has no URI", "Give one, or --channel NAME=URI")
    named = boss_volume_of(options)
    if named is not None:
        return app.write_stdout(_in_boss(named, options, environ))
    if options.token is not None or options.token_file is not None:
        raise UsageError("--token or --token-file", "the volume is not in BOSS", "Leave it out")
    location = location_of(options)
    assert location is not None, "a source is given"
    contents = contents_of(location)
    contents.warn_of_left_out()
    words = _to_run(argv, options.source, contents)
    return app.write_stdout(_text(_facts(contents), contents.images, words))


def _in_boss(named: tuple[str, str, str], options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Return what a volume in BOSS is, as text; the token is not in it."""
    from nd_synapse.boss.resource import NeuroDataResource  # intern is imported only where it is used

    host, collection, experiment = named
    public = Token(Token.PUBLIC) if host == DEFAULT_HOST else None
    token = find_token(options.token, options.token_file, environ, public)
    hide(token)
    volume = NeuroDataResource(host, token, collection, experiment, resolution=options.resolution or 0)
    facts = {
        "volume": options.source,
        "channels": ", ".join(f"{name} ({volume.dtype(name)})" for name in volume.readable_channels),
        "axes": _extents(volume.frame.extent.shape),
        "voxel": f"{shown_size(volume.frame.voxel_size_nm)} nm (z, y, x)",
        "levels": f"this is {volume.resolution}",
    }
    level = ["--resolution", str(options.resolution), "--no-push"] if options.resolution else []
    return _text(facts, volume.image_channels, ["--source", options.source, *level])


def _facts(contents: Contents) -> dict[str, str]:
    """Return what a volume that is not in BOSS is, by the names of lines."""
    size, levels = contents.voxel_size_nm, contents.levels
    return {
        "volume": contents.location.uri,
        "channels": ", ".join(f"{name} ({volume.dtype})" for name, volume in contents.volumes.items()),
        "axes": _extents(contents.shape),
        "voxel": f"{shown_size(size)} nm (z, y, x){'; ? is not in the metadata' if None in size else ''}",
        "levels": f"0 to {levels - 1}; this is {contents.location.resolution}" if levels > 1 else "one",
    }


def _extents(shape: Sequence[int]) -> str:
    return ", ".join(f"{axis} {n}" for axis, n in zip("zyx", shape, strict=True)) + " voxels"


def _to_run(argv: Sequence[str], source: str | None, contents: Contents) -> list[str]:
    """Return the words of a run on a volume that these words describe, with what its metadata lack."""
    words, size = list(argv), contents.voxel_size_nm
    if source is not None:
        words.insert(words.index(source), "--source")
    lacking = ",".join("ZYX"[axis] if n is None else f"{n:g}" for axis, n in enumerate(size))
    return [*words, "--voxel-size-nm", lacking] if None in size else words


def _text(facts: Mapping[str, str], images: Sequence[str], words: Sequence[str]) -> str:
    """Return what a volume is, and what pipelines would take of it, as text; `words` run a job on it."""
    lines = {
        **facts,
        **{name: _roles(images, name) for name in registry.names()},
        "to run": shlex.join(["nd-synapse", "run", *words, *_choice(images)]),
    }
    width = max(map(len, lines))
    return "".join(f"{name:<{width}}  {text}\n" for name, text in lines.items())


def _choice(channels: Sequence[str]) -> list[str]:
    """Return the options that a run needs where the names of the channels do not decide which has which role."""
    pipeline = registry.build(registry.DEFAULT_PIPELINE, {})
    try:
        pipeline.choose(channels, {})
    except NDSynapseError:
        if len(channels) == 1:
            return ["--pipeline", "puncta"]
        return ["--channels", ",".join(f"{role.name}={_carrier(role, channels)}" for role in pipeline.roles)]
    return []


def _carrier(role: Role, channels: Sequence[str]) -> str:
    """Return the channel that a role finds by its markers, or ``NAME``."""
    try:
        return find_channels([role], channels, {})[role.name]
    except NDSynapseError:
        return "NAME"


def _roles(channels: Sequence[str], name: str) -> str:
    """Return the channels that a pipeline would take for its roles, or why it would take none."""
    try:
        roles = registry.build(name, {}).choose(channels, {})
    except NDSynapseError as error:
        return f"{error.requested}: {error.found}. {error.remedy}"
    return ", ".join(f"{role} {channel}" for role, channel in roles.items())
