"""A script answers by context alone, and its mistakes are told with file, role and turn."""

import json

import pytest
import yaml

from agents import errors
from agents.contexts import (
    DigestContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    WriteContext,
)
from agents.errors import MalformedReply, ModelBusy, NothingFits
from agents.replies import Digest, Research
from agents.roles import Spend, Team
from agents.scripted import Scripted
from gpu_runner.facts import Facts
from tests.agents.builders import (
    make_draft,
    make_edit,
    make_past,
    make_plan,
    make_review,
    make_view,
)
from tests.builders import make_candidate


def dumped(*replies):
    return [reply.model_dump(mode="json") for reply in replies]


def drafts(count: int):
    return [make_draft(motivation=f"draft {i}") for i in range(count)]


RESEARCH = Research(findings=("f",), routes=(), suspected_bottlenecks=(), benchmark_priorities=())
DIGEST = Digest(
    bottleneck="unknown", confidence=0, evidence=(), inference=(), next_edit=make_edit()
)
SCRIPT = {
    "plan": dumped(make_plan(), make_plan(version=2)),
    "research": dumped(RESEARCH),
    "write": dumped(*drafts(4)),
    "digest": dumped(DIGEST),
    "review": dumped(make_review(advice="first"), make_review(advice="second")),
}


async def written(team: Team, number: int, lane: int) -> str:
    context = WriteContext(view=make_view(round=number), plan=make_plan(), lane=lane, lanes=2)
    return (await team.write(context)).motivation


async def test_drafts_follow_round_and_lane_and_the_last_one_repeats():
    team = Scripted(SCRIPT)
    said = [await written(team, number, lane) for number in range(1, 4) for lane in range(2)]
    assert said == ["draft 0", "draft 1", "draft 2", "draft 3", "draft 3", "draft 3"]


async def test_a_resumed_team_answers_as_the_first_one_did():
    first = Scripted(SCRIPT)
    await written(first, 1, 0)
    assert await written(first, 2, 0) == await written(Scripted(SCRIPT), 2, 0) == "draft 2"


async def test_every_role_answers():
    team = Scripted(SCRIPT)
    view = make_view(round=1)
    assert await team.plan(PlanContext(view=view)) == make_plan()
    assert (await team.plan(PlanContext(view=view, previous=make_plan()))).version == 2
    assert await team.research(ResearchContext(view=view, plan=make_plan())) == RESEARCH
    digest = DigestContext(
        view=view, candidate=make_candidate(), attempt=make_past(), facts=Facts(tier="cpu")
    )
    assert await team.digest(digest) == DIGEST
    assert team.spend() == Spend()


async def test_the_first_round_hears_the_first_entry_of_every_role():
    digests = [DIGEST.model_copy(update={"query": text}) for text in ("one", "two")]
    team = Scripted({**SCRIPT, "digest": dumped(*digests)})
    heard = []
    for number in (1, 2, 3):
        view = make_view(round=number)
        review = ReviewContext(view=view, plan=make_plan(), diff="", decisions=())
        digest = DigestContext(
            view=view, candidate=make_candidate(), attempt=make_past(), facts=Facts(tier="cpu")
        )
        heard.append(((await team.review(review)).advice, (await team.digest(digest)).query))
    assert heard == [("first", "one"), ("second", "two"), ("second", "two")]


async def test_one_lane_writes_one_entry_a_round():
    team = Scripted(SCRIPT)
    contexts = [
        WriteContext(view=make_view(round=number), plan=make_plan()) for number in range(1, 5)
    ]
    said = [(await team.write(context)).motivation for context in contexts]
    assert said == ["draft 0", "draft 1", "draft 2", "draft 3"]


@pytest.mark.parametrize("dump", [yaml.safe_dump, json.dumps], ids=["yaml", "json"])
async def test_a_script_is_read_from_a_file(dump, tmp_path):
    path = tmp_path / "script"
    path.write_text(dump(SCRIPT))
    assert await written(Scripted.read(path), 1, 1) == "draft 1"


@pytest.mark.parametrize("kind", [ModelBusy, NothingFits, errors.ModelTimeout, errors.ModelRefused])
async def test_an_entry_may_raise(kind):
    team = Scripted({"write": [{"raise": kind.__name__, "message": "as told"}]})
    with pytest.raises(kind, match="as told"):
        await written(team, 1, 0)


@pytest.mark.parametrize("name", ["KeyError", "annotations", "Nothing"])
async def test_only_our_errors_can_be_raised(name):
    with pytest.raises(MalformedReply, match=f"'{name}' is not an exception of agents.errors"):
        await written(Scripted({"write": [{"raise": name}]}), 1, 0)


async def test_a_reply_that_does_not_fit_names_its_place():
    team = Scripted({"write": [SCRIPT["write"][0], {"motivation": 3}]}, source="s.yaml")
    with pytest.raises(MalformedReply, match=r"s\.yaml: write\[1\]"):
        await written(team, 1, 1)


async def test_a_role_without_entries_is_named():
    with pytest.raises(MalformedReply, match="no reply for write; add one under write:"):
        await written(Scripted({}), 1, 0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("writer: []", "unknown role 'writer'"),
        ("write: {}", "write must be a list"),
        ("write: [3]", "write must be a list"),
        ("[1, 2]", "expected a mapping of roles"),
        ("{", "expected the node content|flow mapping"),
    ],
)
def test_a_file_that_is_no_script_says_why(text, told, tmp_path):
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(MalformedReply, match=told):
        Scripted.read(path)
