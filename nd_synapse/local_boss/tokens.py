"""The tokens of a data folder and what each may do. No token is ever part of a message."""

from __future__ import annotations

import json
import logging
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from nd_synapse.errors import StorageError, UsageError
from nd_synapse.local_boss.catalog import LOCAL_USER
from nd_synapse.paths import refuse_special
from nd_synapse.text import system_reason

__all__ = ["ANONYMOUS", "Right", "Rights", "load", "writing_token"]

logger = logging.getLogger(__name__)

FILE = "tokens.json"
SHORTEST_TOKEN = 8
"""Characters of the shortest token: a shorter one is found by trying, or sent by mistake."""
PUBLIC = "public"
"""The token that everybody knows, and its user."""
ROLES = ("none", "resource-manager", "admin")

Right = Literal[
    "read",
    "add",
    "update",
    "delete",
    "assign_group",
    "remove_group",
    "read_volumetric_data",
    "add_volumetric_data",
    "delete_volumetric_data",
]
"""A right as BOSS names it. Those with volumetric data concern the voxels of channels, the others descriptions."""
ALL_RIGHTS: tuple[Right, ...] = get_args(Right)
READING: tuple[Right, ...] = ("read", "read_volumetric_data")
"""What ``read`` in the token file stands for."""
CHANGING = tuple(right for right in ALL_RIGHTS if right not in READING)
"""What ``write`` stands for."""

Scope = Literal["all"] | frozenset[str]
"""Everything, or collections, experiments (``"collection/experiment"``) and channels, each with its content."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What the bearer of a token may do."""

    user: str
    """The name under which resources are created."""
    role: str
    """``admin`` may do everything, ``resource-manager`` create and delete resources where its rights allow it."""
    scopes: Mapping[Right, Scope]
    """Where each right holds; one that is missing holds nowhere."""

    @property
    def manages(self) -> bool:
        """Whether the role lets create and delete resources."""
        return self.role in ("resource-manager", "admin")

    def may(self, right: Right, *names: str) -> bool:
        """Return whether a right holds on the collection, experiment or channel of these names."""
        scope = self.scopes.get(right, frozenset())
        if self.role == "admin" or scope == "all":
            return True
        return any("/".join(names[:depth]) in scope for depth in range(1, len(names) + 1))


ANONYMOUS = Rights("anonymous", "none", {})
"""Callers without a token read what is public."""


def load(data: Path) -> dict[str, Rights]:
    """Return the rights of every token of a data folder; a missing file is made, with a random token and ``public``."""
    path = data / FILE
    try:
        if not path.exists():
            _create(path)
        _warn_of_readers(path)
        refuse_special(path)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(path, "it is no text in UTF-8") from error
    except OSError as error:
        found = system_reason(error) if data.exists() else "the data folder does not exist"
        raise StorageError(f"token file {path}", found, "Give a data folder that you may read and write") from error
    try:
        entries = json.loads(text)["tokens"].items()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # not chained: the text of a JSON error quotes the file, and so perhaps a token
        raise _malformed(path, 'it is no JSON of the form {"tokens": {...}}') from None
    return {token: _checked(path, number, token, entry) for number, (token, entry) in enumerate(entries, start=1)}


def writing_token(data: Path) -> str:
    """Return the first token of a data folder that may do everything; make the token file if it is missing."""
    for token, rights in load(data).items():
        if rights.role == "admin":
            return token
    raise UsageError(f"token file {data / FILE}", "no token has the role admin", "Give one token that role")


@cache
def _warn_of_readers(path: Path) -> None:
    """Log once that others may use the tokens."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning("token file %s: others than its owner may use it (mode %03o). chmod 600 it.", path, mode)


def _create(path: Path) -> None:
    owner = {"user": "owner", "role": "admin", "read": "all", "write": "all"}
    public: dict[str, Any] = {"user": PUBLIC, "role": "none", "read": [], "write": []}
    text = json.dumps({"tokens": {secrets.token_hex(20): owner, PUBLIC: public}}, indent=2) + "\n"
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    try:
        os.link(temporary, path)  # of two that start at once, the first wins
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _malformed(path: Path, found: str) -> UsageError:
    return UsageError(f"token file {path}", found, "See docs/local-boss.md for its form, or delete the file")


def _checked(path: Path, number: int, token: str, entry: object) -> Rights:
    """Return the rights of a token that cannot be guessed, and whose user nobody else is."""
    where = f"token number {number}"
    rights = _rights(path, where, entry)
    if token == PUBLIC:
        if rights.user != PUBLIC or rights.role != "none" or any(rights.scopes[right] for right in CHANGING):
            found = f"everybody knows {where}, {PUBLIC!r}, and it may do more than read"
            raise UsageError(f"token file {path}", found, f"Give those rights to another token than {PUBLIC!r}")
        return rights
    if len(token.strip()) < SHORTEST_TOKEN:
        found = f"{where} has fewer than {SHORTEST_TOKEN} characters"
        raise UsageError(f"token file {path}", found, "Give it a long random one, such as of: openssl rand -hex 20")
    reserved = {
        ANONYMOUS.user: "who sends no token owns what that user makes",
        LOCAL_USER: "that user owns all that ingest and sample made",
        PUBLIC: f"everybody with the token {PUBLIC!r} owns what that user makes",
    }
    if rights.user in reserved:
        found = f"{where} is of the user {rights.user!r}, and {reserved[rights.user]}"
        raise UsageError(f"token file {path}", found, "Give that user another name")
    return rights


def _rights(path: Path, where: str, entry: object) -> Rights:
    if not isinstance(entry, Mapping):
        raise _malformed(path, f"{where} has no rights")
    user, role = entry.get("user"), entry.get("role", "none")
    if not isinstance(user, str) or not user:
        raise _malformed(path, f"{where} names no user")
    if role not in ROLES:
        raise _malformed(path, f"{where} has a role that is none of {', '.join(ROLES)}")
    given = entry.get("rights", {})
    if not isinstance(given, Mapping) or not given.keys() <= set(ALL_RIGHTS):
        raise _malformed(path, f"the rights of {where} are not a table by {', '.join(ALL_RIGHTS)}")
    scopes: dict[Right, Scope] = {}
    for short, meant in {"read": READING, "write": CHANGING}.items():
        everywhere = _scope(path, where, entry.get(short, []))
        for right in meant:
            alone = _scope(path, where, given.get(right, []))
            scopes[right] = "all" if "all" in (everywhere, alone) else frozenset({*everywhere, *alone})
    return Rights(user, role, scopes)


def _scope(path: Path, where: str, given: object) -> Scope:
    if given == "all":
        return "all"
    if not isinstance(given, list) or not all(isinstance(pattern, str) for pattern in given):
        raise _malformed(path, f'the rights of {where} are neither "all" nor a list of names')
    return frozenset(given)
