"""What follows from an export's options: which sets of graphs, where they are written, which are published."""

from __future__ import annotations

import pytest

from dynbert.manifest import Precision, Target
from dynbert_export.job import Job
from dynbert_export.options.config import make_config
from dynbert_export.variants import FP32_SET, list_variants


@pytest.fixture
def make_job(traced_embedder, tmp_path):
    """Make the job of a tiny embedder; what the options do not decide is left out."""

    def make(**options):
        checkpoint = traced_embedder.checkpoint
        config = make_config({"model": "m", "output": tmp_path / "out", **options})
        variants = list_variants((), checkpoint.config.num_hidden_layers)
        return Job(config, checkpoint, None, None, None, variants, bundle=tmp_path / "bundle", work=tmp_path / "work")

    return make


@pytest.mark.parametrize(
    ("options", "targets", "covered"),
    [
        ({}, {"int8": Target.VNNI}, {}),
        ({"target": "avx2"}, {"int8": Target.AVX2}, {}),
        ({"target": ["amx", "vnni"]}, {"int8": Target.AMX}, {Target.VNNI: Target.AMX}),
        ({"target": ["avx2", "arm64"]}, {"int8": Target.AVX2, "int8-arm64": Target.ARM64}, {}),
        ({"target": ["auto", "vnni", "avx2"]}, {"int8": Target.VNNI, "int8-avx2": Target.AVX2}, {}),
        ({"quantize": "none"}, {}, {}),
        ({"precision": "fp32"}, {}, {}),
    ],
)
def test_targets_of_one_number_range_share_a_set(make_job, options, targets, covered):
    job = make_job(**options)
    assert {graph_set.label: graph_set.target for graph_set in job.int8_sets} == targets
    assert job.covered_targets == covered


@pytest.mark.parametrize(
    ("precision", "in_bundle"), [("int8", {Precision.INT8}), ("fp32", {Precision.FP32}), ("both", set(Precision))]
)
def test_graphs_that_are_not_asked_for_are_written_elsewhere(make_job, precision, in_bundle):
    job = make_job(precision=precision)
    assert {each for each in Precision if job.folder(each) == job.bundle} == in_bundle
    assert {each for each in Precision if job.folder(each) == job.work} == set(Precision) - in_bundle


def test_published_are_profile_by_profile_with_int8_first(make_job, tmp_path):
    job = make_job(precision="both", target=["vnni", "avx2"])
    graphs = {
        graph_set: {variant.name: tmp_path / variant.file_name(graph_set) for variant in job.variants}
        for graph_set in (FP32_SET, *job.int8_sets)
    }
    labels = ("int8", "int8-avx2", "fp32")
    assert [item.path.name for item in job.list_published(graphs)] == [
        f"{name}.{label}.onnx" for name in ("full", "anytime") for label in labels
    ]
    assert all(item.path == graphs[item.graph_set][item.variant.name] for item in job.list_published(graphs))


def test_spec_is_the_checkpoint_s(make_job, traced_embedder):
    assert make_job().spec == traced_embedder.spec
    assert make_job().mask_token_id is None
