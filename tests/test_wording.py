"""Messages name options in commands, and arguments in programs."""

from __future__ import annotations

import pickle

import pytest

from nd_synapse import wording
from nd_synapse.errors import StorageError, UsageError, called


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Give --block-size 8,512,512", "Give block_size=(8, 512, 512)"),
        ("Give all of them one --block-size Z,Y,X", "Give all of them one block_size=(z, y, x)"),
        ("they need --memory 0.5, there are 2", "they need memory_bytes=536870912, there are 2"),
        ("fewer --cpus or --pulls, or more --memory", "fewer cpus or pulls, or more memory_bytes"),
        ("--channels presynaptic=A,postsynaptic=B", 'channels={"presynaptic": "A", "postsynaptic": "B"}'),
        ("with --overwrite, or with --out-exp NAME", "with overwrite=True, or with out_experiment"),
        ("Check --host (http:// for ...)", "Check host (http:// for ...)"),
        (
            "run `nd-synapse upload DIR --bucket B` or set --bucket",
            "run `nd-synapse upload DIR --bucket B` or set bucket",
        ),
        ("no option: a--b, ---, 1 -- 2", "no option: a--b, ---, 1 -- 2"),
    ],
)
def test_arguments_stand_where_options_were_but_not_in_commands_to_run(text: str, expected: str) -> None:
    assert wording.as_arguments(text, {}) == expected


@called(anywhere=True, host="host in the file")
def inner() -> None:
    raise StorageError("--path a", "no --host", "Give another --path or --exp")


@called(exp="exp")
def outer() -> None:
    inner()


def test_the_names_of_an_outer_function_are_added_to_those_of_an_inner_one() -> None:
    with pytest.raises(StorageError) as caught:
        outer()
    assert str(caught.value) == "path a: no host in the file. Give another path or exp."
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_in_a_command_options_stay_but_for_what_a_file_has() -> None:
    with wording.command(), pytest.raises(StorageError) as caught:
        outer()
    assert str(caught.value) == "--path a: no host in the file. Give another --path or --exp."
    assert not wording.in_command()
    with pytest.raises(ValueError, match="--x"), called():
        raise ValueError("--x is of another tree")


def test_a_function_with_names_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(outer)) is outer
    with pytest.raises(UsageError, match=r"^a: b"), called():
        raise UsageError("a", "b", "c")
