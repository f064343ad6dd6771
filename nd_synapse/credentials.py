"""The BOSS token and where it comes from; `redaction` keeps it out of all output."""

from __future__ import annotations

import codecs
import logging
import os
import select
import stat
import time
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from nd_synapse.errors import StorageError, UsageError

__all__ = [
    "HIDDEN",
    "TOKEN_VARIABLE",
    "Token",
    "find_token",
    "read_token_file",
    "take_environment",
]

log = logging.getLogger(__name__)

TOKEN_VARIABLE = "BOSS_TOKEN"  # noqa: S105 - the name of the variable, not its value
HIDDEN = "***"
WAYS = f"Give it with --token-file FILE, {TOKEN_VARIABLE} in the environment, or token in neurodata.cfg"

# BOSS issues tokens of 40 characters; a file a hundred times larger is something else, perhaps endless.
_TOKEN_FILE_BYTES = 4096
# Long enough for a command whose output stands for the file, such as one that asks a keyring.
_TOKEN_FILE_S = 60.0
# A shorter one is part of common words: removing it from messages would garble them.
_SHORTEST = 8


class Token:
    """A BOSS token that prints as ``Token(***)``.

    It is pickled only by `multiprocessing`, on its way to a worker process; every other pickler refuses it.
    """

    __slots__ = ("_secret",)

    PUBLIC: ClassVar[str] = "public"

    def __init__(self, secret: str) -> None:
        fault = _fault(secret)
        if fault:
            raise UsageError("the BOSS token", fault, "Copy it again, without quotes or blanks")
        self._secret = secret

    @classmethod
    def of(cls, given: Token | str) -> Token:
        """Return `given` as a token."""
        return given if isinstance(given, Token) else cls(given)

    @property
    def is_secret(self) -> bool:
        """Whether the value must be hidden; ``public`` is known to all, and is a word of many sentences."""
        return self._secret != self.PUBLIC

    def reveal(self) -> str:
        """Return the secret itself, for the header of a request."""
        return self._secret

    def __repr__(self) -> str:
        return f"Token({HIDDEN})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return self._secret == other._secret if isinstance(other, Token) else NotImplemented

    def __hash__(self) -> int:
        return hash((Token, self._secret))

    def __copy__(self) -> Token:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Token:
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle outside of a pipe between processes ends in a file."""
        raise TypeError("a BOSS token is pickled only by multiprocessing, on its way to a worker process")


def _reduce_for_pipe(token: Token) -> tuple[type[Token], tuple[str]]:
    return Token, (token.reveal(),)


ForkingPickler.register(Token, _reduce_for_pipe)


def _fault(secret: object) -> str:
    """Return what is wrong with a token, without its value; '' if nothing is."""
    if not isinstance(secret, str):
        return f"it is a {type(secret).__name__}, not text"
    if not secret:
        return "it is empty"
    if any(character.isspace() for character in secret):
        return "it has blanks or line ends in it"
    if not secret.isprintable():
        return "it has control characters in it"
    if any(ord(character) > 255 for character in secret):
        return "it has characters that an HTTP header cannot carry"
    if len(secret) < _SHORTEST and secret != Token.PUBLIC:
        return f"it is shorter than {_SHORTEST} characters, as no token of BOSS is"
    return ""


def find_token(
    argument: str | None, token_file: Path | str | None, environ: Mapping[str, str], config_token: Token | str | None
) -> Token:
    """Choose the token: command line, then token file, then environment, then neurodata.cfg."""
    if argument is not None:
        return Token(argument)
    if token_file is not None:
        return read_token_file(Path(token_file))
    if environ.get(TOKEN_VARIABLE):
        return Token(environ[TOKEN_VARIABLE].strip())
    if config_token is not None:
        return Token.of(config_token)
    raise UsageError("the BOSS token", "none was given", f"{WAYS}; public data can be read with the token 'public'")


def read_token_file(path: Path) -> Token:
    """Read a token from a file that holds nothing else; blanks and line ends around it are dropped."""
    # a token given in place of its file is not repeated: it has no folder and no suffix
    requested = f"token file {path}" if path.parent.name or path.suffix or _exists(path) else "the token file"
    remedy = "Give a file with the token on its only line"
    try:
        raw, mode = _read_within(path, _TOKEN_FILE_BYTES + 1, _TOKEN_FILE_S)
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:
        found = "it is a folder" if isinstance(error, IsADirectoryError) else "there is no such file"
        raise UsageError(requested, found, remedy) from None
    except TimeoutError:
        found = f"no end of it was written within {_TOKEN_FILE_S:.0f} s"
        raise UsageError(requested, found, "Let a program write to it, or give a file") from None
    except OSError as error:
        raise StorageError(requested, error.strerror or "it cannot be read", "Check its permissions") from None
    if len(raw) > _TOKEN_FILE_BYTES:
        raise UsageError(requested, f"it is larger than {_TOKEN_FILE_BYTES} bytes", remedy)
    if mode & stat.S_IROTH:
        log.warning("%s can be read by every user of this machine; chmod 600 keeps it yours", requested)
    # latin-1 decodes any bytes, so that no decoding error can quote the content; Token checks the characters.
    secret = raw.removeprefix(codecs.BOM_UTF8).decode("latin-1").strip()
    fault = _fault(secret)
    if fault:
        raise UsageError(requested, fault, remedy)
    return Token(secret)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _read_within(path: Path, most: int, limit_s: float) -> tuple[bytes, int]:
    """Read a file, or a pipe such as ``<(...)``, within a time limit; return at most `most` bytes, and its mode."""
    deadline = time.monotonic() + limit_s
    raw = b""
    # without O_NONBLOCK, opening a named pipe waits for a writer
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        ready = select.poll()
        ready.register(file, select.POLLIN)
        while len(raw) < most:
            if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            piece = file.read(most - len(raw))
            if not piece:
                break
            raw += piece
        return raw, os.fstat(file.fileno()).st_mode


def take_environment() -> dict[str, str]:
    """Return the environment, and remove the token from that of this process and of all that it starts."""
    environ = dict(os.environ)
    os.environ.pop(TOKEN_VARIABLE, None)
    return environ
