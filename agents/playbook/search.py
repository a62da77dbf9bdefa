"""Which recipe and which parameters to try next: opening, the profiler's edit, then Optuna.

Stateless: the study is rebuilt from the attempts each time, and its sampler is seeded by the run's
seed, the number of attempts and the lane, so one context always gives one proposal.
"""

import hashlib
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from agents.contexts import PastAttempt, RunView, WriteContext
from agents.errors import NothingFits
from agents.playbook.catalogue import Parameters, Recipe, Value, recipes_of, render
from agents.playbook.families import Match
from agents.replies import Edit, Movement
from gpu_runner.candidate import Candidate

_ASKS = 24
_EXPLORE_EVERY = 4
_STARTUP_TRIALS = 6
_LONGEST_HINT = 200


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A candidate to write, and why this one."""

    recipe: Recipe
    parameters: dict[str, Value]
    candidate: Candidate
    reason: str
    expected: Movement


class Search:
    """The state of the search as one run's view shows it."""

    def __init__(self, view: RunView, match: Match) -> None:
        """Look at the attempts of `view` through the recipes of the family."""
        self.view = view
        self.match = match
        known = recipes_of(match.family, (*view.isa, view.arch), view.languages)
        self.recipes = allowed(known, view.vetoed)
        self._won = tuple(lesson for lesson in view.lessons if lesson.finding == "fast")
        lost = {lesson.recipe for lesson in view.lessons if lesson.finding != "fast"}
        self._lost = lost - {lesson.recipe for lesson in self._won}
        self._tried = {attempt.candidate_digest for attempt in view.attempts}

    def recipe(self, name: str) -> Recipe | None:
        """Return the recipe of a name, if this machine can run it."""
        return next((recipe for recipe in self.recipes if recipe.name == name), None)

    def attempts_of(self, recipe: Recipe) -> list[PastAttempt]:
        """Return the attempts made with a recipe, its parameters still valid."""
        return [
            a for a in self.view.attempts if a.recipe == recipe.name and recipe.fits(a.parameters)
        ]

    def untried(self, recipe: Recipe) -> Iterator[tuple[dict[str, Value], Candidate]]:
        """Yield parameters that no attempt has used, the best-known values first."""
        for parameters in recipe.combinations():
            candidate = render(recipe, self.match, parameters)
            if candidate.digest not in self._tried:
                yield parameters, candidate

    def is_untried(self, recipe: Recipe, parameters: Parameters) -> bool:
        """Say whether a recipe takes these parameters and no attempt has used them."""
        if not recipe.fits(parameters):
            return False
        return render(recipe, self.match, parameters).digest not in self._tried

    def best(self) -> PastAttempt | None:
        """Return the fastest measured attempt that a recipe of this family made."""
        return max(
            (a for a in self.view.attempts if a.vs_baseline and self._is_ours(a)),
            key=lambda a: (a.vs_baseline or 0.0, a.attempt_id),
            default=None,
        )

    def _is_ours(self, attempt: PastAttempt) -> bool:
        recipe = self.recipe(attempt.recipe)
        return recipe is not None and recipe.fits(attempt.parameters)

    @property
    def size(self) -> int:
        """Number of candidates that the recipes can make."""
        return sum(math.prod(len(c.values) for c in recipe.choices) for recipe in self.recipes)

    def is_spent(self) -> bool:
        """Say whether every candidate that the recipes can make was tried."""
        return not any(True for recipe in self.recipes for _ in self.untried(recipe))

    def exclude(self, candidate: Candidate) -> None:
        """Count a candidate as tried that is not among the attempts yet."""
        self._tried.add(candidate.digest)

    def propose(self, lane: int, edit: Edit | None) -> Proposal:
        """Return what a lane should try; never a digest tried before while one is left.

        Args:
            lane: 0 follows the profiler, the others search around the best and explore.
            edit: the profiler's next edit, where it names a recipe.
        """
        return (
            self._opening(lane)
            or self._hinted()
            or (self._edited(edit) if edit and lane == 0 else None)
            or (self._unexplored() if self._should_explore(lane) else None)
            or self._sampled(lane)
            or self._leftover()
            or self._again()
        )

    def _opening(self, lane: int) -> Proposal | None:
        """First round: what earlier runs found fast, else the portable recipe, then defaults.

        What they found slow or saw refused is not opened with while there is anything else.
        """
        if self.view.attempts:
            return None
        found = self._remembered()
        if found:
            return found
        promising = [recipe for recipe in self.recipes if recipe.name not in self._lost]
        recipes = promising or list(self.recipes)
        if lane >= len(recipes):
            return None
        recipe = recipes[lane]
        reason = f"opening: {recipe.idea}"
        return self._proposal(recipe, recipe.defaults(), reason, recipe.expects)

    def _remembered(self) -> Proposal | None:
        """Return the kernel that weighs most among those that won before and is not tried yet."""
        for lesson in self._won:
            recipe = self.recipe(lesson.recipe)
            if recipe is None:
                continue
            reason = f"recalled {lesson.lesson_id}: {lesson.words()[:_LONGEST_HINT]}"
            factor = max(lesson.speedup or 1.0, 0.01)
            expected = Movement(metric="speedup", direction="up", factor=factor)
            found = self._proposal(recipe, lesson.parameters, reason, expected)
            if found:
                return found
        return None

    def _hinted(self) -> Proposal | None:
        """Heed the user's hints, the latest first: names of recipes, and `parameter=value`."""
        for hint in reversed(self.view.hints):
            words = set(re.findall(r"\w+", hint))
            named = [recipe for recipe in self.recipes if recipe.name in words]
            for recipe in named or self.recipes:
                wanted = recipe.read(dict(re.findall(r"(\w+)\s*=\s*([\w.]+)", hint)))
                if not named and not wanted:
                    continue
                reason = f"the user's hint: {hint[:_LONGEST_HINT]}"
                found = self._proposal(
                    recipe, {**recipe.defaults(), **wanted}, reason, recipe.expects
                )
                if found:
                    return found
        return None

    def _edited(self, edit: Edit) -> Proposal | None:
        recipe = self.recipe(edit.recipe)
        if recipe is None:
            return None
        parameters = {**recipe.defaults(), **edit.parameters}
        reason = f"the profiler's edit: {edit.change}"
        return self._proposal(recipe, parameters, reason, edit.expected)

    def _should_explore(self, lane: int) -> bool:
        return self.best() is None or lane > 0 or self.view.round % _EXPLORE_EVERY == 0

    def _unexplored(self) -> Proposal | None:
        for recipe in self.recipes:
            if not self.attempts_of(recipe) and recipe.name not in self._lost:
                reason = f"a recipe not tried yet: {recipe.idea}"
                found = self._proposal(recipe, recipe.defaults(), reason, recipe.expects)
                if found:
                    return found
        return None

    def _sampled(self, lane: int) -> Proposal | None:
        """Ask Optuna for parameters of the best recipe, now and then of the second best."""
        ranked = self._ranked()
        turn = self.view.round + lane
        if len(ranked) > 1 and turn % _EXPLORE_EVERY == _EXPLORE_EVERY - 1:
            ranked = [ranked[1], ranked[0], *ranked[2:]]
        for recipe in ranked:
            distributions = {
                choice.name: CategoricalDistribution(choice.values) for choice in recipe.choices
            }
            study = self._study(recipe, lane)
            for _ in range(_ASKS):
                parameters = study.ask(dict(distributions)).params
                reason = f"Optuna over {recipe.name}, {len(self.attempts_of(recipe))} trials known"
                expected = Movement(metric="speedup", direction="up", factor=1.02)
                proposal = self._proposal(recipe, parameters, reason, expected)
                if proposal:
                    return proposal
        return None

    def _ranked(self) -> list[Recipe]:
        """Return the parametrised recipes, the one with the fastest attempt first."""
        fastest = {
            recipe.name: max((a.vs_baseline or 0.0 for a in self.attempts_of(recipe)), default=0.0)
            for recipe in self.recipes
        }
        searched = [recipe for recipe in self.recipes if recipe.choices]
        return sorted(searched, key=lambda recipe: -fastest[recipe.name])

    def _study(self, recipe: Recipe, lane: int) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        key = f"{self.view.seed}:{len(self.view.attempts)}:{lane}:{recipe.name}"
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=_STARTUP_TRIALS
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_trial(recipe, attempt) for attempt in self.attempts_of(recipe)])
        return study

    def _leftover(self) -> Proposal | None:
        for recipe in self.recipes:
            for parameters, _ in self.untried(recipe):
                reason = f"the next set of {recipe.name} that was not tried"
                return self._proposal(recipe, parameters, reason, recipe.expects)
        return None

    def _again(self) -> Proposal:
        """Nothing is left: the best once more, which costs nothing because outcomes are kept."""
        best = self.best()
        recipe = (self.recipe(best.recipe) if best else None) or self.recipes[-1]
        parameters = dict(best.parameters) if best else recipe.defaults()
        return Proposal(
            recipe=recipe,
            parameters=parameters,
            candidate=render(recipe, self.match, parameters),
            reason="every set of parameters was tried; this is the best of them",
            expected=Movement(metric="speedup", direction="up", factor=1.0),
        )

    def _proposal(
        self, recipe: Recipe, parameters: Parameters, reason: str, expected: Movement
    ) -> Proposal | None:
        if not self.is_untried(recipe, parameters):
            return None
        return Proposal(
            recipe=recipe,
            parameters=dict(parameters),
            candidate=render(recipe, self.match, parameters),
            reason=reason,
            expected=expected,
        )

    def repaired(self, failed: PastAttempt) -> Proposal:
        """Return a safer candidate than one that was refused.

        The same recipe with its last, most cautious values; then the portable recipe; then whatever
        is left.
        """
        recipe = self.recipe(failed.recipe)
        if recipe is not None and recipe.choices:
            cautious = {choice.name: choice.values[-1] for choice in recipe.choices}
            reason = f"{failed.attempt_id} was refused ({failed.reason}); the most cautious values"
            expected = Movement(metric="speedup", direction="down", factor=0.9)
            found = self._proposal(recipe, cautious, reason, expected)
            if found:
                return found
        for portable in (recipe for recipe in self.recipes if recipe.is_portable):
            reason = f"{failed.attempt_id} was refused ({failed.reason}); plain loops instead"
            found = self._proposal(portable, portable.defaults(), reason, portable.expects)
            if found:
                return found
        return self._sampled(0) or self._leftover() or self._again()


