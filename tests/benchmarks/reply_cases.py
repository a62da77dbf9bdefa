"""One question a role for the fuzz: a right reply, ways to lie, what none accepted may hold."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agents.contexts import (
    DigestContext,
    InspectContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    WriteContext,
)
from agents.novelty import fingerprint
from agents.replies import (
    AnyReply,
    CheckRule,
    Citation,
    CriterionStatus,
    Digest,
    Draft,
    Inspection,
    Plan,
    Research,
    Review,
)
from agents.team import ModelTeam
from gpu_runner.facts import Facts
from knowledge_store.records import Passage
from tests.agents.builders import (
    make_decision,
    make_draft,
    make_edit,
    make_past,
    make_plan,
    make_review,
    make_view,
)
from tests.builders import make_candidate

DECOY = "a-decoy-that-is-not-the-answer"
Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A role, what it is asked, and how its replies are judged."""

    role: str
    right: Json
    decoy: Json
    """Fits the schema as well, and is not the answer wherever it stands beside another."""
    lie: Callable[[random.Random], Json]
    ask: Callable[[ModelTeam], Awaitable[AnyReply]]
    lie_in: Callable[[AnyReply], str]
    """Says what an accepted reply may not hold; empty where it keeps its promises."""


OLD = make_candidate()
VIEW = make_view(attempts=(make_past(1, candidate_digest=OLD.digest, round=1),))
SHOWN = Passage(
    path="a.cu", source="https://example.org/p/1", first_line=1, last_line=2, text="int x;"
)
STANDING = CriterionStatus(criterion_id="ac1", status="PARTIAL", evidence=("r1",))


def _with(value: Json, **changes: Any) -> Json:
    return {**value, **changes}


# -- planner ---------------------------------------------------------------------------------------

_PLAN = make_plan().model_dump(mode="json")


def _lying_plan(rng: random.Random) -> Json:
    task = _PLAN["tasks"][0]
    hollow = {"rule": "attempts_made", "parameter": rng.choice(["", "0", "-1", "nan", "1e400"])}
    criterion = _with(task["criterion"], positive=[hollow])
    return rng.choice(
        [
            _with(_PLAN, version=99),
            _with(_PLAN, language=rng.choice(["cuda", "triton", "python"])),
            _with(_PLAN, tasks=[task, task]),
            _with(_PLAN, tasks=[_with(task, criterion=criterion)]),
            _with(_PLAN, tasks=[]),
        ]
    )


def _plan_lies(reply: AnyReply) -> str:
    assert isinstance(reply, Plan)
    ids = [task.criterion.criterion_id for task in reply.tasks]
    if reply.version != 1 or reply.language not in VIEW.languages or len(set(ids)) < len(ids):
        return "a plan of another version, language or with one criterion twice"
    for task in reply.tasks:
        for check in (*task.criterion.positive, *task.criterion.negative):
            is_number = check.rule in {CheckRule.ATTEMPTS_MADE, CheckRule.ROOFLINE_REACHED}
            if is_number and not float(check.parameter) > 0:
                return "a check that always holds"
    return ""


# -- researcher ------------------------------------------------------------------------------------

_PLACE = f"{SHOWN.source}/{SHOWN.path}"
_RESEARCH = Research(
    findings=("a",),
    routes=("b",),
    suspected_bottlenecks=(),
    benchmark_priorities=(),
    citations=(Citation(source=_PLACE),),
).model_dump(mode="json")


def _lying_research(rng: random.Random) -> Json:
    made_up = {"source": rng.choice(["https://example.org/made-up", "", _PLACE + "x"])}
    return rng.choice(
        [
            _with(_RESEARCH, citations=[made_up, {"source": _PLACE, "licence": "MIT"}]),
            _with(_RESEARCH, route_log=["I asked everybody"]),
        ]
    )


def _research_lies(reply: AnyReply) -> str:
    assert isinstance(reply, Research)
    notes = "agents/recipes/"
    known = all(c.source == _PLACE or c.source.startswith(notes) for c in reply.citations)
    asked = all(text.startswith(("exact search", "store:")) for text in reply.route_log)
    return "" if known and asked else "a source that nobody was shown, or a search nobody made"


# -- writer ----------------------------------------------------------------------------------------

_DRAFT = make_draft(make_candidate(text="int fresh;")).model_dump(mode="json")


def _lying_draft(rng: random.Random) -> Json:
    noted = make_candidate(text="// a note\n" + OLD.sources[0].text)
    outside = {"language": "cpp", "sources": [{"path": "../../x", "text": "x"}]}
    return rng.choice(
        [
            _with(_DRAFT, candidate=OLD.model_dump(mode="json")),
            _with(_DRAFT, candidate=noted.model_dump(mode="json")),
            _with(_DRAFT, candidate=_with(_DRAFT["candidate"], language="cuda")),
            _with(_DRAFT, candidate=outside),
            _with(_DRAFT, recipe="three_pass", parameters={"unroll": 4}),
            {"edits": [{"path": "kernel.cpp", "search": " = ", "replace": "x"}], "motivation": "m"},
            {
                "edits": [{"path": "kernel.cpp", "search": "gone", "replace": "x"}],
                "motivation": "m",
            },
            {"edits": [], "motivation": "m"},
        ]
    )


