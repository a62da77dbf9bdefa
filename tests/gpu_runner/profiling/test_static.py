import pytest

from gpu_runner.candidate import Language
from gpu_runner.languages import build
from gpu_runner.profiling.static import static_facts
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def facts_of(cache, scratch, **changes):
    outcome = build(make_problem(), make_candidate(**changes), cache=cache, timeout_s=60.0)
    return static_facts(built(outcome), scratch=scratch)


def test_naive_softmax_has_remarks_and_code(cache, tmp_path):
    facts = facts_of(cache, tmp_path)
    assert any("expf" in remark.text for remark in facts.remarks)
    if facts.instructions is None:
        assert facts.unavailable == ("machine code: only x86-64 is read",)
    else:
        assert facts.instructions.calls_in_loops == ("expf",)
        assert facts.hotspots
        assert facts.unavailable == ()


def test_python_has_neither_and_says_so(cache, tmp_path):
    text = "def run(x): return x\n"
    facts = facts_of(cache, tmp_path, language=Language.PYTHON, text=text)
    assert (facts.remarks, facts.instructions, facts.hotspots) == ((), None, ())
    assert facts.unavailable == ("compiler remarks and machine code: none of python",)
