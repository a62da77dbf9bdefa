"""The team whose five roles are language models: renders prompts, asks, keeps replies honest.

Two models, of different makes: one plans, reads, writes and diagnoses, the other reviews. A reply
can name evidence only if the context holds it; whatever else it names is dropped here.
"""

import json
import re
from collections.abc import Callable
from importlib.resources import as_file, files
from typing import TypeVar

from agents.contexts import (
    DigestContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    WriteContext,
)
from agents.diagnosis.device import diagnose_kernel
from agents.diagnosis.signals import slowest
from agents.errors import ModelRefused, NothingFits
from agents.model import ChatModel, Turn, ask
from agents.playbook import Playbook
from agents.playbook.families import detect
from agents.prompts import FENCE, rendered
from agents.replies import CriterionStatus, Digest, Draft, Plan, Research, Review
from agents.roles import Spend
from gpu_runner.candidate import Language
from gpu_runner.message import Message
from gpu_runner.problem import Problem
from knowledge_store.grep import grep
from knowledge_store.records import Passage

ReplyT = TypeVar("ReplyT", bound=Message)
_NOTES = "agents/recipes"
_LICENCE = "Apache-2.0"
_MOST_PASSAGES = 12
_MOST_HITS = 500


class ModelTeam:
    """Five roles asked of two models; holds nothing that a resumed run would miss."""

    def __init__(self, writer: ChatModel, reviewer: ChatModel, *, repairs: int = 2) -> None:
        """Take both models.

        Args:
            writer: plans, researches, writes and diagnoses.
            reviewer: reviews; must be another model than the writer.
            repairs: how often a malformed reply is sent back.

        Raises:
            ModelRefused: both are the same model, which would review its own work.
        """
        if (writer.provider, writer.name) == (reviewer.provider, reviewer.name):
            raise ModelRefused(
                f"the reviewer is the writer's model, {writer.provider} {writer.name}; configure "
                "another provider or model for one of them"
            )
        self.name = (
            f"{writer.provider}:{writer.name} reviewed by {reviewer.provider}:{reviewer.name}"
        )
        self._writer = writer
        self._reviewer = reviewer
        self._repairs = repairs
        self._playbook = Playbook()

    async def plan(self, context: PlanContext) -> Plan:
        """Ask the writer's model for task-acceptance pairs in a language that is in scope."""
        view = context.view
        version = context.previous.version + 1 if context.previous else 1

        def objection(plan: Plan) -> str | None:
            if plan.language not in view.languages:
                return f"language {plan.language.value!r} is not among {_names(view.languages)}"
            ids = [task.criterion.criterion_id for task in plan.tasks]
            return "two criteria have one id" if len(set(ids)) < len(ids) else None

        prompt = rendered("plan", view=view, previous=context.previous, why_again=context.why_again)
        plan = await self._ask(self._writer, Plan, "planner", prompt, objection)
        return plan.model_copy(update={"version": version})

    async def research(self, context: ResearchContext) -> Research:
        """Ask for a digest of notes and evidence; citations of anything else are dropped."""
        notes, log = self._passages(context)
        passages = (*notes, *context.evidence)
        prompt = rendered(
            "research",
            view=context.view,
            plan=context.plan,
            query=context.query,
            passages=passages,
        )
        reply = await self._ask(self._writer, Research, "researcher", prompt)
        known = {f"{passage.source}/{passage.path}": passage for passage in passages}
        cited = tuple(
            citation.model_copy(update={"licence": known[citation.source].licence or "unknown"})
            for citation in reply.citations
            if citation.source in known
        )
        told = (*log, *context.searched)
        return reply.model_copy(update={"citations": cited, "route_log": told})

    async def write(self, context: WriteContext) -> Draft:
        """Ask for one candidate; the first round's prompt holds the playbook's recipe."""
        seed = None if context.parent else await self._seed(context)
        view = context.view
        tried = {attempt.candidate_digest: attempt.attempt_id for attempt in view.attempts}

        def objection(draft: Draft) -> str | None:
            candidate = draft.candidate
            if candidate.language not in view.languages:
                return f"language {candidate.language.value!r} is not in {_names(view.languages)}"
            if candidate.digest in tried:
                return f"this is {tried[candidate.digest]} again, byte for byte; change something"
            return None

        prompt = rendered(
            "write",
            view=view,
            plan=context.plan,
            research=context.research,
            digest=context.digest,
            review=context.review,
            parent=context.parent,
            repair=context.repair,
            lane=context.lane,
            lanes=context.lanes,
            contract=context.contract,
            seed=seed.candidate.sources[0].text if seed else "",
        )
        draft = await self._ask(self._writer, Draft, "writer", prompt, objection)
        if seed is not None:
            note = "shown to the writer as a recipe of this family"
            shown = tuple(c.model_copy(update={"note": note}) for c in seed.provenance)
            draft = draft.model_copy(update={"provenance": (*draft.provenance, *shown)})
        return draft

    async def digest(self, context: DigestContext) -> Digest:
        """Ask for a diagnosis of the facts that ends in one next edit."""
        prompt = rendered(
            "digest",
            view=context.view,
            candidate=context.candidate,
            attempt=context.attempt,
            facts=context.facts,
            parent_facts=context.parent_facts,
            last_edit=context.last_edit,
            ruled=_ruled(context),
        )
        reply = await self._ask(self._writer, Digest, "profiler", prompt)
        return reply.model_copy(update={"rule": ""})  # no rule made this prediction

    async def review(self, context: ReviewContext) -> Review:
        """Ask the other model; no criterion comes back better than its executable checks say."""
        prompt = rendered(
            "review",
            view=context.view,
            plan=context.plan,
            diff=context.diff,
            decisions=context.decisions,
            standing=context.standing,
            contract=context.contract,
            alignment=context.alignment,
        )
        reply = await self._ask(self._reviewer, Review, "reviewer", prompt)
        return reply.model_copy(update={"criteria": _honest(reply, context)})

    def spend(self) -> Spend:
        """Return the cost of both models."""
        one, other = self._writer.spend(), self._reviewer.spend()
        return Spend(
            calls=one.calls + other.calls,
            input_tokens=one.input_tokens + other.input_tokens,
            output_tokens=one.output_tokens + other.output_tokens,
            usd=one.usd + other.usd,
        )

    async def _ask(
        self,
        model: ChatModel,
        schema: type[ReplyT],
        role: str,
        prompt: str,
        objection: Callable[[ReplyT], str | None] = lambda _: None,
    ) -> ReplyT:
        shape = json.dumps(schema.model_json_schema(), separators=(",", ":"))
        told = rendered("system", role=role, schema=shape, fence=FENCE)
        turns = (Turn(role="system", text=told), Turn(role="user", text=prompt))
        return await ask(model, schema, turns, repairs=self._repairs, objection=objection)

    async def _seed(self, context: WriteContext) -> Draft | None:
        """Return the playbook's proposal for this lane, where it has one."""
        if context.plan.language is not Language.CPP:
            return None
        try:
            return await self._playbook.write(context)
        except NothingFits:
            return None

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


