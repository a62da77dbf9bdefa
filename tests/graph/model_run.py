"""Whole runs whose roles are answered by the loopback server: what each says, and where."""

import json
from collections.abc import Callable
from typing import Any

from pydantic import JsonValue

from agents.team import ModelTeam
from gpu_runner.message import Message
from graph.settings import ModelSettings
from graph.wiring import model_team
from tests.agents.model_server import ModelServer, Say
from tests.graph.builders import (
    make_digest,
    make_draft,
    make_inspection,
    make_plan,
    make_research,
    make_review,
)

KEY = "sk-secret-0123456789abcdef"
ROLES = ("planner", "researcher", "writer", "profiler", "reviewer")
Answer = Callable[[str], str | Say]


def role_of(request: dict[str, Any]) -> str:
    """The role that a request asks; empty for the survey."""
    told = json.dumps(request["messages"][0]) if "messages" in request else ""
    told += json.dumps(request.get("system", ""))
    return next((role for role in ROLES if f"You are the {role}." in told), "")


def prompt_of(request: dict[str, Any]) -> str:
    """Everything that a request tells the model."""
    return json.dumps([request.get("system", ""), request["messages"]], ensure_ascii=False)


class Roles:
    """Answers of the roles, each a function of the prompt; the writer's text is new each time.

    `inspector` is the reviewer, asked about the final kernel.
    A writer's text says to the scenario pool how long its calls take: `us=60`.
    """

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.drafts = 0
        self.read: list[bool] = []
        """For tests: whether a prompt held what they look for."""

    def __call__(self, request: dict[str, Any]) -> Say:
        role = role_of(request)
        if role == "reviewer" and '"Remark"' in json.dumps(request).replace("\\", ""):
            role = "inspector"
        said = self.answers.get(role, lambda prompt: self._usual(role))(prompt_of(request))
        return said if isinstance(said, Say) else Say(text=said)

    def draft(self, note: str = "us=60") -> str:
        """A candidate that was not written before."""
        self.drafts += 1
        return make_draft(f"// {note}\nint draft_{self.drafts};\n").model_dump_json()

    def _usual(self, role: str) -> str:
        if role == "writer":
            return self.draft()
        made: dict[str, Message] = {
            "planner": make_plan(),
            "researcher": make_research(),
            "profiler": make_digest(),
            "reviewer": make_review(),
            "inspector": make_inspection(),
        }
        return made[role].model_dump_json() if role in made else '{"word": "ready"}'


def make_models(
    server: ModelServer, steps_in: dict[str, JsonValue] | None = None, repairs: int = 1, **changes
) -> ModelTeam:
    """A team whose models are all at the loopback server: one works, another reviews."""
    default = {
        "provider": "openai",
        "base_url": f"{server.url}/v1",
        "model": "worker",
        "retries": 0,
        "input_usd_per_million": 1.0,
        **changes,
    }
    models = ModelSettings(
        default=default, reviewer={"model": "judge"}, fallback=steps_in or {}, repairs=repairs
    )
    return model_team(models, environment={"OPENAI_API_KEY": KEY})
