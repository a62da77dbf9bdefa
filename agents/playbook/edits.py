"""From a bottleneck to exactly one next edit: a parameter, or another recipe. Pure."""

from agents.contexts import DigestContext
from agents.diagnosis.vocabulary import coarse
from agents.playbook.catalogue import Choice, Parameters, Recipe, Value
from agents.playbook.diagnosis import Diagnosis
from agents.playbook.search import Search
from agents.replies import Edit, Movement

_WHOLE = "the kernel"
_VALIDATION = "every check passes, and a paired sitting against the incumbent says FASTER"


def next_edit(context: DigestContext, search: Search, diagnosis: Diagnosis) -> Edit:
    """Return the one edit that the table of recipes has for this bottleneck.

    First a parameter of the recipe at hand that answers it, then a recipe that does, then the next
    parameter that was not tried; near the roof, none: the edit says to stop working on this kernel.
    """
    # The profiled attempt is one of the ledger's only when its round is over.
    search.exclude(context.candidate)
    rule = diagnosis.rule
    here = search.recipe(context.attempt.recipe)
    if rule.bottleneck == "near_roof":
        return _rest(context, diagnosis)
    parameters = context.attempt.parameters
    if here is not None and here.fits(parameters):
        for choice in here.choices:
            value = _answer(choice, rule.bottleneck)
            changed = {**parameters, choice.name: value} if value is not None else parameters
            if value != parameters[choice.name] and search.is_untried(here, changed):
                return _turned(here, choice, changed, diagnosis)
    for recipe in search.recipes:
        is_other = here is None or recipe.name != here.name
        answers = bool({rule.bottleneck, coarse(rule.bottleneck)} & set(recipe.answers))
        if is_other and answers and search.is_untried(recipe, recipe.defaults()):
            return _moved(recipe, diagnosis)
    return _neighbour(here, parameters, search, diagnosis) or _rest(context, diagnosis)


def _answer(choice: Choice, bottleneck: str) -> Value | None:
    """Return the value that treats a class; what treats its coarse class where none is known."""
    fine = choice.answers.get(bottleneck)
    return fine if fine is not None else choice.answers.get(coarse(bottleneck))


def _turned(recipe: Recipe, choice: Choice, parameters: Parameters, diagnosis: Diagnosis) -> Edit:
    return Edit(
        path=recipe.entry,
        symbol=choice.name,
        change=f"set {choice.name} to {parameters[choice.name]}: {choice.reason}",
        why_others_are_weaker=diagnosis.rule.others_are_weaker,
        expected=diagnosis.rule.expects,
        validation=_VALIDATION,
        recipe=recipe.name,
        parameters=dict(parameters),
    )


def _moved(recipe: Recipe, diagnosis: Diagnosis) -> Edit:
    return Edit(
        path=recipe.entry,
        symbol=_WHOLE,
        change=f"move to the recipe {recipe.name}: {recipe.idea}",
        why_others_are_weaker=diagnosis.rule.others_are_weaker,
        expected=diagnosis.rule.expects,
        validation=_VALIDATION,
        recipe=recipe.name,
        parameters=recipe.defaults(),
    )


def _neighbour(
    recipe: Recipe | None, parameters: Parameters, search: Search, diagnosis: Diagnosis
) -> Edit | None:
    """Return a change of one parameter that was not tried yet."""
    if recipe is None or not recipe.fits(parameters):
        return None
    for choice in recipe.choices:
        for value in choice.values:
            changed = {**parameters, choice.name: value}
            if search.is_untried(recipe, changed):
                return _turned(recipe, choice, changed, diagnosis)
    return None


def _rest(context: DigestContext, diagnosis: Diagnosis) -> Edit:
    return Edit(
        path=context.candidate.sources[0].path,
        symbol=_WHOLE,
        change="leave this kernel as it is; spend the effort on dispatch by shape",
        why_others_are_weaker=diagnosis.rule.others_are_weaker,
        expected=Movement(metric="fraction_reached", direction="up", factor=1.0),
        validation="the performance map shows which shapes another variant serves better",
    )
