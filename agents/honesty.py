"""What a reply of a model may not say: it is taken back, or sent back with the reason. Pure."""

from agents.contexts import DigestContext, ReviewContext
from agents.diagnosis.device import diagnose_kernel
from agents.diagnosis.signals import slowest
from agents.replies import CheckRule, CriterionStatus, Draft, Plan, Review

_NUMBERED = frozenset({CheckRule.ATTEMPTS_MADE, CheckRule.ROOFLINE_REACHED})
_LARGEST_PARAMETER = 1e6
_STANDINGS = ("NOT_MET", "PARTIAL", "MET")
"""From worst to best."""


def hollow(plan: Plan) -> str | None:
    """Return which check of a plan could never hold or always does; None where none is so."""
    for task in plan.tasks:
        for check in (*task.criterion.positive, *task.criterion.negative):
            if check.rule not in _NUMBERED:
                continue
            try:
                number = float(check.parameter)
            except ValueError:
                number = 0.0
            if not 0 < number < _LARGEST_PARAMETER:
                return (
                    f"{task.criterion.criterion_id}: {check.rule.value} needs a number above 0 in "
                    f"parameter, not {check.parameter[:40]!r}"
                )
    return None


def credited(draft: Draft, seed: Draft | None) -> Draft:
    """Return a draft with the recipe it was shown; it bears a recipe's name only if it is that."""
    if seed is None or draft.candidate != seed.candidate:
        draft = draft.model_copy(update={"recipe": "", "parameters": {}})
    if seed is None:
        return draft
    note = "shown to the writer as a recipe of this family"
    shown = tuple(c.model_copy(update={"note": note}) for c in seed.provenance)
    return draft.model_copy(update={"provenance": (*draft.provenance, *shown)})


def ruled(context: DigestContext) -> tuple[str, ...]:
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


def honest(reply: Review, context: ReviewContext) -> tuple[CriterionStatus, ...]:
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
