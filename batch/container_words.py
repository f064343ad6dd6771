"""The words of a command line, on their way from the user's shell into a container.

It does not know what they mean, only which of them cannot mean the same there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from batch.requests import refuse_tokens
from nd_synapse.errors import UsageError
from nd_synapse.values import parse_assignments

__all__ = ["for_container"]

_MINE = "the run decides that itself"
_HERE = "it names a file of this machine, which no container has"

_REFUSED = {
    "--config": _HERE,
    "--path": "what a container writes goes with it; results go to S3",
    "--dry-run": "nd-synapse batch plan tells what would be done and needed",
    "--list-pipelines": "driver.py does that",
    "--fresh": "every run begins afresh, but for one that is resumed",
    "--phase": _MINE,
    "--shard": _MINE,
    "--shared": _MINE,
}
"""Options of ``driver.py`` that a run on Batch cannot have, and why."""

_TAKEN_OUT = ("--token-file", "--block-size")
"""Options that are of use here: the token opens the volume for the plan, and the plan has the size of the blocks."""


def for_container(words: Sequence[str], bucket: str | None) -> tuple[str, ...]:
    """Return the options that ``driver.py`` gets in a container."""
    kept: list[str] = []
    for option, value in _pairs(words):
        if option in _TAKEN_OUT:
            continue
        refuse_tokens([option])
        if option in _REFUSED:
            raise UsageError(f"{option} on AWS Batch", _REFUSED[option], "Leave it out")
        if option == "--param" and value is not None:
            ((name, text),) = parse_assignments([value]).items()
            value = f"{name}={text}"
        kept += [option] if value is None else [option, value]
    if bucket is not None and "--bucket" not in kept and "--no-upload" not in kept:
        kept += ["--bucket", bucket]
    return tuple(kept)


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield options with their values; no option of ours has more than one, and there is nothing but options."""
    rest = list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if equals:
            yield option, value
        elif rest and not rest[0].startswith("--"):
            yield option, rest.pop(0)
        else:
            yield option, None
