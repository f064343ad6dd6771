"""A request as handlers get it: what was sent, and what the caller may do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nd_synapse.local_boss.boss import Boss
from nd_synapse.local_boss.models import Channel, Collection, CoordinateFrame, Experiment
from nd_synapse.local_boss.responses import BossError, Code
from nd_synapse.local_boss.tokens import ANONYMOUS, Rights

__all__ = [
    "LARGEST_JSON_BYTES",
    "Call",
    "NotJsonError",
    "Resource",
    "UnauthorizedError",
    "check_read",
    "check_role",
    "check_write",
    "identify",
    "may_read",
]

LARGEST_JSON_BYTES = 2**20

Resource = Collection | Experiment | Channel


class NotJsonError(Exception):
    """The body is no JSON."""


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


def identify(header: str | None, tokens: Mapping[str, Rights], reading: bool) -> Rights:
    """Return the rights of the caller."""
    scheme, _, token = (header or "").strip().partition(" ")
    if scheme.lower() == "token":
        rights = tokens.get(token.strip())
        if rights is None:
            raise UnauthorizedError("Invalid token.")
        return rights
    if not reading:
        raise UnauthorizedError("Authentication credentials were not provided.")
    return ANONYMOUS


def may_read(rights: Rights, resource: Resource, public: bool = True) -> bool:
    """Return whether a resource may be read; `public` is whether its public flag counts."""
    return (public and resource.public) or resource.creator == rights.user or rights.may_read(*_names(resource))


def check_read(rights: Rights, resource: Resource, public: bool = True) -> None:
    """Raise 403/3001 unless the caller may read a resource."""
    if not may_read(rights, resource, public):
        raise _forbidden()


def check_write(rights: Rights, resource: Resource | CoordinateFrame) -> None:
    """Raise 403/3001 unless the caller may change or fill a resource; its creator may."""
    if resource.creator != rights.user and not rights.may_write(*_names(resource)):
        raise _forbidden()


def check_role(rights: Rights) -> None:
    """Raise 403/3000 unless the caller may create and delete resources."""
    if not rights.manages:
        message = f"{rights.user} does not have the required role resource-manager"
        raise BossError(403, Code.MISSING_ROLE, message)


def _forbidden() -> BossError:
    return BossError(403, Code.MISSING_PERMISSION, "This user does not have the required permissions")


def _names(resource: Resource | CoordinateFrame) -> tuple[str, ...]:
    match resource:
        case Collection():
            return (resource.name,)
        case Experiment():
            return (resource.collection, resource.name)
        case Channel():
            return (resource.collection, resource.experiment, resource.name)
        case CoordinateFrame():
            return ()  # belongs to no collection: only its creator and who may write everything