def _family(problem: Problem) -> str:
    """Return the family of a problem, or nothing where the playbook has none."""
    try:
        return detect(problem).family
    except NothingFits:
        return ""


def _ruled(context: DigestContext) -> tuple[str, ...]:
    """Return what the rules make of the slowest kernel's counters; nothing where there are none."""
    kernel = slowest(context.facts)
    if kernel is None or kernel.source != "counters":
        return ()
    found = diagnose_kernel(kernel)
    asked = (f"{one.signal} {one.value:.3g} {one.op} {one.threshold:g}" for one in found.readings)
    others = (f"{name} ({confidence:.2f})" for name, confidence in found.alternatives)
    return (
        f"{found.bottleneck} ({found.confidence:.2f}): {', '.join(asked) or 'no rule holds'}",
        *(f"also holds: {text}" for text in others),
        *(f"not measured: {name}" for name in found.missing[:4]),
    )


def _names(languages: tuple[Language, ...]) -> str:
    return ", ".join(language.value for language in languages)


def _honest(reply: Review, context: ReviewContext) -> tuple[CriterionStatus, ...]:
    """Return a status for each criterion of the plan: the worse of what is said and checked."""
    said = {status.criterion_id: status for status in reply.criteria}
    found = []
    for task in context.plan.tasks:
        checked = context.standing(task.criterion.criterion_id)
        claimed = said.get(checked.criterion_id)
        status = claimed.status if claimed else "NOT_MET"
        worse = min(status, checked.status, key=_STANDINGS.index)
        found.append(checked.model_copy(update={"status": worse}))
    return tuple(found)


_STANDINGS = ("NOT_MET", "PARTIAL", "MET")
"""From worst to best."""