def proposal_for(context: WriteContext, match: Match) -> Proposal:
    """Return the proposal of one lane; lanes of one round never propose the same candidate."""
    search = Search(context.view, match)
    edit = context.digest.next_edit if context.digest else None
    for lane in range(context.lane):
        search.exclude(search.propose(lane, edit).candidate)
    if context.repair is not None:
        return search.repaired(context.repair)
    return search.propose(context.lane, edit)


def allowed(recipes: tuple[Recipe, ...], vetoed: tuple[str, ...]) -> tuple[Recipe, ...]:
    """Return the recipes that the user's vetoes leave.

    Raises:
        NothingFits: none is left.
    """
    left = tuple(
        recipe
        for recipe in recipes
        if not {recipe.family, recipe.name, f"{recipe.family}/{recipe.name}"} & set(vetoed)
    )
    if recipes and not left:
        raise NothingFits(
            f"every recipe of family {recipes[0].family!r} is vetoed ({', '.join(vetoed)}); "
            "configure a model provider with --team for another kind of kernel"
        )
    return left


def _trial(recipe: Recipe, attempt: PastAttempt) -> FrozenTrial:
    """Turn an attempt into a trial; one without a speed-up failed, and tells the sampler so."""
    is_measured = attempt.vs_baseline is not None and attempt.vs_baseline > 0
    return create_trial(
        state=TrialState.COMPLETE if is_measured else TrialState.FAIL,
        params=dict(attempt.parameters),
        distributions={c.name: CategoricalDistribution(c.values) for c in recipe.choices},
        value=math.log(attempt.vs_baseline) if is_measured and attempt.vs_baseline else None,
    )
