"""Providers of language models, one file for each library, imported when it is used."""

import asyncio
from collections.abc import Sequence

from agents.errors import ModelRefused
from agents.providers.patience import Patient
from agents.providers.plan import ModelPlan
from agents.providers.surveyed import SurveyedModel

__all__ = ["ModelPlan", "connect"]


def connect(
    plan: ModelPlan,
    *,
    key: str,
    fallbacks: Sequence[tuple[ModelPlan, str]] = (),
    gate: asyncio.Semaphore | None = None,
) -> Patient:
    """Return a model; nothing is sent before it is asked.

    Args:
        plan: which one.
        key: the provider's key; may be empty for servers that want none.
        fallbacks: who is asked where it fails, each with its key.
        gate: shared by the models of one endpoint that answers few requests at once.

    Raises:
        ModelRefused: the library is not installed, a key is missing, or it would travel in clear;
            names what to do.
    """
    chosen = ((plan, key), *fallbacks)
    return Patient([(_model(one, secret), one) for one, secret in chosen], gate=gate)


def _model(plan: ModelPlan, key: str) -> SurveyedModel:
    if key and plan.is_in_clear:
        raise ModelRefused(
            f"model {plan.model!r}: the key would travel in clear to {plan.base_url}; use https, "
            "a tunnel to this machine, or a server without a key (key_env of an unset variable)"
        )
    try:
        if plan.provider == "anthropic":
            from agents.providers.anthropic import AnthropicModel  # noqa: PLC0415 - 2 s to import

            return AnthropicModel(plan, key=key)
        from agents.providers.openai import OpenAIModel  # noqa: PLC0415 - 2 s to import
    except ImportError as error:
        raise ModelRefused(
            f"provider {plan.provider!r}: {error}; install it with pip install 'kernelpilot[run]'"
        ) from error
    return OpenAIModel(plan, key=key)
