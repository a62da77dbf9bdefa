"""The standalone repository: what a user keeps of a run, usable without this program."""

from graph.repository.ship import ship

__all__ = ["ship"]
