"""The team whose five roles are language models: renders prompts, asks, keeps replies honest.

No model reviews what it wrote: the reviewer is another one, or rules. A reply can name evidence
only if the context holds it; whatever else it names is dropped here.
"""

import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import as_file, files
from typing import TypeVar

from agents.contexts import (
    DigestContext,
    InspectContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    RunView,
    WriteContext,
)
from agents.errors import ModelRefused, NothingFits
from agents.guide import guide
from agents.honesty import credited, hollow, honest, ruled
from agents.inspection import inspect_by_rules, misplaced, numbered, with_rules
from agents.model import ChatModel, Turn, ask, form_of
from agents.novelty import fingerprint
from agents.playbook import Playbook
from agents.playbook.families import detect
from agents.playbook.planning import review_by_facts
from agents.prompts import FENCE, rendered, tokens
from agents.providers.patience import Patient
from agents.providers.plan import ModelPlan
from agents.providers.survey import Survey
from agents.replies import Digest, Draft, Inspection, Plan, Research, Review
from agents.roles import Spend
from agents.submission import Submission, drafted
from gpu_runner.candidate import Candidate, Language
from gpu_runner.message import Message
from gpu_runner.problem import Problem
from knowledge_store.grep import grep
from knowledge_store.records import Passage

ReplyT = TypeVar("ReplyT", bound=Message)
_NOTES = "agents/recipes"
_LICENCE = "Apache-2.0"
_MOST_PASSAGES = 12
_MOST_HITS = 500


_ROOM = {
    "planner": 16_000,
    "researcher": 20_000,
    "writer": 40_000,
    "profiler": 28_000,
    "reviewer": 24_000,
}
"""Tokens of a role's prompt at most; less where a model's context is shorter."""
_LEAST_ROOM = 1000


