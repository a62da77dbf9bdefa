import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store import own
from knowledge_store.diffs import parse
from knowledge_store.errors import SourceError
from knowledge_store.truth import Truth


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


def test_the_shipped_recipes_are_a_corpus(truth):
    report = own.ingest(truth)
    families = [path for path in own.RECIPES.glob("*/*") if (path / "recipes.yaml").is_file()]
    assert report.changed >= len(families) >= 20
    assert (report.problems, report.contained) == ([], {})
    counts = truth.counts()
    assert (counts.pulls, counts.missing, counts.unparsed) == (report.changed, (), ())
    assert {pull.licence for pull in truth.pulls()} == {"Apache-2.0"}
    titles = {pull.title for pull in truth.pulls()}
    assert "Recipe: softmax in cpp" in titles


def test_recipes_that_did_not_change_cost_nothing(truth):
    first = own.ingest(truth)
    again = own.ingest(truth)
    assert (again.changed, again.unchanged) == (0, first.changed)


def test_a_recipe_keeps_its_number_beside_new_ones(truth, tmp_path):
    recipe = tmp_path / "recipes" / "cuda" / "softmax"
    recipe.mkdir(parents=True)
    (recipe / "plain.cu.j2").write_text("__global__ void softmax() {}\n")
    (recipe / "notes.md").write_text("One block a row.\n")
    own.ingest(truth, tmp_path / "recipes")
    (key,) = truth.keys()
    assert truth.pull(key).body == "One block a row.\n"
    other = tmp_path / "recipes" / "cuda" / "norm"
    other.mkdir()
    (other / "plain.cu.j2").write_text("__global__ void norm() {}\n")
    (other / "link.md").symlink_to("/etc/passwd")
    report = own.ingest(truth, tmp_path / "recipes")
    assert (report.changed, report.unchanged, report.contained) == (1, 1, {"a link": 1})
    assert key in list(truth.keys())


def test_a_folder_that_is_not_there_is_said(truth, tmp_path):
    with pytest.raises(SourceError, match="folder of recipes"):
        own.ingest(truth, tmp_path / "nowhere")


@given(st.binary(max_size=200))
def test_an_added_file_is_a_diff_that_says_its_content(content):
    parsed = parse("a/b#1", own.added_file("cuda/x/y.cu", content))
    assert parsed.problems == ()
    (file,) = parsed.files
    assert (file.path, file.status) == ("cuda/x/y.cu", "added")
    lines = [line for hunk in parsed.hunks for line in hunk.lines if line[:1] == "+"]
    assert len(lines) == content.count(b"\n") + (content[-1:] not in {b"", b"\n"})
