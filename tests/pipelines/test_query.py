"""The query of the pipeline probabilistic: what it may say, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nd_synapse.errors import UnknownNameError, UsageError
from nd_synapse.pipeline import registry
from pipelines.probabilistic import Probabilistic
from pipelines.query import Query, parse_query
from tests.pipelines.variants import VOXEL_SIZE_NM


def test_roles_follow_from_the_query() -> None:
    pipeline = registry.build("probabilistic", {"presynaptic": "Synapsin:2,VGlut1", "postsynaptic": "PSD95:3"})
    assert [role.name for role in pipeline.roles] == ["presynaptic", "presynaptic2", "postsynaptic"]
    found = pipeline.choose(["synapsin_1", "PSD95", "GluN1", "VGLUT1", "VGLUT1_old"], {})
    assert found == {"presynaptic": "synapsin_1", "presynaptic2": "VGLUT1", "postsynaptic": "PSD95"}
    with pytest.raises(UnknownNameError, match=r"presynaptic2 channel \(the query's VGlut1"):
        pipeline.choose(["synapsin_1", "PSD95"], {})


def test_a_json_query_says_the_same_as_parameters() -> None:
    text = json.dumps({"presynaptic": "a:3, b", "postsynaptic": "c:1", "punctum": 4, "threshold": 0.7})
    given_as_json = Probabilistic(query=text, min_voxels=5)
    as_parameters = Probabilistic("a:3,b:2", "c:1", 4, 0.7)
    assert given_as_json.requested == as_parameters.requested
    assert given_as_json.roles == as_parameters.roles
    assert given_as_json.halo(VOXEL_SIZE_NM) == as_parameters.halo(VOXEL_SIZE_NM) == (2, 8, 8)


def test_a_side_that_a_json_query_does_not_name_has_no_channel() -> None:
    requested = Probabilistic(query='{"postsynaptic": "gephyrin:3"}').requested
    assert (requested.presynaptic, [marker.channel for marker in requested.postsynaptic]) == ((), ["gephyrin"])
    assert (requested.punctum, requested.threshold) == (2, 0.9)


@pytest.mark.parametrize(
    ("given_parameters", "words"),
    [
        ({"presynaptic": "synapsin:4"}, "presynaptic 'synapsin:4': a punctum spans 1 to 3 slices, not '4'"),
        ({"presynaptic": "synapsin:"}, "not ''"),
        ({"presynaptic": "a:2:2"}, "not '2:2'"),
        ({"presynaptic": "a,,b"}, "presynaptic '': it does not start with the name"),
        ({"postsynaptic": ":2"}, "postsynaptic ':2': it does not start with the name"),
        ({"presynaptic": ",".join("abcdefghi")}, "9 channels: a side may have 8"),
        ({"presynaptic": "a" * 20_000}, "that is not a list of channels"),
        ({"presynaptic": "", "postsynaptic": " "}, "it names no channel"),
        ({"punctum": "3"}, "punctum 3: it is not an even number of pixels from 2 to 64"),
        ({"punctum": "1000"}, "from 2 to 64"),
        ({"punctum": "0"}, "the smallest value is 2"),
        ({"threshold": "1.5"}, "threshold 1.5: it is not a probability"),
        ({"threshold": "-1"}, "the smallest value is 0"),
        ({"query": '{"presynaptic": "a"}', "punctum": "4", "threshold": "0.5"}, "together with punctum, threshold"),
        ({"query": "synapsin"}, "a query as JSON: it cannot be read"),
        ({"query": "[" * 9000}, "cannot be read"),
        ({"query": '{"threshold": ' + "9" * 5000 + "}"}, "cannot be read"),
        ({"query": "[1]"}, "[1] is not an object"),
        ({"query": "{}"}, "it names no channel"),
        ({"query": '{"presynaptik": "a"}'}, "field 'presynaptik' of a query: the fields are presynaptic, postsynaptic"),
        ({"query": '{"presynaptic": "a", "' + "x" * 4000 + '": 1}'}, "the fields are"),
        ({"query": '{"presynaptic": ["a"]}'}, "field 'presynaptic' of a query: [\"a\"] is not a text"),
        ({"query": '{"presynaptic": "a", "presynaptic": "b"}'}, "given more than once"),
        ({"query": '{"presynaptic": "a", "punctum": true}'}, "true is not a whole number"),
        ({"query": '{"presynaptic": "a", "punctum": ' + "9" * 4000 + "}"}, "from 2 to 64"),
        ({"query": '{"presynaptic": "a", "threshold": "0.9"}'}, '"0.9" is not a number'),
        ({"query": '{"presynaptic": "a", "threshold": NaN}'}, "it is not a probability"),
        ({"query": '{"presynaptic": "' + "a" * 20_000 + '"}'}, "it may have 10000"),
        ({"qury": "{}"}, "there is no such parameter; the pipeline has query"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_an_invalid_query_is_refused(given_parameters: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        registry.build("probabilistic", given_parameters)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


KEYS = st.sampled_from(["presynaptic", "postsynaptic", "punctum", "threshold", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
OBJECTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner))


@given(st.text(max_size=60) | OBJECTS.map(json.dumps))
def test_for_any_text_a_query_is_read_or_refused(text: str) -> None:
    try:
        query = parse_query(text, Query(Probabilistic().requested.presynaptic, (), 2, 0.9))
    except UsageError:
        return
    assert query.base
    assert 0 <= query.threshold <= 1
