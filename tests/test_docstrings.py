"""What users import says what it takes, gives and raises."""

from __future__ import annotations

import importlib
import inspect
from argparse import ArgumentParser
from typing import Any, Protocol

import pytest
from numpydoc.validate import validate

MODULES = (
    "NeuroDataResource",
    "driver",
    "nd_boss",
    "nd_multicore",
    "nd_synapse.errors",
    "nd_synapse.geometry",
    "nd_synapse.pipeline.contract",
    "nd_synapse.pipeline.roles",
    "pymeda_driver",
)
WANTED = {"GL08", "PR01", "PR02", "PR03", "PR04", "RT01", "YD01"}


def _documented() -> list[str]:
    """Names of all public functions, classes and methods with parameters of our own."""
    names = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) and issubclass(thing, Exception | ArgumentParser | Protocol):
                continue  # built by us alone, or as argparse says, or by whoever keeps the contract
            if inspect.isclass(thing) or (inspect.isfunction(thing) and inspect.signature(thing).parameters):
                names.append(f"{module_name}.{name}")
            if inspect.isclass(thing):
                names += [f"{module_name}.{name}.{method}" for method in _methods(thing)]
    return names


def _methods(thing: type[Any]) -> list[str]:
    """Methods of a class that take something; what takes nothing may be told in a line."""
    return [
        name
        for name, method in vars(thing).items()
        if inspect.isfunction(method) and not name.startswith("_") and len(inspect.signature(method).parameters) > 1
    ]


@pytest.mark.parametrize("name", _documented())
def test_public_names_document_parameters_and_returns(name: str) -> None:
    found = [(code, text) for code, text in validate(name)["errors"] if code in WANTED]
    assert not found
