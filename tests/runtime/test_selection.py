"""Which graph answers a request, on which machine."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dynbert.errors import InputError, LengthConfigError, ProfileError
from dynbert.lengths import LengthConfig
from dynbert.manifest import (
    SCHEMA_VERSION,
    Agreement,
    Embeddings,
    GraphEntry,
    Manifest,
    ModelInfo,
    Parity,
    Precision,
    ProfileEntry,
    Target,
    Task,
)
from dynbert.selection import (
    GraphRequest,
    bind_request,
    explain_selection,
    is_exact_on,
    make_request,
    parse_precision,
    profile_names,
    select_graph,
    select_graphs,
)

INT8, FP32 = Precision.INT8, Precision.FP32
PARITY = Parity(inputs=1, near_ties=0, max_abs_difference=0.0, selection_agreement=1.0)
AGREEMENT = Agreement(inputs=1, max_abs_difference=0.0, metric="cosine", value=1.0)


def graph(profile, precision, target=None):
    name = f"{profile}.{precision.value}{f'-{target.value}' if target else ''}.onnx"
    return GraphEntry(
        profile=profile,
        precision=precision,
        target=target,
        file=name,
        sha256="0" * 64,
        bytes=1,
        parity=PARITY if precision is FP32 else None,
        agreement=AGREEMENT if precision is INT8 else None,
    )


def manifest(*graphs, profiles=("full", "fast", "anytime")):
    return Manifest(
        schema_version=SCHEMA_VERSION,
        minimum_runtime="0",
        created_by={},
        cpu="",
        model=ModelInfo(
            id="m",
            task=Task.FEATURE_EXTRACTION,
            architecture="BertModel",
            num_layers=2,
            hidden_size=4,
            vocab_size=10,
            type_vocab_size=2,
            max_length=16,
            pad_token_id=0,
            always_keep_cls_token=True,
            embeddings=Embeddings.TOKEN_STATES,
        ),
        profiles=tuple(ProfileEntry(name=name, length_config=None) for name in profiles),
        graphs=graphs,
        files=(),
    )


ALL = manifest(*(graph(name, INT8, Target.VNNI) for name in ("full", "fast", "anytime")), graph("full", FP32))


def test_make_request_takes_full_when_nothing_is_asked():
    assert make_request(ALL) == GraphRequest("full")


def test_make_request_takes_anytime_when_lengths_are_given():
    assert make_request(ALL, length_config="0.5,0.25") == GraphRequest("anytime", LengthConfig((0.5, 0.25)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"profile": "slow"}, ProfileError, "profile must be one of full, fast, got 'slow'"),
        ({"profile": ""}, ProfileError, "profile must be one of full, fast, got ''"),
        ({"profile": "anytime"}, ProfileError, "got 'anytime'. Pass length_config= to run the anytime graph"),
        ({"profile": "fast", "length_config": "5,4"}, InputError, "a profile or a length config, got both"),
        ({"length_config": "5,4,3"}, LengthConfigError, "must have 2 entries, one a layer, got 3"),
        ({"length_config": (17, 4)}, LengthConfigError, "at most the maximum length of 16 tokens, got 17"),
        ({"length_config": "4,5"}, LengthConfigError, "must not increase"),
    ],
)
def test_make_request_names_rule_and_value_when_it_cannot_be_met(arguments, error, message):
    with pytest.raises(error, match=message):
        make_request(ALL, **arguments)


def test_make_request_names_the_profiles_when_there_is_no_anytime_graph():
    without = manifest(graph("full", FP32), graph("fast", FP32))
    with pytest.raises(ProfileError, match=r"must have an anytime graph .* Use one of its profiles: full, fast"):
        make_request(without, length_config="5,4")


def test_profile_names_leaves_out_anytime_and_profiles_without_graphs():
    assert profile_names(ALL) == ("full", "fast")
    assert profile_names(manifest(graph("fast", FP32))) == ("fast",)


@pytest.mark.parametrize(
    ("graphs", "machine", "target", "precision"),
    [
        # the machine's own target, then a kin that computes the same
        ([(INT8, Target.VNNI), (INT8, Target.AMX), (FP32, None)], Target.AMX, Target.AMX, INT8),
        ([(INT8, Target.VNNI), (INT8, Target.AVX2), (FP32, None)], Target.AMX, Target.VNNI, INT8),
        ([(INT8, Target.VNNI), (INT8, Target.AVX2), (FP32, None)], Target.AVX2, Target.AVX2, INT8),
        ([(INT8, Target.AVX2), (FP32, None)], Target.VNNI, Target.AVX2, INT8),
        ([(INT8, Target.VNNI), (FP32, None)], Target.ARM64, Target.VNNI, INT8),
        # a graph that may saturate gives way to fp32
        ([(INT8, Target.VNNI), (FP32, None)], Target.AVX2, None, FP32),
        ([(INT8, Target.AMX), (FP32, None)], None, None, FP32),
        # and every INT8 graph does on a machine that has no instructions for it
        ([(INT8, Target.AVX2), (FP32, None)], None, None, FP32),
        ([(INT8, Target.VNNI), (INT8, Target.AVX2)], None, Target.AVX2, INT8),
        # unless there is nothing else
        ([(INT8, Target.VNNI)], Target.AVX2, Target.VNNI, INT8),
        ([(FP32, None)], Target.VNNI, None, FP32),
    ],
)
def test_select_graph_takes_the_fastest_exact_graph_when_no_precision_is_stated(graphs, machine, target, precision):
    bundle = manifest(*(graph("full", *item) for item in graphs))
    chosen = select_graph(bundle, GraphRequest("full"), precision=None, machine=machine)
    assert (chosen.target, chosen.precision) == (target, precision)


@pytest.mark.parametrize("machine", [*Target, None])
@pytest.mark.parametrize("precision", list(Precision))
def test_select_graph_keeps_a_stated_precision_on_every_machine(machine, precision):
    assert select_graph(ALL, GraphRequest("full"), precision=precision, machine=machine).precision is precision


def test_select_graph_names_precisions_when_the_profile_lacks_the_stated_one():
    with pytest.raises(ProfileError, match="precision must be one of int8 for profile 'fast', got fp32"):
        select_graph(ALL, GraphRequest("fast"), precision=FP32, machine=Target.VNNI)


@pytest.mark.parametrize(
    ("target", "machine", "is_exact"),
    [
        (None, None, True),
        (Target.VNNI, Target.AMX, True),
        (Target.VNNI, Target.AVX2, False),
        (Target.AMX, None, False),
        (Target.AVX2, None, True),
        (Target.VNNI, Target.ARM64, True),
    ],
)
def test_is_exact_on_knows_where_int8_saturates(target, machine, is_exact):
    assert is_exact_on(graph("full", INT8 if target else FP32, target), machine) is is_exact


_FULL_RANGE = (Target.VNNI, Target.AMX, Target.ARM64)
_SETS = [
    (),
    *[(target,) for target in Target],
    *[(target, Target.AVX2) for target in _FULL_RANGE],
]


def _expected(targets, machine, *, has_fp32):
    """Return what must run, said another way than in the code under test: the target, or None for fp32."""
    full = next((target for target in targets if target in _FULL_RANGE), None)
    wants_full = machine in _FULL_RANGE
    if machine is None and has_fp32:
        return None
    if wants_full and full:
        return full
    if Target.AVX2 in targets:
        return Target.AVX2
    return None if has_fp32 else full


@pytest.mark.parametrize("machine", [*Target, None])
@pytest.mark.parametrize("has_fp32", [True, False])
@pytest.mark.parametrize("targets", _SETS)
def test_every_machine_gets_its_graphs_of_every_bundle(targets, has_fp32, machine):
    if not targets and not has_fp32:
        return
    bundle = manifest(
        *(graph(profile, INT8, target) for target in targets for profile in ("full", "anytime")),
        *(graph(profile, FP32) for profile in ("full", "anytime") if has_fp32),
    )
    wanted = _expected(targets, machine, has_fp32=has_fp32)
    chosen = select_graphs(bundle, machine=machine)
    assert {name: entry.target for name, entry in chosen.items()} == {"full": wanted, "anytime": wanted}
    notice = explain_selection(bundle, chosen["full"], precision=None, machine=machine)
    # fp32 is no surprise where the bundle has nothing else, INT8 is none where the machine is quick and exact at it.
    exact_targets = () if machine is None else (Target.AVX2, *(_FULL_RANGE if machine in _FULL_RANGE else ()))
    unsurprising = exact_targets if targets else (None,)
    assert (notice is None) == (wanted in unsurprising)
    if wanted is None:
        assert explain_selection(bundle, chosen["full"], precision=FP32, machine=machine) is None


@pytest.mark.parametrize(
    ("targets", "has_fp32", "machine", "message"),
    [
        ([Target.VNNI], False, Target.AVX2, "full.int8-vnni.onnx was made for vnni; this CPU, with avx2, may saturate"),
        ([Target.VNNI], False, None, "was made for vnni; this CPU, without INT8 instructions, may saturate"),
        ([Target.AVX2], False, None, "is INT8, which this CPU, without INT8 .* more slowly than fp32. Export with --p"),
        ([Target.VNNI], True, Target.AVX2, "INT8 graphs are for vnni; this CPU, with avx2, runs fp32 .* --target avx2"),
        ([Target.AMX, Target.AVX2], True, None, "are for amx, avx2; this CPU, without .* INT8 would be no faster"),
    ],
)
def test_explain_selection_says_what_is_wrong_and_what_to_do(targets, has_fp32, machine, message):
    bundle = manifest(*(graph("full", INT8, target) for target in targets), *([graph("full", FP32)] * has_fp32))
    [chosen] = select_graphs(bundle, machine=machine).values()
    assert re.search(message, explain_selection(bundle, chosen, precision=None, machine=machine))


COUNTS, FRACTIONS = LengthConfig((5, 4)), LengthConfig((0.5, 0.25))
FROZEN = {"full": None, "few": COUNTS.lengths, "half": FRACTIONS.lengths, "short": None, "anytime": None}
LAYERS = {"few": (1,), "short": (0,)}
SPEEDS = replace(
    manifest(*(graph(name, FP32) for name in FROZEN), profiles=tuple(FROZEN)),
    profiles=tuple(
        ProfileEntry(name=name, length_config=lengths, layer_config=LAYERS.get(name))
        for name, lengths in FROZEN.items()
    ),
)


@pytest.mark.parametrize(
    ("asked", "config", "may_pad", "fed"),
    [
        ({}, None, True, None),
        ({"profile": "few"}, COUNTS, True, None),
        ({"profile": "half"}, FRACTIONS, False, None),
        ({"profile": "short"}, None, True, None),  # leaves out layers alone
        ({"length_config": "5,4"}, COUNTS, True, [3, 3]),  # clipped to the input
        ({"length_config": "0.5,0.25"}, FRACTIONS, False, [2, 2]),  # CLS and one other stay
    ],
)
def test_bound_request_knows_its_graph_and_lengths(asked, config, may_pad, fed):
    bound = bind_request(SPEEDS, make_request(SPEEDS, **asked), precision=None, machine=Target.VNNI)
    assert bound.graph.profile == ("anytime" if fed else asked.get("profile", "full"))
    assert (bound.model, bound.length_config, bound.may_pad) == (SPEEDS.model, config, may_pad)
    feed = bound.feed({"input_ids": [[1, 2, 3]]})
    assert feed["input_ids"].tolist() == [[1, 2, 3]]
    assert {name: array.tolist() for name, array in feed.items() if name == "length_config"} == (
        {} if fed is None else {"length_config": fed}
    )


def test_bound_request_feeds_the_lengths_of_each_input():
    request = make_request(SPEEDS, length_config=iter([0.5, 0.5]))
    bound = bind_request(SPEEDS, request, precision=None, machine=None)
    for tokens in (4, 8, 9):
        fed = bound.feed({"input_ids": np.ones((2, tokens), int)})["length_config"]
        assert (fed.dtype, fed.tolist()) == (np.int64, [-(-tokens // 2)] * 2)


def test_bound_request_refuses_wrong_arrays():
    bound = bind_request(SPEEDS, make_request(SPEEDS), precision=None, machine=None)
    with pytest.raises(InputError, match="input_ids must be between 0 and 9, got 99"):
        bound.feed({"input_ids": [[99]]})


def test_bind_request_names_the_precisions_when_there_is_no_such_graph():
    with pytest.raises(ProfileError, match="precision must be one of fp32 for profile 'few', got int8"):
        bind_request(SPEEDS, GraphRequest("few"), precision=INT8, machine=None)


@pytest.mark.parametrize(("given", "wanted"), [(None, None), ("int8", INT8), ("fp32", FP32), (INT8, INT8)])
def test_parse_precision_reads_names(given, wanted):
    assert parse_precision(given) is wanted


def test_parse_precision_names_the_vocabulary_when_unknown():
    with pytest.raises(InputError, match="precision must be one of int8, fp32, got 'int4'"):
        parse_precision("int4")


@given(
    st.lists(st.tuples(st.sampled_from(["full", "fast"]), st.sampled_from([*Target, None])), min_size=1, unique=True),
    st.sampled_from(["full", "fast"]),
    st.sampled_from([*Target, None]),
)
def test_select_graph_never_saturates_when_an_exact_graph_exists(graphs, profile, machine):
    bundle = manifest(*(graph(name, INT8 if target else FP32, target) for name, target in graphs))
    candidates = [entry for entry in bundle.graphs if entry.profile == profile]
    if not candidates:
        return
    chosen = select_graph(bundle, GraphRequest(profile), precision=None, machine=machine)
    assert chosen in candidates
    assert is_exact_on(chosen, machine) == any(is_exact_on(entry, machine) for entry in candidates)
