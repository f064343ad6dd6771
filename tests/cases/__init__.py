"""What was once wrong without a word: each case with what it gave, and what it gives now.

``python -m tests.cases`` prints the table; ``test_cases.py`` runs each case as a test.
A module of this folder that has a ``CASES`` is one kind of cases.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Case:
    """An input or a call, what it gave before, and what it must give.

    Attributes
    ----------
    id : str
        Unique in its kind, in lower case with hyphens.
    given : str
        The input in words.
    before : str
        What the program answered before this was mended.
    after : str
        What it must answer: the text that ``observe`` returns.
    observe : callable
        Runs the case in an empty folder, and tells in a line what came of it.
    slow : bool
        Whether it takes more than a second.
    """

    id: str
    given: str
    before: str
    after: str
    observe: Callable[[Path], str]
    slow: bool = False


def kinds() -> dict[str, tuple[Case, ...]]:
    """Return the cases by kind, the kinds in the order of their names."""
    modules = (
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith(("_", "test_"))
    )
    return {module.__name__.rpartition(".")[2]: module.CASES for module in modules if hasattr(module, "CASES")}
