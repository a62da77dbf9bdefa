"""Insists: the one place where a provider's call is tried again, and where another model steps in.

The clients' own retries are off. A rate limit or a quota is waited for, as long as the plan allows;
a busy or silent server is tried a few times with growing pauses; then the fallback is asked, and
for a while asked first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from itertools import count

from agents.billing import charge
from agents.errors import ModelBusy, ModelError, ModelRefused, ModelTimeout, ModelUnavailable
from agents.model import Answer, Form, Turn
from agents.providers.plan import ModelPlan
from agents.providers.survey import Survey
from agents.providers.surveyed import SurveyedModel
from agents.roles import Spend

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 300.0
_REST = 8
"""Calls for which a model that failed is asked last, where there is a fallback."""

Sleep = Callable[[float], Awaitable[None]]


def next_pause(
    plan: ModelPlan, error: ModelError, tried: int, waited_s: float, *, is_last: bool = True
) -> float | None:
    """Return how long to wait before the next try; None: give up.

    Args:
        plan: whose patience.
        error: of the last try.
        tried: tries before it.
        waited_s: pauses so far.
        is_last: no other model could be asked instead of waiting for a limit to end.
    """
    if plan.retries == 0:
        return None
    growing = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tried, 16))
    told = error.retry_after_s or 0.0 if isinstance(error, ModelBusy) else 0.0
    pause = max(growing, told)
    if isinstance(error, ModelBusy) and error.is_limit and is_last:
        return pause if waited_s + pause <= plan.patience_s else None
    return pause if tried < plan.retries and pause <= plan.patience_s else None


class Patient:
    """A model that is insisted on, and those that step in for it. Implements `ChatModel`."""

    def __init__(
        self,
        models: Sequence[tuple[SurveyedModel, ModelPlan]],
        *,
        gate: asyncio.Semaphore | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Take the model and its fallbacks, each with its plan.

        Args:
            models: in the order they are asked; one at least.
            gate: passed by every request of this model, with others of the same endpoint.
            sleep: waits; tests count instead.
        """
        self._models = tuple(models)
        first, _ = self._models[0]
        self.name, self.provider = first.name, first.provider
        self._gate = gate
        self._sleep = sleep
        self._rests = 0
        self._waits = Spend()

    @property
    def makes(self) -> frozenset[tuple[str, str]]:
        """Provider and name of every model that may answer."""
        return frozenset((model.provider, model.name) for model, _ in self._models)

    @property
    def plans(self) -> tuple[ModelPlan, ...]:
        """The plan of the model, and those of its fallbacks."""
        return tuple(plan for _, plan in self._models)

    async def survey(self, *, is_thorough: bool) -> tuple[Survey, ...]:
        """Ask the model and each fallback what it can do; see `SurveyedModel.survey`."""
        return tuple([await model.survey(is_thorough=is_thorough) for model, _ in self._models])

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        """Answer the last turn, whoever of the models does.

        Raises:
            ModelRefused: nobody serves this request.
            ModelUnavailable: busy or silent for longer than the patience allowed.
            ModelBusy, ModelTimeout: the same, of a plan without patience.
        """
        asked = (*self._models[1:], self._models[0]) if self._rests else self._models
        self._rests = max(0, self._rests - 1)
        for number, (model, plan) in enumerate(asked, start=1):
            is_last = number == len(asked)
            try:
                return await self._insist(model, plan, turns, form, is_last=is_last)
            except (ModelBusy, ModelTimeout, ModelUnavailable, ModelRefused) as error:
                if is_last:
                    raise
                if number == 1 and model is self._models[0][0]:
                    self._rests = _REST
                logger.warning("model failed, another steps in model=%s: %s", model.name, error)
        raise AssertionError("the last model answers or raises")

    async def _insist(
        self,
        model: SurveyedModel,
        plan: ModelPlan,
        turns: Sequence[Turn],
        form: Form | None,
        *,
        is_last: bool,
    ) -> Answer:
        waited_s = 0.0
        for tried in count():
            try:
                async with self._gate or nullcontext():
                    return await model.answer(turns, form)
            except (ModelBusy, ModelTimeout) as error:
                pause = next_pause(plan, error, tried, waited_s, is_last=is_last)
                if pause is None:
                    if plan.retries == 0:
                        raise
                    raise ModelUnavailable(
                        f"{error}; given up after {tried + 1} tries and {waited_s:.0f} s of pauses"
                    ) from error
                logger.warning("model busy, waiting %.1f s model=%s: %s", pause, model.name, error)
            await self._sleep(pause)
            waited_s += pause
            self._wait(pause)
        raise AssertionError("tries end by an answer or an error")

    def _wait(self, pause_s: float) -> None:
        cost = Spend(waits=1, waited_s=pause_s)
        self._waits += cost
        charge(cost)

    def spend(self) -> Spend:
        """Return the cost of all of them so far."""
        total = self._waits
        for model, _ in self._models:
            total += model.spend()
        return total
