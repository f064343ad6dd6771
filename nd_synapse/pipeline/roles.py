"""The roles of channels in a pipeline, and the channels that play them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nd_synapse.errors import DataError, UnknownNameError, UsageError, closest

__all__ = ["Role", "find_channels"]


@dataclass(frozen=True, slots=True)
class Role:
    """A part that a channel plays in a pipeline.

    Parameters
    ----------
    name : str
        Name of the role, as in ``--channels presynaptic=SYNAPSIN``.
    markers : tuple of str
        Lower-case parts of channel names that mark the role, the preferred ones first.
    help : str
        One line for the user.
    optional : bool
        Whether the pipeline can do without.
    but_not : tuple of str
        Lower-case parts of names that carry a marker and mean something else, such as the receptor of a transmitter.
    """

    name: str
    markers: tuple[str, ...]
    help: str
    optional: bool = False
    but_not: tuple[str, ...] = ()


def find_channels(roles: Sequence[Role], channels: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Decide which channel plays which role.

    A role that the user did not assign goes to the channel whose name is one of its markers or contains one; markers
    are tried in the role's order, a whole name before a part of one; upper and lower case, ``-`` and ``_`` count alike.

    Parameters
    ----------
    roles : sequence of Role
        What the pipeline needs.
    channels : sequence of str
        Names of the experiment's image channels.
    chosen : mapping of str to str
        Role to channel, as given by the user; an empty name leaves an optional role out.

    Returns
    -------
    dict of str to str
        Role to channel, in the order of `roles`; without the optional roles for which there is no channel.

    Raises
    ------
    UnknownNameError
        If the user named a role or a channel that does not exist, or no channel carries a marker of a role that is not
        optional.
    UsageError
        If several channels carry the same marker, one channel would play two roles, or there is no role.
    DataError
        If there is no channel.
    """
    if not roles:
        raise UsageError("channels for the pipeline", "it has no roles, so it would get none", "Declare its roles")
    _check_chosen(roles, channels, chosen)
    if not channels:
        raise DataError(
            "channels for " + " and ".join(role.name for role in roles),
            "the experiment has no image channel of uint8 or uint16 that can be read",
            "Check --col and --exp, and what the token may read",
        )
    found = {}
    is_one_for_several = len(channels) == 1 < sum(not role.optional for role in roles)
    for role in roles:
        remedy = f"Name it with --channels {role.name}=NAME"
        remedy = "For one marker alone take --pipeline puncta" if is_one_for_several else remedy
        channel = chosen[role.name] if role.name in chosen else _by_marker(role, channels, remedy)
        if not channel and not role.optional:
            raise UsageError(f"--channels {role.name}=", "the pipeline needs this channel", "Name it")
        if channel:
            found[role.name] = channel
    if len(set(found.values())) < len(found):
        raise UsageError(
            "channels " + ", ".join(f"{role}={channel}" for role, channel in found.items()),
            "one channel cannot play two roles, since it agrees with itself",
            "Choose another one with --channels; for one marker alone take --pipeline puncta",
        )
    return found


def _check_chosen(roles: Sequence[Role], channels: Sequence[str], chosen: Mapping[str, str]) -> None:
    """Refuse roles and channels that do not exist."""
    names = sorted(role.name for role in roles)
    for role_name, channel in chosen.items():
        if role_name not in names:
            raise UnknownNameError(
                f"role {role_name!r} in --channels",
                f"there is no such role; there are {', '.join(names)}",
                "Correct the role",
            )
        if channel and channel not in channels:
            raise UnknownNameError(
                f"channel {channel!r} as {role_name}",
                f"there is no such image channel; there are {', '.join(closest(channel, channels)) or 'none'}",
                "Correct the name in --channels",
            )


def _by_marker(role: Role, channels: Sequence[str], remedy: str) -> str:
    """Find the one channel with a marker of the role; an empty name where an optional role has none."""
    plain = {channel: _plain(channel) for channel in channels}
    plain = {channel: name for channel, name in plain.items() if not any(part in name for part in role.but_not)}
    for marker in map(_plain, role.markers):
        named = [channel for channel, name in plain.items() if name == marker]
        candidates = named or [channel for channel, name in plain.items() if marker in name]
        if len(candidates) > 1:
            raise UsageError(
                f"a {role.name} channel by its marker {marker!r}",
                f"several channels carry it: {', '.join(candidates)}",
                f"Choose one with --channels {role.name}={candidates[0]}",
            )
        if candidates:
            return candidates[0]
    if role.optional:
        return ""
    names = f"; names with {', '.join(role.markers)}" if role.markers else ""
    raise UnknownNameError(
        f"a {role.name} channel ({role.help}{names})",
        f"the image channels are {', '.join(channels) or 'none'}",
        remedy,
    )


def _plain(name: str) -> str:
    """Return a name in lower case without ``-`` and ``_``."""
    return name.lower().replace("-", "").replace("_", "")
