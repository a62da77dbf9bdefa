"""The research digest cites lines that exist, and logs what was asked."""

from pathlib import Path

import pytest

import agents
from agents.contexts import ResearchContext
from agents.playbook import Playbook
from graph.targets import load_target
from knowledge_store.records import Passage
from tests.agents.builders import make_plan, make_view
from tests.agents.playbook.device import ON_CPU
from tests.builders import make_workload

PACKAGE = Path(agents.__file__).parent.parent


async def research_of(query: str = "", **changes):
    context = ResearchContext(view=make_view(**changes), plan=make_plan(), query=query)
    return await Playbook().research(context)


@pytest.mark.parametrize("name", ON_CPU)
async def test_every_citation_resolves_to_its_lines(name):
    target = load_target(name)
    research = await research_of("", problem=target.problem, workloads=target.public)
    assert research.findings
    for citation in research.citations:
        lines = (PACKAGE / citation.source).read_text().splitlines()
        if citation.lines:
            line = lines[int(citation.lines) - 1]
            assert line.startswith("- " + citation.note[:40])
    assert {c.source for c in research.citations} >= {
        f"agents/recipes/cpp/{research.citations[0].source.split('/')[3]}/notes.md"
    }


async def test_what_the_query_asks_for_comes_first():
    plain = await research_of()
    asked = await research_of("streaming stores")
    assert "streaming" in asked.findings[0]
    assert set(asked.findings) == set(plain.findings)
    assert len(asked.route_log) == len(plain.route_log) + 1
    assert "'streaming stores'" in asked.route_log[1]


async def test_a_query_without_words_asks_nothing():
    assert await research_of("?!") == await research_of("")


async def test_evidence_is_pointed_at_and_cited_with_its_licence():
    found = Passage(
        path="csrc/softmax.cu",
        source="https://example.org/maker/fastlib/pull/7",
        first_line=3,
        last_line=5,
        text="+\n+  int column = swizzle(lane);\n+}",
        repo="maker/fastlib",
        pr=7,
    )
    context = ResearchContext(
        view=make_view(), plan=make_plan(), evidence=(found,), searched=("store: 1 of 9",)
    )
    research = await Playbook().research(context)
    assert research.findings[-1] == (
        "see maker/fastlib#7, csrc/softmax.cu: +  int column = swizzle(lane);"
    )
    cited = research.citations[-1]
    assert (cited.source, cited.lines, cited.licence) == ("maker/fastlib#7", "3-5", "unknown")
    assert research.route_log[-1] == "store: 1 of 9"


async def test_without_a_store_the_log_says_that_nothing_else_was_asked():
    assert (await research_of()).route_log[-1] == "no other source was asked"


async def test_workloads_are_ranked_by_weight():
    workloads = (make_workload(name="rare"), make_workload(name="usual", weight=5.0))
    research = await research_of(workloads=workloads)
    assert research.benchmark_priorities == ("usual (weight 5)", "rare (weight 1)")


async def test_intensity_names_the_suspect():
    softmax = await research_of()
    assert softmax.suspected_bottlenecks[0].endswith("memory traffic")
    target = load_target("gemm_bias_act")
    wide = tuple(w for w in target.public if w.axes["M"] > 100)
    product = await research_of(problem=target.problem, workloads=wide)
    assert product.suspected_bottlenecks[0].endswith("arithmetic")


async def test_routes_put_the_plain_recipe_last():
    assert (await research_of()).routes[-1].startswith("plain:")
