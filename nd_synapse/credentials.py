"""The BOSS token: where it comes from, and how it is kept out of all output."""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
import select
import stat
import time
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote

from nd_synapse.errors import StorageError, UsageError

__all__ = [
    "TOKEN_VARIABLE",
    "Redactor",
    "Token",
    "find_token",
    "given_secrets",
    "read_token_file",
    "redact",
    "take_environment",
]

log = logging.getLogger(__name__)

_AWS_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
TOKEN_VARIABLE = "BOSS_TOKEN"  # noqa: S105 - the name of the variable, not its value
HIDDEN = "***"
WAYS = f"Give it with --token-file FILE, {TOKEN_VARIABLE} in the environment, or token in neurodata.cfg"

# BOSS issues tokens of 40 characters; a file a hundred times larger is something else, perhaps endless.
_TOKEN_FILE_BYTES = 4096
# Long enough for a command whose output stands for the file, such as one that asks a keyring.
_TOKEN_FILE_S = 60.0
# A shorter one is part of common words: removing it from messages would garble them.
_SHORTEST = 8

# The value of an Authorization header in any quoting, and a bare "Token 0a1b...", also of a token that we do not know.
# A bare one needs a digit: sentences begin with "Token" too.
_AUTHORIZATION = re.compile(
    r"""((?i:authorization)["']?\s*[:=]\s*(?:b(?=["']))?["']?(?:(?i:token|bearer|basic)\s+)?|\bToken\s+(?=\S*\d)(?=\S{8}))[^\s'",;)}\]]+"""
)


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


def given_secrets(words: Sequence[str], environ: Mapping[str, str]) -> tuple[Token, ...]:
    """Return the secrets of a command line that is not parsed yet, and of its environment."""
    found = [environ.get(name, "").strip() for name in (TOKEN_VARIABLE, *_AWS_SECRETS)]
    found += [following for word, following in pairwise(words) if word == "--token"]
    found += [word.removeprefix("--token=") for word in words if word.startswith("--token=")]
    return tuple(Token(secret) for secret in dict.fromkeys(found) if not _fault(secret))


def take_environment() -> dict[str, str]:
    """Return the environment, and remove the token from that of this process and of all that it starts."""
    environ = dict(os.environ)
    os.environ.pop(TOKEN_VARIABLE, None)
    return environ


def redact(text: str, *tokens: Token) -> str:
    """Remove tokens (as given, quoted, percent-encoded) and values of Authorization headers from a text."""
    for token in tokens:
        if token.is_secret:
            secret = token.reveal()
            quoted = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), quote(secret)}
            # longest first, since a short form may be part of a longer one
            for form in sorted(quoted, key=len, reverse=True):
                text = text.replace(form, HIDDEN)
    return _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)


class Redactor(logging.Filter):
    """A filter that removes tokens from every record, before any handler formats it.

    Attach it to handlers: a filter of a logger does not see the records of the loggers below it.
    """

    def __init__(self, *tokens: Token) -> None:
        super().__init__()
        self._tokens = tokens

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message, its arguments and the exception's text."""
        # merged here: a token split over two arguments, or inside an object, shows only then
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - filters run outside of logging's own handling of errors, and a wrong format string must not end the job
            message = f"{record.msg if isinstance(record.msg, str) else ''} ({type(error).__name__} in its message)"
        record.msg = redact(message, *self._tokens)
        record.args = None
        if record.exc_info and not record.exc_text and record.exc_info[0] is not None:
            record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.exc_text:
            record.exc_text = redact(record.exc_text, *self._tokens)
            # Formatters that ignore exc_text would format exc_info anew.
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redact(record.stack_info, *self._tokens)
        return True
