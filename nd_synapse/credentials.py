"""The BOSS token: where it comes from, and how it is kept out of everything that is written.

It knows nothing of BOSS itself and opens no connection; who needs the secret calls `Token.reveal` at the last moment.
"""

from __future__ import annotations

import base64
import codecs
import html
import json
import logging
import os
import re
import select
import stat
import time
import traceback
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote, quote_plus

from nd_synapse.errors import StorageError, UsageError

__all__ = [
    "TOKEN_VARIABLE",
    "Redactor",
    "Token",
    "find_token",
    "hide_likely",
    "read_token_file",
    "redact",
    "suspected",
    "taken_environment",
    "unwaiting",
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
# A short one is part of common words: removing it from what is written would leave no sentence whole.
_SHORTEST = 8

# The value of an Authorization header in any quoting, and a bare "Token 0a1b...", whether or not we know the token.
# A bare one needs a digit: sentences begin with "Token" too.
_AUTHORIZATION = re.compile(
    r"""((?i:authorization)["']?\s*[:=]\s*(?:b(?=["']))?["']?(?:(?i:token|bearer|basic)\s+)?|\bToken\s+(?=\S*\d)(?=\S{8}))[^\s'",;)}\]]+"""
)

# A word as long and mixed as tokens are: none of those that BOSS issues is missed, and few names are hidden.
_LIKELY = re.compile(r"[A-Za-z0-9_-]{20,}")

# The form of the tokens that BOSS issues, where a whole word has it.
_ISSUED = re.compile(r"[0-9A-Fa-f]{40}")


class Token:
    """A BOSS token that does not show itself.

    It equals another token of the same value, prints as ``Token(***)``, and is pickled only on its way to a worker
    process: `multiprocessing` moves it through a pipe, every other pickler refuses it.

    Parameters
    ----------
    secret : str
        The token as BOSS issued it. ``public`` is BOSS's own token for public data, known to everybody.

    Raises
    ------
    UsageError
        If it is shorter than 8 characters, or has characters that no HTTP header carries. The message does not repeat
        the value.
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
        """Whether the value must be hidden: ``public`` need not, and as a word it stands in many sentences."""
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
        """Refuse: what is pickled outside of a pipe between processes ends in a file."""
        raise TypeError("a BOSS token is pickled only by multiprocessing, on its way to a worker process")


def _reduce_for_pipe(token: Token) -> tuple[type[Token], tuple[str]]:
    return Token, (token.reveal(),)


ForkingPickler.register(Token, _reduce_for_pipe)


def _fault(secret: object) -> str:
    """Say what is wrong with a token, without repeating it; nothing is ''."""
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
    raise UsageError("the BOSS token", "none was given", f"{WAYS}; data that BOSS shows to all take the token 'public'")


def read_token_file(path: Path) -> Token:
    """Read a token from a file that holds nothing else; blanks and line ends around it are dropped."""
    # who gives the token itself where its file is asked for does not get it back
    requested = f"token file {path if path.parent.name else hide_likely(str(path))}"
    remedy = "Give a file with the token on its only line"
    try:
        raw, mode = _read_within(path, _TOKEN_FILE_BYTES + 1, _TOKEN_FILE_S)
    except ValueError as error:
        # a path that no file can have
        raise UsageError(requested, "there is no such file", remedy) from error
    except OSError as error:
        error.filename = None  # for the same reason
        if isinstance(error, FileNotFoundError | IsADirectoryError):
            found = "it is a folder" if isinstance(error, IsADirectoryError) else "there is no such file"
            raise UsageError(requested, found, remedy) from error
        if isinstance(error, TimeoutError):
            found = f"nobody wrote it to its end within {_TOKEN_FILE_S:.0f} s"
            raise UsageError(requested, found, "Let something write to it, or give a file") from error
        raise StorageError(requested, error.strerror or "it cannot be read", "Check its permissions") from error
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


def unwaiting(path: str, flags: int) -> int:
    """Open a file as `open` does, but do not wait for somebody to write to a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read_within(path: Path, most: int, limit_s: float) -> tuple[bytes, int]:
    """Read a file, or a pipe such as that of ``<(...)``, within a time; return at most so many bytes, and its mode."""
    deadline = time.monotonic() + limit_s
    raw = b""
    with open(path, "rb", buffering=0, opener=unwaiting) as file:
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


def hide_likely(text: str) -> str:
    """Remove what may be a token from a text, where none is known."""
    return _LIKELY.sub(lambda word: HIDDEN if any(map(str.isdigit, word[0])) else word[0], text)


def suspected(words: Sequence[str], environ: Mapping[str, str]) -> tuple[Token, ...]:
    """Find what may be a token on a command line and in its environment, before either is understood."""
    found = [environ.get(name, "").strip() for name in (TOKEN_VARIABLE, *_AWS_SECRETS)]
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        option, _, value = word.partition("=")
        if option == "--token":
            found.append(value or following)
        found += [part for part in (word, value) if _ISSUED.fullmatch(part)]
    return tuple(Token(secret) for secret in dict.fromkeys(found) if not _fault(secret))


def taken_environment() -> dict[str, str]:
    """Take the token out of this process's environment, so that no program that it starts gets it."""
    environ = dict(os.environ)
    os.environ.pop(TOKEN_VARIABLE, None)
    return environ


def redact(text: str, *tokens: Token) -> str:
    """Remove tokens, and values of Authorization headers, from a text."""
    for token in tokens:
        if token.is_secret:
            for form in _forms(token.reveal()):
                text = text.replace(form, HIDDEN)
    return _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)


def _forms(secret: str) -> list[str]:
    """List the spellings of a secret, longest first, since a short one may be part of a longer one."""
    escaped = {
        json.dumps(secret)[1:-1],
        json.dumps(secret)[1:-1].replace("/", "\\/"),
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
    }
    encoded = {quote(secret, safe=""), quote(secret, safe="", encoding="latin-1"), quote(secret), quote_plus(secret)}
    spellings = {
        secret,
        *escaped,
        *(further(form)[1:-1] for form in escaped for further in (json.dumps, repr)),
        *encoded,
        *(re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in encoded),
        secret.replace("%", "%%"),
    }
    # what was encoded together with words before it begins at another bit, and is found by its own middle
    for before in range(3):
        coded = base64.b64encode(bytes(before) + secret.encode("latin-1")).decode()
        middle = coded[-(-before * 8 // 6) : len(coded) // 4 * 4 - 4]
        spellings |= {middle, middle.translate(str.maketrans("+/", "-_"))} if len(middle) >= _SHORTEST else set()
    return sorted(spellings, key=lambda spelling: (-len(spelling), spelling))


class Redactor(logging.Filter):
    """A filter that removes tokens from every record, before any handler formats it.

    Attach it to handlers: a filter of a logger does not see the records of the loggers below it.

    Parameters
    ----------
    *tokens : Token
        The tokens to remove. Without any, values of Authorization headers are still removed.
    """

    def __init__(self, *tokens: Token) -> None:
        super().__init__()
        self._tokens = tokens

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message, its arguments and the exception's text."""
        # The arguments are merged here: a token split over two of them, or inside an object, shows only then.
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - by a value that does not print itself
            # A filter runs outside of logging's own net: a wrong format string may not end the job here.
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
