"""The predecessor's corpus, where the owner has it: every figure that is known of it.

`KERNELPILOT_PR_BUNDLES` names the folder or archive; without it these skip.
"""

import os
from pathlib import Path

import pytest

from knowledge_store.sources import bundles
from knowledge_store.truth import Truth

NAMED = os.environ.get("KERNELPILOT_PR_BUNDLES", "")
MISSING = {
    "NVIDIA/cutlass": [2185],
    "NVIDIA/TensorRT-LLM": [12440, 12470, 12612, 12937, 13379, 13505, 13542, 13652],
    "sgl-project/sglang": [23001],
}
REPOS = {
    "vllm-project/vllm": 1069,
    "flashinfer-ai/flashinfer": 779,
    "sgl-project/sglang": 777,
    "NVIDIA/cccl": 228,
    "tile-ai/tilelang": 195,
    "NVIDIA/TensorRT-LLM": 180,
    "Dao-AILab/flash-attention": 146,
    "pytorch/pytorch": 75,
    "NVIDIA/cutlass": 64,
    "triton-lang/triton": 57,
    "Dao-AILab/quack": 49,
    "deepseek-ai/DeepGEMM": 27,
    "HazyResearch/ThunderKittens": 13,
    "deepseek-ai/TileKernels": 1,
}

pytestmark = [
    pytest.mark.skipif(not NAMED, reason="KERNELPILOT_PR_BUNDLES names no corpus"),
    pytest.mark.processes,
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    with Truth(folder) as truth:
        report = bundles.ingest(truth, Path(NAMED))
        yield truth, report


def test_every_bundle_is_taken_in_and_the_missing_diffs_are_named(store):
    truth, report = store
    expected = sorted(f"{repo}#{number}" for repo, many in MISSING.items() for number in many)
    assert (report.total, report.problems, report.stopped) == (3660, [], "")
    assert sorted(report.missing) == expected
    assert sorted(truth.counts().missing) == expected


def test_counts_are_those_that_other_parsers_gave(store):
    counts = store[0].counts()
    assert (counts.pulls, counts.diffs, counts.unparsed) == (3660, 3650, ())
    assert (counts.files, counts.hunks) == (29_478, 87_026)
    assert (counts.added, counts.removed) == (2_216_700, 585_499)
    assert counts.odd_paths == counts.unknown_licences == 0


def test_every_repository_is_whole_and_under_its_upstream_name(store):
    found: dict[str, int] = {}
    for pull in store[0].pulls():
        found[pull.repo] = found.get(pull.repo, 0) + 1
    assert found == REPOS


def test_a_second_reading_changes_nothing(store):
    truth, _ = store
    revision = truth.revision
    report = bundles.ingest(truth, Path(NAMED))
    assert (report.changed, report.unchanged) == (0, 3660)
    assert truth.revision == revision
    assert list(truth.verify()) == []
