"""Parameters of a pipeline: their declaration, and the check of values from users and programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from nd_synapse.errors import UsageError, closest

__all__ = ["Parameter", "check_parameters", "parse_parameters"]

_LARGEST = sys.float_info.max

_NUMBER = re.compile(r"-?[0-9A-Za-z.]{1,400}([-+][0-9]{1,4})?")
"""Python's own forms also have blanks, underscores and digits of other scripts."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number or a choice that the user may set.

    Parameters
    ----------
    name : str
        Name, as in ``--param min_voxels=30``.
    default : int, float or str
        Value where none is given; its type is the parameter's type, unless there is a `usual`.
    unit : str
        Unit of the value, empty for choices and pure numbers.
    help : str
        One line for the user.
    choices : tuple of str
        The values allowed; empty where any value of the type is.
    minimum, maximum : float or None
        The smallest and the largest number allowed; whole numbers fit 63 bits in any case.
    shows : bool
        Whether the result may depend on it.
    usual : float or None
        Of a parameter whose default is a word, such as ``auto``, and which takes numbers as well: a usual one.
    """

    name: str
    default: int | float | str
    unit: str
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    shows: bool = True
    usual: float | None = None

    @property
    def number(self) -> int | float | None:
        """The default of a number, or its usual value; None of a text."""
        return self.usual if isinstance(self.default, str) else self.default

    def parse(self, text: str) -> int | float | str:
        """Return the value of a text.

        Parameters
        ----------
        text : str
            What the user wrote.

        Returns
        -------
        int, float or str
            The value, of the type of `default`, or of `usual` where there is one.

        Raises
        ------
        UsageError
            If it is of the wrong type, not among the choices, or too small.
        """
        if self.number is None or text == self.default:
            return self.check(text)
        kind = type(self.number)
        try:
            value = kind(text) if _NUMBER.fullmatch(text) else text
        except ValueError:
            value = text
        return self.check(value, text)

    def check(self, value: Any, written: str | None = None) -> int | float | str:
        """Return a value, if it is valid.

        Parameters
        ----------
        value : Any
            What a program set, or `parse` read.
        written : str or None
            What the user wrote, for messages.

        Returns
        -------
        int, float or str
            The value, of the type of `default`, or of `usual` where there is one.

        Raises
        ------
        UsageError
            If it is of the wrong type, not among the choices, or beyond the limits.
        """
        try:
            shown = str(value) if written is None else written
        except ValueError:  # Python does not write whole numbers of very many digits
            shown = "a number of very many digits"
        requested = f"parameter {self.name}={shown:.100}"
        if self.number is None:
            if not isinstance(value, str):
                raise UsageError(requested, "that is not a text", f"The default is {self.default}")
            if self.choices and value not in self.choices:
                known = ", ".join(closest(value, self.choices))
                raise UsageError(requested, f"the choices are {known}", "Take one of them")
            return value
        if isinstance(value, str) and value == self.default:
            return value
        whole = isinstance(self.number, int)
        is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not is_number:
            wanted = "a whole number" if whole else "a number" if self.usual is None else f"{self.default} or a number"
            raise UsageError(requested, f"that is not {wanted}", f"The default is {self.default}")
        largest = 2**63 - 1 if self.maximum is None and whole else self.maximum
        if not -_LARGEST <= value <= _LARGEST:
            raise UsageError(requested, "that is not a number to compute with", f"The default is {self.default}")
        if self.minimum is not None and value < self.minimum:
            raise UsageError(requested, f"the smallest value is {self.minimum}", f"The default is {self.default}")
        if largest is not None and value > largest:
            raise UsageError(requested, f"the largest value is {largest}", f"The default is {self.default}")
        return int(value) if whole else float(value)


def check_parameters(pipeline: Any) -> None:
    """Check the values that a pipeline was constructed with, in its ``__post_init__``.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline.

    Raises
    ------
    UsageError
        If a value is of the wrong type, not among the choices, or beyond the limits.
    """
    for parameter in pipeline.parameters:
        parameter.check(getattr(pipeline, parameter.name))


def parse_parameters(declared: Sequence[Parameter], given: Mapping[str, str]) -> dict[str, int | float | str]:
    """Return every declared parameter with its value, from the texts on the command line."""
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            raise UsageError(
                f"parameter {name!r}",
                f"there is no such parameter; the pipeline has {', '.join(closest(name, known)) or 'none'}",
                "Correct the name in --param",
            )
    return {
        name: parameter.parse(given[name]) if name in given else parameter.default for name, parameter in known.items()
    }
