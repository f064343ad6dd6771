"""The token is found in the order that is documented, and shows nowhere."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse import credentials
from nd_synapse.credentials import Token, find_token, read_token_file
from nd_synapse.errors import UsageError
from nd_synapse.redaction import Redactor, hidden, redacted, words_and_environment

SECRET = "c0ffee%d00d\"quo'te\\back/slash~0123456789"

# What BOSS could issue: printable latin-1 without blanks. Short ones are left out, they are part of every sentence.
secrets = st.text(
    st.characters(min_codepoint=33, max_codepoint=255).filter(lambda c: c.isprintable() and not c.isspace()),
    min_size=8,
    max_size=60,
)


def token_through_a_pool(token: Token) -> tuple[str, Token]:
    """Runs in a worker process."""
    return str(token), token


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>20}".format, ascii, lambda t: f"{[t]} {t:>12}"])
def test_a_token_does_not_show_itself(show):
    shown = show(Token(SECRET))
    assert "Token(***)" in shown
    assert "c0ffee" not in shown


@pytest.mark.parametrize(
    "given_token",
    [
        "",
        " ",
        "abc def",
        "abc\n",
        "\tabc",
        "ab\x00c",
        "ab\x7fc",
        "ab\x85c",
        "t\u00f6ken\u20ac",
        "zero\u200bwidth",
        None,
        7,
    ],
)
def test_a_malformed_token_is_refused_without_repeating_it(given_token):
    with pytest.raises(UsageError) as caught:
        Token(given_token)
    assert caught.value.requested == "the BOSS token"
    if given_token not in ("", " ", None, 7):
        assert given_token not in str(caught.value)


@pytest.mark.parametrize("short", ["a", "the", "1234567"])
def test_a_token_that_is_part_of_common_words_is_refused(short):
    """Removed from every text, it would leave stars of them; BOSS issues 40 characters."""
    with pytest.raises(UsageError, match="shorter than 8 characters") as caught:
        Token(short)
    assert f" {short} " not in caught.value.found
    assert Token("12345678").is_secret


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_token_is_pickled_into_no_file(protocol):
    with pytest.raises(TypeError, match="only by multiprocessing"):
        pickle.dumps({"token": Token(SECRET)}, protocol)


def test_a_token_reaches_a_worker_process_and_comes_back():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        shown, token = pool.apply(token_through_a_pool, (Token(SECRET),))
    assert shown == "Token(***)"
    assert token == Token(SECRET)


@pytest.mark.parametrize(
    ("argument", "in_file", "in_environ", "in_config", "chosen"),
    [
        ("from-flag", "from-file", "from-environ", "from-config", "from-flag"),
        (None, "from-file", "from-environ", "from-config", "from-file"),
        (None, None, "from-environ", "from-config", "from-environ"),
        (None, None, None, "from-config", "from-config"),
        (None, None, "", "from-config", "from-config"),
        (None, None, " padded-environ\n", None, "padded-environ"),
    ],
)
def test_the_command_line_comes_before_the_file_the_environment_and_the_configuration(
    tmp_path, argument, in_file, in_environ, in_config, chosen
):
    file = None
    if in_file is not None:
        file = tmp_path / "token"
        file.write_text(in_file)
        file.chmod(0o600)
    environ = {} if in_environ is None else {"BOSS_TOKEN": in_environ}
    assert find_token(argument, file, environ, in_config) == Token(chosen)


def test_a_missing_token_is_answered_with_the_ways_to_give_one():
    with pytest.raises(UsageError) as caught:
        find_token(None, None, {}, None)
    for way in ("--token-file", "BOSS_TOKEN", "neurodata.cfg", "'public'"):
        assert way in str(caught.value)


def test_an_empty_token_on_the_command_line_is_not_replaced_by_another():
    with pytest.raises(UsageError, match="empty"):
        find_token("", None, {"BOSS_TOKEN": "another-one"}, None)


def test_a_token_file_may_end_with_a_line_end(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(b"  0123456789abcdef\r\n")
    file.chmod(0o600)
    assert read_token_file(file) == Token("0123456789abcdef")


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "empty"), (b"\n\n", "empty"), (b"one-token\nanother-token\n", "blanks"), (b"x" * 5000, "larger")],
)
def test_a_token_file_with_something_else_in_it_is_refused_by_name(tmp_path, content, found):
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(UsageError, match=found) as caught:
        read_token_file(file)
    assert str(file) in str(caught.value)
    assert "another-token" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_token_file_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"no such file|it is a folder"):
        read_token_file(tmp_path / name)


def test_an_endless_token_file_is_not_read_to_its_end():
    with pytest.raises(UsageError, match="larger"):
        read_token_file(Path("/dev/zero"))


def test_a_token_in_place_of_its_file_is_not_repeated():
    secret = "d5f07b31e9c4a8620bd5f07b31e9c4a8620bd5f0"
    with pytest.raises(UsageError, match="no such file") as caught:
        read_token_file(Path(secret))
    assert secret not in f"{caught.value} {caught.value.__cause__} {vars(caught.value)}"


def test_a_named_pipe_is_a_token_file_once_somebody_writes_to_it(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    command = "import sys, time; time.sleep(0.3); open(sys.argv[1], 'w').write('0123456789abcdef\\n')"
    with subprocess.Popen([sys.executable, "-c", command, str(pipe)]):
        assert read_token_file(pipe) == Token("0123456789abcdef")


def test_a_pipe_of_the_shell_that_was_written_to_its_end_is_a_token_file():
    into, out = os.pipe()
    os.write(out, b"0123456789abcdef\n")
    os.close(out)
    try:
        assert read_token_file(Path(f"/dev/fd/{into}")) == Token("0123456789abcdef")
    finally:
        os.close(into)


@pytest.mark.parametrize("written", [None, b"", b"0123456789abcdef"], ids=["no writer", "silence", "no end"])
def test_a_named_pipe_that_does_not_end_is_not_waited_for(tmp_path, monkeypatch, written):
    monkeypatch.setattr(credentials, "_TOKEN_FILE_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    end = None if written is None else os.open(pipe, os.O_RDWR)
    try:
        if end is not None:
            os.write(end, written)
        with pytest.raises(UsageError, match="no end of it was written"):
            read_token_file(pipe)
    finally:
        if end is not None:
            os.close(end)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_token_file_that_all_may_read_is_warned_about(tmp_path, caplog, mode, warned):
    file = tmp_path / "token"
    file.write_text("0123456789abcdef")
    file.chmod(mode)
    read_token_file(file)
    assert ("chmod 600" in caplog.text) is warned
    assert "0123456789" not in caplog.text


@given(secret=secrets, before=st.text(max_size=20), after=st.text(max_size=20))
def test_for_any_token_no_spelling_of_it_stays_in_a_text(secret, before, after):
    token = Token(secret)
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        cleaned = redacted(f"{before} {form} {after}", token)
        assert secret not in cleaned
        assert form not in cleaned


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Token unknownsecret",
        "authorization: bearer unknownsecret",
        "{'Authorization': 'Token unknownsecret', 'Accept': '*/*'}",
        '{"Authorization":"Token unknownsecret"}',
        "Authorization: unknownsecret",
        "header: b'Authorization: Token unknownsecret'",
        "sent Token unknownsecret1",
    ],
)
def test_an_authorization_value_is_removed_even_when_the_token_is_not_known(line):
    assert "unknownsecret" not in redacted(line)


@pytest.mark.parametrize(
    "line",
    [
        "the token is accepted",
        "token collection",
        "Token necessary for this",
        "--token FILE",
        "Token(***)",
        "public data",
    ],
)
def test_sentences_about_tokens_stay_as_they_are(line):
    assert redacted(line, Token("public")) == line


class Holder:
    """An object whose text has a token in it."""

    def __str__(self):
        return f"holder of {SECRET}"


@pytest.mark.parametrize(
    "emit",
    [
        pytest.param(lambda log: log.error("plain " + SECRET), id="message"),
        pytest.param(lambda log: log.error("as %s", SECRET), id="argument"),
        pytest.param(lambda log: log.error("as %(t)s", {"t": SECRET}), id="mapping"),
        pytest.param(lambda log: log.error("as %s", Holder()), id="object"),
        pytest.param(lambda log: log.error("as %s%s", SECRET[:10], SECRET[10:]), id="two halves"),
        pytest.param(lambda log: log.error("as %d", SECRET), id="wrong format"),
        pytest.param(lambda log: log.error("as %s", quote(SECRET, safe="")), id="percent-encoded"),
        pytest.param(lambda log: log.error("as %s", json.dumps({"t": SECRET})), id="json"),
        pytest.param(lambda log: log.error("as %r", [SECRET]), id="repr"),
    ],
)
def test_no_record_of_any_logger_shows_the_token(emit):
    assert "c0ffee" not in written(emit)


def test_a_logged_exception_does_not_show_the_token_and_keeps_its_traceback():
    def emit(log):
        try:
            try:
                os.environ[SECRET]
            except KeyError as error:
                raise ValueError(f"second {SECRET}") from error
        except ValueError:
            log.exception("it failed with %s", SECRET, stack_info=True)

    text = written(emit)
    assert "c0ffee" not in text
    assert "Traceback" in text
    assert "direct cause" in text
    assert "Stack (most recent call last)" in text


def written(emit) -> str:
    """Return what a handler with a Redactor writes of a record of a logger below the one it is attached to."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    handler.addFilter(Redactor())
    parent = logging.getLogger("test_credentials")
    parent.addHandler(handler)
    parent.propagate = False
    try:
        with hidden(Token(SECRET)):
            emit(parent.getChild("child"))
    finally:
        parent.removeHandler(handler)
        parent.propagate = True
    return stream.getvalue()


def test_the_secrets_of_a_command_line_and_its_environment_are_found_before_it_is_parsed() -> None:
    found = words_and_environment(["--token", "a-token-of-mine", "x", "--token=another-of-mine", "--token"], {})
    assert {token.reveal() for token in found} == {"a-token-of-mine", "another-of-mine"}
    environ = {"BOSS_TOKEN": " of-the-environment\n", "AWS_SESSION_TOKEN": "of-aws-session", "AWS_REGION": "us-east-1"}
    assert {token.reveal() for token in words_and_environment([], environ)} == {"of-the-environment", "of-aws-session"}


def test_a_token_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbf0123456789\r\n")
    (tmp_path / "token").chmod(0o600)
    assert read_token_file(tmp_path / "token").reveal() == "0123456789"
