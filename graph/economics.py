"""What the next attempts are expected to gain, what they cost, and what the best one cost. Pure.

The outlook is the expected improvement of Bayesian optimisation without a model of the search
space: attempts since the last promotion are draws of one normal distribution of log speed-ups over
the incumbent. Search gets better as it learns and worse as it runs dry, so the draws are recent.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

from gpu_runner.message import Message
from graph.events import AnyEvent, AttemptDecided
from graph.ledger import Attempt, AttemptOutcome, Effort
from graph.meter import Meter
from graph.target import Budget

LEAST_ATTEMPTS = 6
"""Fewer say nothing about a distribution."""
_LEAST_SPREAD = 0.002
"""Standard deviation of log speed-ups that a measurement always has."""


class Outlook(Message):
    """What one more attempt promises."""

    attempts: int
    """That it was estimated from."""
    gain: float
    """Expected log speed-up of the next attempt over the incumbent, what is below it being 0."""


class Price(Message):
    """What a round costs, the median of those so far."""

    usd: float = 0.0
    """Paid to model providers."""
    job_s: float = 0.0

    def total_usd(self, budget: Budget) -> float:
        """Return the price with the device's time, where that has one."""
        return self.usd + self.job_s / _HOUR_S * budget.device_usd_per_hour


_HOUR_S = 3600.0


def outlook(idle: Sequence[Attempt], budget: Budget) -> Outlook | None:
    """Estimate from the attempts since the last promotion or pivot; None: too few.

    An attempt that was refused gained nothing, and counts.

    Args:
        idle: in order; only the last `budget.plateau_attempts` count.
        budget: whose `plateau_attempts` is how far one looks back and ahead.
    """
    recent = [a for a in idle if a.outcome is not AttemptOutcome.UNSERVED]
    recent = recent[-budget.plateau_attempts :]
    logs = [math.log(a.feedback.overall.speedup) for a in recent if a.feedback is not None]
    if len(recent) < LEAST_ATTEMPTS or len(logs) < LEAST_ATTEMPTS // 2:
        return None
    mean, count = statistics.fmean(logs), len(logs)
    # The next draw: its own spread, and that of the mean it is drawn around.
    spread = max(_LEAST_SPREAD, statistics.stdev(logs)) * math.sqrt(1 + 1 / count)
    normal = statistics.NormalDist()
    score = mean / spread
    gain = mean * normal.cdf(score) + spread * normal.pdf(score)
    return Outlook(attempts=len(recent), gain=max(0.0, gain) * count / len(recent))


def hopeless(found: Outlook | None, idle_attempts: int, budget: Budget) -> str:
    """Return why a plateau is reached before its number of attempts is; empty where it is not.

    Half of that number must have been made: an early verdict would be about the opening.
    """
    if found is None or idle_attempts < max(LEAST_ATTEMPTS, budget.plateau_attempts // 2):
        return ""
    ahead = math.expm1(budget.plateau_attempts * found.gain)
    if ahead >= budget.least_gain:
        return ""
    return (
        f"the last {found.attempts} attempts promise {ahead:.2%} from {budget.plateau_attempts} "
        f"more, less than {budget.least_gain:.2%}"
    )


def overpriced(found: Outlook | None, price: Price, lanes: int, budget: Budget) -> str:
    """Return why the next round is not worth its price; empty where it is, or nobody said.

    Args:
        found: the outlook; without one the round is worth trying.
        price: of a round.
        lanes: attempts a round.
        budget: says what one percent is worth.
    """
    if budget.usd_per_percent is None or found is None:
        return ""
    percent = 100 * math.expm1(lanes * found.gain)
    worth, costs = percent * budget.usd_per_percent, price.total_usd(budget)
    if worth >= costs:
        return ""
    return (
        f"the next round is expected to gain {percent:.3f} %, worth ${worth:.4f}, "
        f"and costs ${costs:.4f}"
    )


def effort_to(events: Iterable[AnyEvent], attempt_id: str) -> Effort | None:
    """Return what was spent until an attempt was decided; None where the log does not say."""
    meter = Meter((), lambda: 0.0)
    for event in events:
        meter.add(event)
        if isinstance(event, AttemptDecided) and event.attempt_id == attempt_id:
            spent = meter.spent(event.round)
            return Effort(
                rounds=spent.rounds,
                wall_s=round(event.elapsed_s, 3),
                job_s=round(spent.job_s, 3),
                tokens=spent.tokens,
                usd=round(spent.usd, 6),
            )
    return None
