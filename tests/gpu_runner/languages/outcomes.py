"""Which of its two answers a builder gave; a test that gets the other one fails with its words."""

from gpu_runner.languages.artefact import Artefact, BuildRefused


def built(outcome: object) -> Artefact:
    assert isinstance(outcome, Artefact), outcome
    return outcome


def refused_by(outcome: object) -> BuildRefused:
    assert isinstance(outcome, BuildRefused), outcome
    return outcome
