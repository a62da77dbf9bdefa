import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.errors import SourceError
from knowledge_store.tags import (
    canonical,
    expand,
    group_of,
    read_vocabulary,
    tags_of,
    vocabulary,
)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("tcgen05.fence::before_thread_sync", "tcgen05"),
        ("the UMMA descriptor", "tcgen05"),
        ("wgmma.mma_async.sync.aligned.m64n64k16", "wgmma"),
        ("cp.async.bulk.tensor.2d.shared::cluster", "tma"),
        ("cp.async.cg.shared.global [%0], [%1], 16;", "cp-async"),
        ("__shfl_xor_sync(0xffffffff, x, 16)", "shuffle"),
        ("float v = __ldg(p);", "ldg"),
        ("mbarrier.try_wait.parity", "mbarrier"),
        ('asm volatile("griddepcontrol.wait;")', "griddepcontrol"),
        ("compile for sm_90a", "sm90"),
        ("on a B200", "sm100"),
        ("int8_scaled_mm", "int8-scaled-mm"),
        ("W8A8 GEMM", "int8-scaled-mm"),
        ("fixes bank conflicts in smem", "bank-conflict"),
        ("registers spill to local memory", "register-spill"),
        ("WarpSpecialized kernel schedule", "warp-specialization"),
        ("split-K reduction", "split-k"),
        ("it hangs on the second call", "deadlock"),
        ("float8_e4m3fn", "fp8"),
        ("__launch_bounds__(256, 2)", "launch-bounds"),
        ("GatedDeltaNet, gated delta rule", "linear-attention"),
    ],
)
def test_words_show_a_tag(text, tag):
    assert tag in tags_of(text)


@pytest.mark.parametrize("text", ["", "a = b + c", "return value", "the format of a matter"])
def test_without_evidence_there_is_no_tag(text):
    assert tags_of(text) == ()


def test_no_architecture_is_assumed():
    tags = tags_of("a gemm in triton with a better error message")
    assert "gemm" in tags
    assert [tag for tag in tags if group_of(tag) == "architecture"] == []


def test_a_path_is_evidence():
    assert set(tags_of("x", "csrc/sm100/mla.cu")) == {"cuda", "mla", "sm100"}


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("UMMA fence", ("tcgen05",)),
        ("tcgen05 fence", ()),
        ("programmatic dependent launch", ("griddepcontrol",)),
        ("2CTA kernel on B200", ("2sm", "sm100")),
        ("E2M1 with UE8M0", ("block scale", "nvfp4")),
        ("nothing of that kind", ()),
    ],
)
def test_aliases_are_expanded_inside_a_query(query, terms):
    assert expand(query) == terms


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("UMMA", "tcgen05"),
        ("tcgen05", "tcgen05"),
        ("H200", "sm90"),
        ("cp.async.bulk", "tma"),
        ("warp specialization", "warp-specialization"),
        ("Something-New", "something-new"),
    ],
)
def test_a_name_means_a_tag(name, tag):
    assert canonical(name) == tag


@given(st.text())
def test_any_text_has_sorted_tags_of_the_vocabulary(text):
    tags = tags_of(text)
    assert list(tags) == sorted(set(tags))
    assert set(tags) <= set(vocabulary().groups)
    assert set(expand(text)) <= set(vocabulary().spelled.values())


@given(st.sampled_from(sorted(vocabulary().spelled)))
def test_every_tag_is_shown_by_how_code_spells_it(tag):
    assert tag in tags_of(vocabulary().spelled[tag])
    assert canonical(vocabulary().spelled[tag]) == tag
    assert group_of(tag)


@pytest.mark.parametrize(
    "content",
    ["- a list", "group: [a]", "group: {tag: []}", "group: {tag: 5}", "a: {x: [t], y: [T]}", "{"],
)
def test_a_malformed_vocabulary_is_said(tmp_path, content):
    path = tmp_path / "tags.yaml"
    path.write_text(content)
    with pytest.raises(SourceError, match=r"tags\.yaml"):
        read_vocabulary(path)


def test_another_vocabulary_has_another_digest(tmp_path):
    path = tmp_path / "tags.yaml"
    path.write_text("symptom: {slow: [slow, too slow]}")
    words = read_vocabulary(path)
    assert words.found("it is TOO-slow") == {"slow"}
    assert words.digest != vocabulary().digest
