"""The report of a run: one HTML file, no script, nothing fetched; made from the ledger's facts."""

from graph.report.render import render

__all__ = ["render"]
