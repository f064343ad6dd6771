"""What the local BOSS takes: uploads, forms, tokens.json, and its command lines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from nd_synapse.cli import boss as local_command
from nd_synapse.errors import UsageError
from nd_synapse.local_boss import codec, sample, schema, server, tokens
from nd_synapse.local_boss.boss import Boss
from tests.fuzz.cases import (
    ABSENT,
    counts,
    half,
    json_values,
    mutated_bytes,
    names,
    numbers,
    one_of_line,
    one_wrong,
    plain,
    sometimes,
    words,
)
from tests.fuzz.judge import Target, quietly, untold
from tests.fuzz.targets.jobs import bad_names, bad_numbers, flag
from tests.fuzz.targets.replies import SMALL, bad_buffers, buffers

# --- uploads and forms --------------------------------------------------------------------------------------------


def unpack_upload(body: bytes, folder: Path) -> None:
    assert codec.unpack(body, SMALL.shape, "uint8").shape == SMALL.shape


any_text = st.text(max_size=20) | names
whole = st.integers(-(2**31) + 1, 2**31 - 1)
public = sometimes(st.sampled_from([True, False, "true", "0"]))
FRAME: dict[str, st.SearchStrategy[Any]] = {
    "name": names,
    "description": sometimes(any_text),
    **{f"{axis}_{end}": whole | whole.map(str) for axis in "xyz" for end in ("start", "stop")},
    **{f"{axis}_voxel_size": st.floats(-1e9, 1e9) | st.integers(1, 99) for axis in "xyz"},
    "voxel_unit": st.sampled_from(schema.FRAME_UNITS),
}
COLLECTION: dict[str, st.SearchStrategy[Any]] = {"name": names, "description": sometimes(any_text), "public": public}
EXPERIMENT: dict[str, st.SearchStrategy[Any]] = {
    **COLLECTION,
    "coord_frame": names,
    "num_hierarchy_levels": sometimes(counts),
    "hierarchy_method": sometimes(st.sampled_from(["isotropic", "anisotropic"])),
    "num_time_samples": sometimes(counts),
    "time_step": sometimes(st.none() | counts),
    "time_step_unit": sometimes(st.none() | st.sampled_from(schema.TIME_UNITS)),
}
CHANNEL: dict[str, st.SearchStrategy[Any]] = {
    **COLLECTION,
    "type": st.sampled_from(["image", "annotation"]),
    "datatype": st.sampled_from(["uint8", "uint16", "uint32", "uint64"]),
    "base_resolution": sometimes(counts),
    "default_time_sample": sometimes(counts),
    "sources": sometimes(st.lists(names, max_size=2)),
    "related": sometimes(st.lists(names, max_size=2)),
}
FORMS = [
    (schema.COLLECTION, COLLECTION),
    (schema.COORDINATE_FRAME, FRAME),
    (schema.EXPERIMENT, EXPERIMENT),
    (schema.CHANNEL, CHANNEL),
]
bad_field = json_values | numbers | words | plain | st.just(ABSENT) | st.just("\udc80") | st.just("x" * 5000)


@st.composite
def filled_forms(draw: st.DrawFn) -> tuple[int, dict[str, Any], bool]:
    number = draw(st.integers(0, 3))
    _, right = FORMS[number]
    return number, draw(one_wrong(right, dict.fromkeys(right, bad_field))), draw(st.booleans())


def fill_form(case: tuple[int, dict[str, Any], bool], folder: Path) -> None:
    number, fields, update = case
    form, _ = FORMS[number]
    cleaned = (form.for_update if update else form.for_creation)(fields)
    json.dumps(cleaned, allow_nan=False)
    schema.check_name(fields.get("name"))


# --- tokens.json and fault plans ----------------------------------------------------------------------------------

scope = st.just("all") | st.lists(names | st.builds(lambda a, b: f"{a}/{b}", names, names), max_size=3)
RIGHTS: dict[str, st.SearchStrategy[Any]] = {
    "user": names,
    "role": sometimes(st.sampled_from(tokens.ROLES)),
    "read": sometimes(scope),
    "write": sometimes(scope),
}


@st.composite
def token_files(draw: st.DrawFn) -> bytes:
    """A tokens.json: tokens with rights, in half of the cases with one thing that is odd."""
    entries: Any = {"the-owner": {"user": "owner", "role": "admin"}}
    for token in draw(st.lists(names.map(lambda name: name.ljust(8, "0")), max_size=2)):
        entries[token] = draw(one_wrong(RIGHTS, {}))
    match draw(
        st.sampled_from(["right", "field", "right", "entry", "right", "roles", "right", "entries", "right", "bytes"])
    ):
        case "field":
            entries["an-odd-one"] = draw(one_wrong(RIGHTS, dict.fromkeys(RIGHTS, bad_field)))
        case "entry":
            entries["an-odd-one"] = draw(json_values)
        case "roles":
            entries["the-owner"]["role"] = "none"
        case "entries":
            entries = draw(json_values)
        case "bytes":
            return draw(mutated_bytes([json.dumps({"tokens": entries}).encode()]))
    return json.dumps({"tokens": entries}).encode()


def load_tokens(body: bytes, folder: Path) -> None:
    (folder / tokens.FILE).write_bytes(body)
    for rights in tokens.load(folder).values():
        assert rights.role in tokens.ROLES
        rights.may_read("a", "b")
    assert tokens.writing_token(folder)


# --- command lines ------------------------------------------------------------------------------------------------

triples = st.tuples(counts, counts, counts).map(lambda three: ",".join(map(str, three)))
bad_triples = st.sampled_from(["1,2", "0,1,1", "-1,1,1", "nan,1,1", "1,2,3,4", "1e999,1,1"]) | words
LINES: dict[str, tuple[dict[str, st.SearchStrategy[Any]], dict[str, st.SearchStrategy[Any]]]] = {
    "serve": (
        {
            "--data": st.just("data"),
            "--host": sometimes(st.just("127.0.0.1")),
            "--port": sometimes(st.integers(0, 65535).map(str)),
            "--strict": flag,
        },
        {
            "--data": st.just(ABSENT),
            "--port": bad_numbers,
            "--strict": words,
        },
    ),
    "ingest": (
        {
            "--data": st.just("data"),
            "--col": names,
            "--exp": names,
            "--chan": names,
            "--voxel-size-nm": triples,
            "--type": sometimes(st.just("image")),
            "--origin": sometimes(triples),
            "--public": flag,
            "file": st.just("stack.npy"),
        },
        {
            "--data": st.just(ABSENT),
            "--col": bad_names,
            "--exp": bad_names,
            "--chan": bad_names,
            "--voxel-size-nm": bad_triples,
            "--type": words | st.just("annotation"),
            "--origin": bad_triples | st.just("2147483647,0,0"),
            "file": words,
        },
    ),
    "sample": (
        {"--data": st.just("data"), "--shape": sometimes(triples), "--seed": sometimes(st.integers(0, 99).map(str))},
        {"--data": st.just(ABSENT), "--shape": bad_triples, "--seed": bad_numbers},
    ),
}


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(sorted(LINES)))
    right, wrong = LINES[command]
    return [draw(words) if draw(st.integers(0, 30)) == 0 else command, *draw(one_of_line(right, wrong))]


def run_command(line: list[str], folder: Path) -> None:
    """Run a command; what it would take long for is left out: it serves nothing, and draws no sample."""
    stack = folder / "stack.npy"
    if not stack.exists():
        np.save(stack, np.ones((2, 3, 4), np.uint8))
    shutil.rmtree(folder / "data", ignore_errors=True)
    paths = {"data": str(folder / "data"), "stack.npy": str(stack)}

    def written(boss: Boss, shape: Any, seed: int) -> None:
        raise SystemExit(0)

    with (
        untold(),
        mock.patch.object(server, "serve"),
        mock.patch.object(sample, "write_sample", written),
        mock.patch("logging.basicConfig"),
    ):
        try:
            assert local_command.main([paths.get(word, word) for word in line]) == 0
        except SystemExit as end:
            if end.code == 2:
                # a parser of Python's own has told what is wrong, on a page of usage
                raise UsageError("the command line", "its parser refuses it", "See --help") from end
            raise


TARGETS = [
    Target("uploads to the local BOSS", half(buffers, bad_buffers), unpack_upload, 3, results=0.3, places=5),
    Target("forms of the local BOSS", filled_forms(), fill_form, 3, results=0.4, places=8),
    Target("tokens.json", token_files(), load_tokens, 3, results=0.5, places=6),
    Target("local BOSS's command lines", lines(), quietly(run_command), 3, results=0.35, places=5),
]
