"""Messages of any exception are short, and one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.blocks.pool import BlockPool, Boxes, Failed
from nd_synapse.geometry import Box
from nd_synapse.redaction import describe_error, format_traceback
from nd_synapse.text import one_line, shortened


class SilentError(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise ValueError("not even this")


class WildError(Exception):
    """An exception that ends the program that prints it."""

    def __str__(self) -> str:
        raise SystemExit(3)


def silent(_box: Box) -> None:
    raise SilentError


def wild(_box: Box) -> None:
    raise WildError


def huge(_box: Box) -> None:
    raise ValueError("x" * 1_000_000)


class Unsendable:
    """A result that raises when it is pickled."""

    def __reduce__(self) -> str:
        raise SystemExit(4)


def unsendable(_box: Box) -> Unsendable:
    return Unsendable()


@given(st.text(max_size=300))
def test_for_any_text_one_line_can_be_printed_in_one(text: str) -> None:
    assert one_line(text).isprintable()
    assert one_line(one_line(text)) == one_line(text)


@given(st.text(max_size=300), st.integers(3, 400))
def test_for_any_text_what_is_kept_is_bounded(text: str, most: int) -> None:
    short = shortened(text, most)
    assert len(short) < most + 60
    assert short == text or (short.startswith(text[: most // 3]) and f"{len(text) - most:,}" in short)


@pytest.mark.parametrize("error", [SilentError(), WildError(), ValueError("x" * 10**6), ValueError("a\nb\x1b[2J")])
def test_a_reason_is_a_short_line_whatever_the_exception_is(error: Exception) -> None:
    assert describe_error(error).startswith(type(error).__name__)
    assert describe_error(error).isprintable()
    assert len(describe_error(error)) < 700
    assert len(format_traceback(error)) < 9000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (silent, "SilentError, which cannot be printed (ValueError)"),
        (wild, "WildError, which cannot be printed (SystemExit)"),
        (huge, "characters left out"),
        (unsendable, "its result cannot be sent to the parent: SystemExit: 4"),
    ],
)
def test_a_block_fails_with_its_own_reason_whatever_its_function_raises(function: object, words: str) -> None:
    """The worker does not die of it."""
    with BlockPool(1) as pool:
        (outcome,) = pool.run(function, Boxes([Box.of_shape((1, 1, 1))]))  # type: ignore[arg-type] # not each is a function of blocks
    assert isinstance(outcome, Failed)
    assert words in outcome.reason
    assert len(outcome.reason) < 700
    assert len(outcome.traceback) < 9000
