"""The command line and a scenario pool as processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from agents.replies import Plan
from tests.graph.builders import make_digest, make_draft, make_plan, make_research, make_review

ROOT = Path(__file__).parents[2]


def kernelpilot(
    *arguments: str, cwd: Path, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run the command line in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "graph.cli", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def environment() -> dict[str, str]:
    """An environment without keys, that finds this checkout from everywhere."""
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def only_json(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object of standard output; anything else there is a failure."""
    lines = finished.stdout.splitlines()
    assert len(lines) == 1, finished.stdout + finished.stderr
    return dict(json.loads(lines[0]))


def write_script(path: Path, *texts: str, plan: Plan | None = None) -> Path:
    """A team's script: the drafts of one lane, in order of the writer's turns."""

    def dumped(model):
        return model.model_dump(mode="json")

    script = {
        "plan": [dumped(plan or make_plan())],
        "research": [dumped(make_research())],
        "write": [dumped(make_draft(text)) for text in texts],
        "digest": [dumped(make_digest())],
        "review": [dumped(make_review())],
    }
    path.write_text(yaml.safe_dump(script))
    return path


@contextmanager
def scenario_bus(folder: Path) -> Iterator[str]:
    """A broker and a worker whose jobs end as their candidates' texts say; yields the endpoint."""
    endpoint = f"ipc://{folder}/bus"
    runner = [sys.executable, "-m", "gpu_runner.cli"]
    common = ["--endpoint", endpoint, "--parent", str(os.getpid())]
    commands = (
        [*runner, "broker", *common, "--state", str(folder / "broker")],
        [
            *(*runner, "worker", *common, "--workspace", str(folder / "work")),
            *("--executor", "tests.graph.pool:execute"),
        ],
    )
    with ExitStack() as stack:
        for command in commands:
            process = stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
            )
            stack.callback(process.terminate)
        yield endpoint