class ModelTeam:
    """Five roles asked of models; holds nothing that a resumed run would miss."""

    def __init__(
        self,
        writer: ChatModel,
        reviewer: ChatModel | None,
        *,
        planner: ChatModel | None = None,
        researcher: ChatModel | None = None,
        profiler: ChatModel | None = None,
        repairs: int = 2,
    ) -> None:
        """Take the models; one object may play several roles.

        Args:
            writer: writes kernels.
            reviewer: reviews; another model than all the others. None: rules review.
            planner: plans; the writer where it is not given, likewise the next two.
            researcher: reads.
            profiler: diagnoses.
            repairs: how often a malformed reply is sent back.

        Raises:
            ModelRefused: the reviewer is a model that others ask too: it would review its own work.
        """
        self._cast: dict[str, ChatModel] = {
            "planner": planner or writer,
            "researcher": researcher or writer,
            "writer": writer,
            "profiler": profiler or writer,
        }
        makers = frozenset[tuple[str, str]]().union(*map(_makes, self._cast.values()))
        own = makers & _makes(reviewer) if reviewer else frozenset()
        if own:
            provider, name = min(own)
            raise ModelRefused(
                f"the reviewer is the writer's model, {provider} {name}; configure "
                "another provider or model for one of them"
            )
        judge = f"{reviewer.provider}:{reviewer.name}" if reviewer else "rules"
        self.name = f"{writer.provider}:{writer.name} reviewed by {judge}"
        if reviewer is not None:
            self._cast["reviewer"] = reviewer
        self._repairs = repairs
        self._room = dict(_ROOM)
        self._playbook = Playbook()

    @property
    def plans(self) -> tuple[ModelPlan, ...]:
        """What is known of every model that may answer."""
        return tuple(plan for model in self._patient() for plan in model.plans)

    def needs(self, provider: str, name: str) -> bool:
        """Whether a role depends on a model; a fallback is not depended on."""
        return any((m.provider, m.name) == (provider, name) for m in self._cast.values())

    async def survey(self, *, is_thorough: bool) -> tuple[Survey, ...]:
        """Ask every model what it can do, one after the other, and keep to the findings.

        Args:
            is_thorough: ask for tools and schemas too.
        """
        found: dict[tuple[str, str], Survey] = {}
        for patient in self._patient():
            for each in await patient.survey(is_thorough=is_thorough):
                found[each.provider, each.model] = each
        for role, model in self._cast.items():
            if isinstance(model, Patient):
                room = min((_room(plan, found) for plan in model.plans), default=_ROOM[role])
                self._room[role] = min(_ROOM[role], room)
        return tuple(found.values())

    def _patient(self) -> list[Patient]:
        models = {id(model): model for model in self._cast.values()}
        return [model for model in models.values() if isinstance(model, Patient)]

    async def plan(self, context: PlanContext) -> Plan:
        """Ask the writer's model for task-acceptance pairs in a language that is in scope."""
        view = context.view
        version = context.previous.version + 1 if context.previous else 1

        def objection(plan: Plan) -> str | None:
            if plan.language not in view.languages:
                return f"language {plan.language.value!r} is not among {_names(view.languages)}"
            ids = [task.criterion.criterion_id for task in plan.tasks]
            if len(set(ids)) < len(ids):
                return "two criteria have one id"
            return hollow(plan)

        values = {"previous": context.previous, "why_again": context.why_again}
        plan = await self._ask(Plan, "planner", "plan", view, values, objection)
        return plan.model_copy(update={"version": version})

    async def research(self, context: ResearchContext) -> Research:
        """Ask for a digest of notes and evidence; citations of anything else are dropped."""
        notes, log = self._passages(context)
        passages = (*notes, *context.evidence)
        values = {"plan": context.plan, "query": context.query, "passages": passages}
        reply = await self._ask(Research, "researcher", "research", context.view, values)
        known = {f"{passage.source}/{passage.path}": passage for passage in passages}
        cited = tuple(
            citation.model_copy(update={"licence": known[citation.source].licence or "unknown"})
            for citation in reply.citations
            if citation.source in known
        )
        told = (*log, *context.searched)
        return reply.model_copy(update={"citations": cited, "route_log": told})

    async def write(self, context: WriteContext) -> Draft:
        """Ask for one candidate, whole or as edits of the parent's source.

        The first round's prompt holds the playbook's recipe.
        """
        base = context.parent or context.refused_source
        seed = None if base else await self._seed(context)
        view = context.view
        tried = {attempt.candidate_digest: attempt.attempt_id for attempt in view.attempts}

        def objection(submission: Submission) -> str | None:
            draft = drafted(submission, base)
            if isinstance(draft, str):
                return draft
            candidate = draft.candidate
            if candidate.language not in view.languages:
                return f"language {candidate.language.value!r} is not in {_names(view.languages)}"
            if candidate.digest in tried:
                return f"this is {tried[candidate.digest]} again, byte for byte; change something"
            known = context.tried.get(fingerprint(candidate))
            if known:
                return f"this is {known} again but for comments and blanks; change what it does"
            return None

        values = {
            "plan": context.plan,
            "research": context.research,
            "digest": context.digest,
            "review": context.review,
            "parent": base,
            "refused": context.refused,
            "refused_source": context.refused_source if context.parent else None,
            "repair": context.repair,
            "fault": context.fault,
            "lane": context.lane,
            "lanes": context.lanes,
            "contract": context.contract,
            "remarks": context.remarks,
            "seed": seed.candidate if seed else None,
            "plans_of": _plans,
        }
        submission = await self._ask(
            Submission,
            "writer",
            "write",
            view,
            values,
            objection,
            guide=guide(view, context.plan.language),
        )
        draft = drafted(submission, base)
        assert isinstance(draft, Draft), "whoever was asked objected to everything else"
        return credited(draft, seed)

    async def digest(self, context: DigestContext) -> Digest:
        """Ask for a diagnosis of the facts that ends in one next edit."""
        values = {
            "candidate": context.candidate,
            "attempt": context.attempt,
            "facts": context.facts,
            "parent_facts": context.parent_facts,
            "last_edit": context.last_edit,
            "ruled": ruled(context),
        }
        reply = await self._ask(Digest, "profiler", "digest", context.view, values)
        return reply.model_copy(update={"rule": ""})  # no rule made this prediction

    async def review(self, context: ReviewContext) -> Review:
        """Ask the other model; no criterion comes back better than its executable checks say."""
        if "reviewer" not in self._cast:
            return review_by_facts(context)
        values = {
            "plan": context.plan,
            "diff": context.diff,
            "decisions": context.decisions,
            "standing": context.standing,
            "contract": context.contract,
            "alignment": context.alignment,
        }
        reply = await self._ask(Review, "reviewer", "review", context.view, values)
        return reply.model_copy(update={"criteria": honest(reply, context)})

    async def inspect(self, context: InspectContext) -> Inspection:
        """Ask the other model to read the final kernel; what rules find is added."""
        candidate = context.candidate
        if "reviewer" not in self._cast:
            return inspect_by_rules(candidate)
        values = {
            "candidate": candidate,
            "diff": context.diff,
            "earlier": context.earlier,
            "numbered": numbered,
            "plans_of": _plans,
        }
        reply = await self._ask(
            Inspection,
            "reviewer",
            "inspect",
            context.view,
            values,
            lambda read: misplaced(read, candidate),
        )
        return with_rules(reply, candidate)

    def spend(self) -> Spend:
        """Return the cost of all models."""
        models = {id(model): model for model in self._cast.values()}
        return sum((model.spend() for model in models.values()), Spend())

    async def _ask(
        self,
        schema: type[ReplyT],
        role: str,
        prompt: str,
        view: RunView,
        values: Mapping[str, object],
        objection: Callable[[ReplyT], str | None] = lambda _: None,
        *,
        guide: str = "",
    ) -> ReplyT:
        """Ask a role: what is the same in every question comes first, so that it can be cached."""
        shape = json.dumps(form_of(schema).fields, separators=(",", ":"))
        common = rendered("system", {"fence": FENCE, "view": view}, self._room[role] // 2)
        own = rendered("role", {"role": role, "schema": shape, "guide": guide})
        taken = tokens(common) + tokens(own)
        room = self._room[role] - taken
        if room < _LEAST_ROOM:
            raise ModelRefused(
                f"{self._cast[role].name}: the {role} needs prompts of {taken + _LEAST_ROOM} tokens"
                f" and its context leaves {self._room[role]}; use a model with a longer one"
            )
        asked = rendered(prompt, {"view": view, **values}, room)
        turns = (
            Turn(role="system", text=common),
            Turn(role="system", text=own),
            Turn(role="user", text=asked),
        )
        return await ask(
            self._cast[role], schema, turns, repairs=self._repairs, objection=objection
        )

    async def _seed(self, context: WriteContext) -> Draft | None:
        """Return the playbook's proposal for this lane, where it has one in the plan's language."""
        language = context.plan.language
        narrow = context.view.model_copy(update={"languages": (language,)})
        try:
            seed = await self._playbook.write(context.model_copy(update={"view": narrow}))
        except NothingFits:
            return None
        return seed if seed.candidate.language is language else None

    def _passages(self, context: ResearchContext) -> tuple[tuple[Passage, ...], tuple[str, ...]]:
        """Search the recipes' notes for the words of the query and the name; own family first."""
        words = re.findall(r"[A-Za-z]{3,}", f"{context.query} {context.view.problem.name}")
        pattern = "|".join(sorted(set(words), key=str.lower)) or "."
        with as_file(files("agents").joinpath("recipes")) as folder:
            found = grep(pattern, folder, source=_NOTES, limit=_MOST_HITS, ignore_case=True)
        log = f"exact search of {_NOTES} for {pattern!r}: {found.hits} lines in {found.files} files"
        notes = [passage for passage in found.passages if passage.path.endswith("/notes.md")]
        own = f"/{_family(context.view.problem)}/"
        notes.sort(key=lambda passage: own not in passage.path)
        own_notes = (p.model_copy(update={"licence": _LICENCE}) for p in notes[:_MOST_PASSAGES])
        return tuple(own_notes), (log,)


def _makes(model: ChatModel) -> frozenset[tuple[str, str]]:
    """Return provider and name of every model that may answer in a model's place."""
    if isinstance(model, Patient):
        return model.makes
    return frozenset({(model.provider, model.name)})


def _room(plan: ModelPlan, found: dict[tuple[str, str], Survey]) -> int:
    """Return the tokens a model has for a prompt, beside the longest answer it may give."""
    surveyed = found.get((plan.provider, plan.model))
    context_tokens = plan.context_tokens or (surveyed.context_tokens if surveyed else None) or 0
    if not context_tokens:
        return max(_ROOM.values())
    return max(_LEAST_ROOM, context_tokens - min(plan.most_tokens, context_tokens // 2))


def _plans(candidate: Candidate) -> str:
    """Return launch plans as JSON, without what is a default."""
    return json.dumps(
        [plan.model_dump(mode="json", exclude_defaults=True) for plan in candidate.plans], indent=1
    )


def _family(problem: Problem) -> str:
    """Return the family of a problem, or nothing where the playbook has none."""
    try:
        return detect(problem).family
    except NothingFits:
        return ""


def _names(languages: tuple[Language, ...]) -> str:
    return ", ".join(language.value for language in languages)
