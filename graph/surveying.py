"""Asks the models of a team what they can do, before a run depends on them."""

from rich.console import Console
from rich.text import Text

from agents.errors import ModelRefused
from agents.roles import Team
from agents.team import ModelTeam
from graph.errors import SettingsError
from graph.target import Target


async def survey(team: Team, console: Console) -> None:
    """Print a line for each model of a team; nothing for a team without models.

    Raises:
        ModelRefused: a model that a role depends on cannot be used; says why.
    """
    if not isinstance(team, ModelTeam):
        return
    faults = []
    for found in await team.survey(is_thorough=False):
        console.print(Text(f"model {found.line}"), soft_wrap=True)
        if found.fault and not found.is_limited and team.needs(found.provider, found.model):
            faults.append(found.line)
    if faults:
        raise ModelRefused(f"{'; '.join(faults)}; `kernelpilot doctor --models` asks again")


def refuse_unpriced(team: Team, target: Target) -> None:
    """Refuse a budget of dollars that cannot be held: a model whose price is not known.

    Raises:
        SettingsError: names the models, and what to set.
    """
    if target.budget.usd is None or not isinstance(team, ModelTeam):
        return
    unpriced = sorted({plan.model for plan in team.plans if not plan.is_priced})
    if unpriced:
        raise SettingsError(
            f"the budget of {target.budget.usd} USD cannot be held: no price of "
            f"{', '.join(unpriced)} is known; set input_usd_per_million and output_usd_per_million "
            "of that model, or take the budget off"
        )
