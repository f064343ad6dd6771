"""Who imports whom: the tables of ARCHITECTURE.md, held against the imports in our modules."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.markdown import code, section, tables

ARCHITECTURE = REPOSITORY / "ARCHITECTURE.md"
NOT_A_ROOM = {"tests", "benchmarks"}  # they may import whatever they measure or test
EVERYWHERE = {"numpy"}

# Enough for arithmetic on arrays, and nothing that opens a file, a process or a connection.
PURE_LIBRARIES = {"numpy", "scipy", "cc3d"}
PURE_STANDARD = {
    "__future__",
    "abc",
    "collections",
    "dataclasses",
    "enum",
    "fractions",
    "functools",
    "itertools",
    "json",
    "math",
    "numbers",
    "re",
    "sys",
    "types",
    "typing",
}
JUDGES = "pipelines.evaluate"
FINDERS = {"pipelines", "pipelines.function"}
"""They find pipelines that are not ours, and import them by name."""
UNPICKLING = {"load", "loads", "Unpickler"}
UNPICKLES = "block_worker"
"""Its workers load the functions that their own parent sent them, through a pipe that nobody else can write to."""


@cache
def files() -> dict[str, Path]:
    """Return the files of our modules and packages, by dotted name."""
    packages = [folder for folder in REPOSITORY.iterdir() if (folder / "__init__.py").is_file()]
    found = [*REPOSITORY.glob("*.py"), *(file for folder in packages for file in folder.rglob("*.py"))]
    names = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in found]
    named = {name.removesuffix(".__init__"): file for name, file in zip(names, found, strict=True)}
    return {name: file for name, file in sorted(named.items()) if room(name) not in NOT_A_ROOM}


@cache
def sources() -> dict[str, ast.Module]:
    """Return our modules, parsed, by dotted name."""
    return {name: ast.parse(file.read_text(encoding="utf-8"), str(file)) for name, file in files().items()}


def room(module: str) -> str:
    """Return the top-level module or package of a module; the judging of pipelines has a room of its own."""
    if module == JUDGES or module.startswith(f"{JUDGES}."):
        return JUDGES
    return module.partition(".")[0]


def imported(tree: ast.Module) -> set[str]:
    """Return what a module imports, at its top or inside of a function, as dotted names."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "our imports are absolute"
            whole = node.module or ""
            # `from package import module` imports the module, whatever else the package does
            parts = {f"{whole}.{alias.name}" for alias in node.names}
            names.update({part if part in files() else whole for part in parts})
    return names


@cache
def imports() -> dict[str, set[str]]:
    """Return what each of our modules imports."""
    return {name: imported(tree) for name, tree in sources().items()}


def rooms_imported() -> dict[str, set[str]]:
    """Return, for each room, the other rooms that it imports."""
    graph: dict[str, set[str]] = defaultdict(set)
    ours = {room(name) for name in sources()}
    for name, targets in imports().items():
        graph[room(name)] |= {room(target) for target in targets} & ours - {room(name)}
    return dict(graph)


def libraries_imported() -> dict[str, set[str]]:
    """Return, for each library that is not ours and not Python's, the rooms that import it."""
    users: dict[str, set[str]] = defaultdict(set)
    ours = {room(name) for name in sources()}
    for name, targets in imports().items():
        for library in {room(target) for target in targets} - ours - sys.stdlib_module_names - EVERYWHERE:
            users[library].add(name if name == "local_boss.demo" else room(name))
    return dict(users)


def room_table() -> dict[str, set[str]]:
    """Return the rooms, in the order of the table, and what each may import."""
    return {
        code(name)[0].rstrip("/").removesuffix(".py").replace("/", "."): set(code(may))
        for name, _, may in tables(section(ARCHITECTURE, "Rooms"))[0]
    }


class TestRooms:
    """Imports point one way."""

    def test_every_room_is_in_the_table_once(self) -> None:
        names = [code(name)[0] for name, *_ in tables(section(ARCHITECTURE, "Rooms"))[0]]
        assert len(names) == len(set(names))
        assert set(room_table()) == {room(name) for name in sources()}

    @pytest.mark.parametrize("name", sorted({room(name) for name in sources()}))
    def test_a_room_imports_what_the_table_says_and_nothing_else(self, name: str) -> None:
        """A permission that nobody uses is as wrong as an import that nobody allowed."""
        assert rooms_imported().get(name, set()) == room_table()[name], f"see the row of {name} in ARCHITECTURE.md"

    def test_a_room_imports_only_rooms_above_its_own_row(self) -> None:
        """So that the table can be read from top to bottom, and rooms form no circle."""
        order = list(room_table())
        for position, (name, may) in enumerate(room_table().items()):
            assert may <= set(order[:position]), name

    def test_nobody_but_the_local_boss_imports_the_local_boss(self) -> None:
        """It stands in for a service, and is reached as one."""
        assert [name for name, may in room_table().items() if "local_boss" in may] == []

    def test_modules_form_no_circle_even_inside_of_a_room(self) -> None:
        ours = set(sources())
        try:
            TopologicalSorter({name: targets & ours - {name} for name, targets in imports().items()}).prepare()
        except CycleError as error:
            pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


class TestLibraries:
    """Each outside service has its doors, and each library its rooms."""

    def test_every_library_is_imported_where_the_table_says_and_nowhere_else(self) -> None:
        stated = {
            library: set(code(users))
            for names, users, _ in tables(section(ARCHITECTURE, "Libraries"))[0]
            for library in code(names)
        }
        assert libraries_imported() == stated

    def test_every_imported_library_is_pinned(self) -> None:
        pins = set(re.findall(r"^([A-Za-z0-9._-]+)==", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE))
        distributions = packages_distributions()
        for library in {*libraries_imported(), *EVERYWHERE}:
            owners = {owner.lower().replace("_", "-").replace(".", "-") for owner in distributions[library]}
            assert owners & pins, f"{library} is imported, but requirements.txt has none of {owners}"

    def test_pipelines_reach_neither_files_nor_the_network(self) -> None:
        """A pipeline is arithmetic: arrays and parameters in, arrays out."""
        pure = PURE_LIBRARIES | PURE_STANDARD | {"box", "errors", "pipelines"}
        finding = {"beginning", "importlib", "importing", "wording"}
        for name, tree in sources().items():
            if room(name) == "pipelines":
                allowed = pure | finding if name in FINDERS else pure
                assert {room(target) for target in imports()[name]} <= allowed, name
                called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
                assert called.isdisjoint({"open", "exec", "eval", "__import__"}), name

    def test_nothing_is_unpickled(self) -> None:
        """A mask is written as a pickle, as it always was; none is read, for reading one can run any program.

        The one exception is named above.
        """
        for name, tree in sources().items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    unpickles = node.value.id in ("pickle", "cloudpickle") and node.attr in UNPICKLING
                    assert not unpickles or name == UNPICKLES, name
                if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    assert isinstance(node.value, ast.Constant), name
                    assert node.value.value is False, name
