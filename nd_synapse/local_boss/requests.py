"""A request as handlers get it: what was sent, and what the caller may do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.models import Channel, Collection, CoordinateFrame, Experiment
from nd_synapse.local_boss.responses import BossError, Code
from nd_synapse.local_boss.tokens import ANONYMOUS, Right, Rights

__all__ = [
    "BLOSC",
    "CUTOUT_MEDIA",
    "JSON",
    "LARGEST_JSON_BYTES",
    "Call",
    "NotJsonError",
    "Resource",
    "UnacceptableError",
    "UnauthorizedError",
    "check_role",
    "forbidden",
    "identify",
    "may",
    "negotiated",
]

LARGEST_JSON_BYTES = 2**20

BLOSC, JSON = "application/blosc", "application/json"
CUTOUT_MEDIA = (BLOSC, "application/blosc-python", "application/npygz", "image/jpeg", JSON)
"""What BOSS answers cutouts in, the default first; here, Blosc and errors in JSON."""

Resource = Collection | Experiment | Channel


class NotJsonError(Exception):
    """The body is no JSON."""


class UnacceptableError(Exception):
    """The request accepts no media type in which it can be answered."""


class UnauthorizedError(Exception):
    """The token is invalid, or missing where one is needed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    boss: Boss
    method: str
    rights: Rights
    query: Mapping[str, str]
    """The query of the URL, decoded."""
    media: str
    """The media type that the reply is to have."""
    body: bytes = b""

    def fields(self) -> dict[str, object]:
        """Return the JSON object in the body, empty when there is no body."""
        if not self.body:
            return {}
        try:
            fields = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise NotJsonError(str(error)) from error
        if not isinstance(fields, dict):
            raise BossError(400, Code.INVALID_POST_ARGUMENT, "The body has to be a JSON object.")
        return fields


def negotiated(accept: str, offered: Sequence[str]) -> str | None:
    """Return which of the offered media types a header ``Accept`` asks for, exact names before wildcards; or None."""
    wanted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    names = [(media, f"{media.split('/')[0]}/*", "*/*") for media in offered]
    return next((forms[0] for depth in range(3) for forms in names if forms[depth] in wanted), None)


def identify(header: str | None, tokens: Mapping[str, Rights], reading: bool) -> Rights:
    """Return the rights of the caller."""
    scheme, _, token = (header or "").strip().partition(" ")
    if scheme.lower() in ("token", "bearer"):
        # bearers of BOSS come from its login page, which is not here
        rights = tokens.get(token.strip()) if scheme.lower() == "token" else None
        if rights is None:
            raise UnauthorizedError("Invalid token.")
        return rights
    if not reading:
        raise UnauthorizedError("Authentication credentials were not provided.")
    return ANONYMOUS


def may(rights: Rights, right: Right, resource: Resource | CoordinateFrame) -> bool:
    """Return whether the caller has a right on a resource; its creator has all."""
    return resource.creator == rights.user or rights.may(right, *_names(resource))


def check_role(rights: Rights) -> None:
    """Raise 403/3000 unless the caller may create and delete resources."""
    if not rights.manages:
        message = f"{rights.user} does not have the required role resource-manager"
        raise BossError(403, Code.MISSING_ROLE, message)


def forbidden(message: str) -> BossError:
    """Return the error of a right that the caller lacks."""
    return BossError(403, Code.MISSING_PERMISSION, message)


def _names(resource: Resource | CoordinateFrame) -> tuple[str, ...]:
    match resource:
        case Collection():
            return (resource.name,)
        case Experiment():
            return (resource.collection, resource.name)
        case Channel():
            return (resource.collection, resource.experiment, resource.name)
        case CoordinateFrame():
            return ()  # belongs to no collection: its creator has rights, and who has them everywhere
