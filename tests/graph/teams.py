"""A team that answers from tables: what each lane of each round writes, how it is reviewed."""

from collections.abc import Callable, Mapping

from agents.contexts import (
    DigestContext,
    InspectContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    WriteContext,
)
from agents.errors import MalformedReply, NothingFits
from agents.inspection import inspect_by_rules
from agents.replies import Digest, Draft, Inspection, Plan, Research, Review
from agents.roles import Spend
from tests.graph.builders import (
    make_digest,
    make_draft,
    make_inspection,
    make_plan,
    make_research,
    make_review,
)

MALFORMED = "malformed"
NOTHING = "nothing"


class TableTeam:
    """Implements `Team`. Drafts by `round.lane` (or `round.lane.repair`), else a slow one.

    The final kernel is read by rules, unless a table says what is found in an attempt.
    """

    name = "table"

    def __init__(
        self,
        drafts: Mapping[str, str] | None = None,
        *,
        plan: Plan | None = None,
        reviews: Mapping[int, Review] | None = None,
        inspections: Mapping[str, Inspection | Exception] | None = None,
        tokens: int = 0,
    ) -> None:
        self.drafts = dict(drafts or {})
        self.made = plan or make_plan()
        self.reviews = dict(reviews or {})
        self.inspections = inspections
        self.tokens = tokens
        self.asked: list[object] = []
        self.on_ask: Callable[[object], None] = lambda _: None
        self._tries: dict[str, int] = {}

    async def plan(self, context: PlanContext) -> Plan:
        self._note(context)
        version = context.previous.version + 1 if context.previous else 1
        return self.made.model_copy(
            update={"version": version, "reason": context.why_again or self.made.reason}
        )

    async def research(self, context: ResearchContext) -> Research:
        self._note(context)
        return make_research(findings=(f"asked: {context.query}",))

    async def write(self, context: WriteContext) -> Draft:
        self._note(context)
        place = f"{context.view.round}.{context.lane}"
        tried = self._tries.get(place, 0)
        self._tries[place] = tried + 1
        repaired = context.repair is not None or tried > 0
        text = self.drafts.get(f"{place}.repair" if repaired else place, f"us=100 in {place}")
        if text == MALFORMED:
            raise MalformedReply("the reply is no Draft")
        if text == NOTHING:
            raise NothingFits("no recipe covers this problem; configure a model")
        return make_draft(f"#pragma {text}")

    async def digest(self, context: DigestContext) -> Digest:
        self._note(context)
        return make_digest()

    async def review(self, context: ReviewContext) -> Review:
        self._note(context)
        return self.reviews.get(context.view.round, make_review())

    async def inspect(self, context: InspectContext) -> Inspection:
        if self.inspections is None:
            return inspect_by_rules(context.candidate)
        self._note(context)
        found = self.inspections.get(context.attempt_id, make_inspection())
        if isinstance(found, Exception):
            raise found
        return found

    def spend(self) -> Spend:
        return Spend(calls=len(self.asked), output_tokens=self.tokens * len(self.asked))

    def _note(self, context: object) -> None:
        self.asked.append(context)
        self.on_ask(context)