def _draft_lies(reply: AnyReply) -> str:
    assert isinstance(reply, Draft)
    candidate = reply.candidate
    if candidate.language not in VIEW.languages or fingerprint(candidate) == fingerprint(OLD):
        return "a language out of scope, or what was tried before"
    if reply.recipe or reply.parameters:
        return "the name of a recipe that it is not"
    escapes = [s.path for s in candidate.sources if ".." in s.path or s.path.startswith("/")]
    return f"a file outside the candidate: {escapes}" if escapes else ""


# -- profiler --------------------------------------------------------------------------------------

_DIGEST = Digest(
    bottleneck="latency",
    confidence=0.5,
    evidence=("e",),
    inference=("i",),
    next_edit=make_edit(),
).model_dump(mode="json")


def _lying_digest(rng: random.Random) -> Json:
    return rng.choice(
        [
            _with(_DIGEST, rule="barriers"),
            _with(_DIGEST, confidence=rng.choice([-1, 7, 1e308])),
            _with(_DIGEST, bottleneck="witchcraft"),
        ]
    )


def _digest_lies(reply: AnyReply) -> str:
    assert isinstance(reply, Digest)
    return "" if not reply.rule and 0 <= reply.confidence <= 1 else "the name of a rule it is not"


# -- reviewer --------------------------------------------------------------------------------------

_REVIEW = make_review(advice="go on").model_dump(mode="json")


def _lying_review(rng: random.Random) -> Json:
    met = {"criterion_id": "ac1", "status": "MET", "evidence": ["made-up"]}
    other = {"criterion_id": "ac9", "status": "MET", "evidence": []}
    return rng.choice(
        [
            _with(_REVIEW, criteria=[met]),
            _with(_REVIEW, criteria=[met, met, other]),
            _with(_REVIEW, verdict="COMPLETE"),
            _with(_REVIEW, promote=True),
        ]
    )


def _review_lies(reply: AnyReply) -> str:
    assert isinstance(reply, Review)
    (status,) = reply.criteria
    better = status.status == "MET" or status.evidence != STANDING.evidence
    return "a criterion better than its checks, or evidence that nobody has" if better else ""


# -- reviewer, of the final kernel -----------------------------------------------------------------

_REMARK: Json = {"lane": "note", "severity": 5, "path": "kernel.cpp", "line": 1, "text": "short"}
_INSPECTION: Json = {"remarks": [_REMARK], "summary": "well"}


def _lying_inspection(rng: random.Random) -> Json:
    return rng.choice(
        [
            _with(_INSPECTION, remarks=[_with(_REMARK, path="../../graph/rules.py")]),
            _with(_INSPECTION, remarks=[_with(_REMARK, line=rng.choice([0, 9999]))]),
            _with(_INSPECTION, remarks=[_with(_REMARK, lane="approved")]),
            _with(_INSPECTION, remarks=[_REMARK] * 13),
            _with(_INSPECTION, promote=True),
            {},
        ]
    )


def _inspection_lies(reply: AnyReply) -> str:
    assert isinstance(reply, Inspection)
    lines = {source.path: len(source.text.splitlines()) for source in OLD.sources}
    made_up = [r for r in reply.remarks if r.line > lines.get(r.path, 0)]
    return f"a remark on no line of the kernel: {made_up}" if made_up else ""


_DECOY_EDIT = make_edit(change=DECOY)
CASES = (
    Case(
        "planner",
        _PLAN,
        _with(_PLAN, reason=DECOY),
        _lying_plan,
        lambda team: team.plan(PlanContext(view=VIEW)),
        _plan_lies,
    ),
    Case(
        "researcher",
        _RESEARCH,
        _with(_RESEARCH, findings=[DECOY]),
        _lying_research,
        lambda team: team.research(
            ResearchContext(view=VIEW, plan=make_plan(), evidence=(SHOWN,), searched=("store: 1",))
        ),
        _research_lies,
    ),
    Case(
        "writer",
        _DRAFT,
        _with(_DRAFT, motivation=DECOY),
        _lying_draft,
        lambda team: team.write(
            WriteContext(view=VIEW, plan=make_plan(), parent=OLD, tried={fingerprint(OLD): "a0001"})
        ),
        _draft_lies,
    ),
    Case(
        "profiler",
        _DIGEST,
        _with(_DIGEST, next_edit=_DECOY_EDIT.model_dump(mode="json")),
        _lying_digest,
        lambda team: team.digest(
            DigestContext(view=VIEW, candidate=OLD, attempt=make_past(), facts=Facts(tier="cpu"))
        ),
        _digest_lies,
    ),
    Case(
        "reviewer",
        _REVIEW,
        _with(_REVIEW, verdict="REGRESSED", advice=DECOY),
        _lying_review,
        lambda team: team.review(
            ReviewContext(
                view=VIEW,
                plan=make_plan(),
                diff="+ int x;",
                decisions=(make_decision(),),
                criteria=(STANDING,),
            )
        ),
        _review_lies,
    ),
    Case(
        "inspector",
        _INSPECTION,
        _with(_INSPECTION, summary=DECOY),
        _lying_inspection,
        lambda team: team.inspect(InspectContext(view=VIEW, candidate=OLD, attempt_id="a0001")),
        _inspection_lies,
    ),
)
