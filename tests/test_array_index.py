"""A child of an array finds its number with any scheduler, or is refused: no two children may do the same part."""

from __future__ import annotations

import pytest

from nd_synapse.cli.array_index import array_index
from nd_synapse.errors import UsageError

SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP")
SGE = ("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE")


def given(names: tuple[str, ...], *values: object) -> dict[str, str]:
    return {name: str(value) for name, value in zip(names, values, strict=False)}


@pytest.mark.parametrize(
    ("environ", "index"),
    [
        pytest.param({}, None, id="no array"),
        pytest.param({"AWS_BATCH_JOB_ARRAY_INDEX": "0"}, 0, id="batch"),
        pytest.param({"AWS_BATCH_JOB_ARRAY_INDEX": "6"}, 6, id="batch, the last"),
        pytest.param({"PBS_ARRAY_INDEX": "3"}, 3, id="pbs"),
        pytest.param(given(SLURM, 3), 3, id="slurm"),
        pytest.param(given(SLURM, 3, 0, 6, 1), 3, id="slurm from 0"),
        pytest.param(given(SLURM, 7, 1, 7, 1), 6, id="slurm from 1"),
        pytest.param(given(SLURM, 110, 100, 112, 2), 5, id="slurm in steps"),
        pytest.param(given(SGE, 1), 0, id="sge counts from 1"),
        pytest.param(given(SGE, 7, 1, 7, 1), 6, id="sge"),
        pytest.param(given(SGE, 15, 11, 17, 1), 4, id="sge from 11"),
        pytest.param(dict.fromkeys(SGE, "undefined"), None, id="sge without an array"),
        pytest.param(dict.fromkeys(SGE, "undefined") | given(SLURM, 2, 0, 6, 1), 2, id="slurm within sge"),
        pytest.param(given(SGE, 3) | given(SLURM, 2), 2, id="two that agree"),
    ],
)
def test_the_number_of_a_child_counts_from_0(environ: dict[str, str], index: int | None) -> None:
    assert array_index(environ, 7) == index


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        pytest.param(given(SGE, 2) | given(SLURM, 2), "SLURM_ARRAY_TASK_ID=2 .* SGE_TASK_ID=2", id="contradiction"),
        pytest.param({"PBS_ARRAY_INDEX": "1", "AWS_BATCH_JOB_ARRAY_INDEX": "0"}, "contradict", id="batch and pbs"),
        pytest.param(given(SLURM, 4, 4, 5, 1), "numbers 4 to 5 .* --shards is 7", id="some of an array again"),
        pytest.param(given(SGE, 4, 4, 4, 1), "numbers 4 to 4", id="one of an array again"),
        pytest.param(given(SLURM, 0, 0, 7, 1), "numbers 0 to 7", id="an array of more"),
        pytest.param({"SLURM_ARRAY_TASK_ID": "two"}, "whole number", id="no number"),
        pytest.param({"AWS_BATCH_JOB_ARRAY_INDEX": "-1"}, "whole number", id="negative"),
    ],
)
def test_a_number_that_is_not_certain_is_refused(environ: dict[str, str], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        array_index(environ, 7)
