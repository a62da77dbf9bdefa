"""The embedded default team: deterministic, without a model. `Playbook` is its one public name."""

from agents.playbook.team import Playbook

__all__ = ["Playbook"]
