"""The playbook: five roles by rules and search, no language model, no state between calls."""

from agents.contexts import (
    DigestContext,
    InspectContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    RunView,
    WriteContext,
)
from agents.diagnosis.query import evidence_query
from agents.errors import NothingFits
from agents.inspection import inspect_by_rules
from agents.playbook.device_diagnosis import diagnose_device
from agents.playbook.device_families import detect_on_device
from agents.playbook.diagnosis import Diagnosis, changes, diagnose
from agents.playbook.edits import next_edit
from agents.playbook.families import Match, detect
from agents.playbook.planning import plan_for, review_of
from agents.playbook.reading import research_for
from agents.playbook.search import Search, proposal_for
from agents.replies import Citation, Digest, Draft, Inspection, Plan, Research, Review
from agents.roles import Spend
from gpu_runner.candidate import DEVICE_LANGUAGES, Language


class Playbook:
    """Answers for the families its recipes cover; a deterministic function of each context.

    It is not a language model: it knows kernel families, searches the parameters of its recipes
    and lets the profile choose. `NothingFits` says what to configure where no recipe covers a
    problem.
    """

    name = "playbook"

    async def plan(self, context: PlanContext) -> Plan:
        """Answer with three tasks: right, faster, searched."""
        match = _match(context.view)
        return plan_for(context, match, Search(context.view, match))

    async def research(self, context: ResearchContext) -> Research:
        """Answer with what the notes of the family say."""
        match = _match(context.view)
        return research_for(context, match, Search(context.view, match))

    async def write(self, context: WriteContext) -> Draft:
        """Answer with a rendered recipe that was not tried before.

        Raises:
            NothingFits: no recipe is left; or a kernel is to be mended, which takes a reader.
        """
        if context.remarks:
            raise NothingFits("the playbook renders recipes and mends none; a model would")
        match = _match(context.view)
        proposal = proposal_for(context, match)
        return Draft(
            candidate=proposal.candidate,
            family=match.family,
            recipe=proposal.recipe.name,
            parameters=proposal.parameters,
            motivation=proposal.reason,
            expected=proposal.expected,
            provenance=(
                Citation(
                    source=proposal.recipe.path, licence="Apache-2.0", note=proposal.recipe.idea
                ),
            ),
        )

    async def digest(self, context: DigestContext) -> Digest:
        """Answer with the first rule of the table that the facts fulfil, and its edit."""
        match = _match(context.view)
        judge = diagnose_device if context.facts.tier == "gpu" else diagnose
        found = judge(context.facts, context.view)
        attempt = context.attempt
        against = context.view.goal_against
        speed = attempt.vs_baseline
        compared = f"{speed:.2f} times the speed of" if speed else "no time against"
        return Digest(
            bottleneck=found.rule.bottleneck,
            confidence=found.rule.confidence,
            evidence=found.evidence,
            against_parent=changes(context.facts, context.parent_facts),
            against_baseline=(f"{compared} {against}",),
            inference=found.rule.because,
            next_edit=next_edit(context, Search(context.view, match), found),
            query=_query(context, match, found),
            rule=found.rule.name or found.rule.bottleneck,
        )

    async def review(self, context: ReviewContext) -> Review:
        """Answer with what the last round showed."""
        return review_of(context, Search(context.view, _match(context.view)))

    async def inspect(self, context: InspectContext) -> Inspection:
        """Answer with the leftovers that rules find in the text."""
        return inspect_by_rules(context.candidate)

    def spend(self) -> Spend:
        """Return zero: nothing is paid for."""
        return Spend()


def _query(context: DigestContext, match: Match, found: Diagnosis) -> str:
    """Return what to ask the researcher; the words of a rule are those of the recipes' notes."""
    if not found.rule.query:
        return ""
    return evidence_query(
        found.rule.bottleneck,
        found.rule.query,
        arch=context.view.arch,
        language=context.candidate.language.value,
        operator=match.family,
    ).text


def _match(view: RunView) -> Match:
    if DEVICE_LANGUAGES & set(view.languages):
        return detect_on_device(view.problem)
    if Language.CPP in view.languages:
        return detect(view.problem)
    raise NothingFits(
        f"problem {view.problem.name!r}: the playbook writes cpp, cuda and triton, the target "
        f"allows {', '.join(view.languages) or 'no language'}; add one of them to the target's "
        "languages and install its compiler, or configure a model provider with --team"
    )
