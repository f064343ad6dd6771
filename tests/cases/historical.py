"""Calls as programs of 2018 make them."""

from tests.cases import Case

CASES: tuple[Case, ...] = ()
