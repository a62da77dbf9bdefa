"""Languages a candidate may be written in: one builder each, sources in, artefact out."""

from gpu_runner.languages.artefact import Artefact, BuildRefused

__all__ = ["Artefact", "BuildRefused"]
