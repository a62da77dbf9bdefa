"""A target made from a sentence, and a run that says what was assumed."""

import json

import pytest

from graph.devices import choose
from graph.errors import TargetError
from graph.requested import amended, known_target, request_of
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import PoolSettings, load_settings
from graph.target_schema import Device
from graph.targets import load_target, target_names
from tests.agents.test_request import ISSUE
from tests.graph.pool import ScenarioPool
from tests.graph.processes import kernelpilot, only_json
from tests.graph.teams import TableTeam

IN_WORDS = "softmax on the CPU for B=4, N=256, beat torch compile by 20 %, 1 round"


def made(text: str, device: Device):
    request = request_of(text)
    return load_target(request.target, device, {}, lambda raw: amended(raw, request, device))


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_can_be_asked_for_by_its_name(name):
    assert request_of(f"make {name} faster").target == name
    known = known_target(name)
    assert known.axes
    assert known.goals.keys() == set(known.devices)


def test_the_request_of_the_card_is_a_target_of_one_shape():
    target = made(ISSUE, "cuda")
    (workload,) = target.public
    assert (workload.name, workload.axes) == ("m64_n2048_k2048", {"M": 64, "N": 2048, "K": 2048})
    assert target.hardware.arch == "sm_90"
    assert (target.goal.speedup, target.goal.against) == (1.1, "best")
    assert {t.dtype.value for t in target.problem.outputs} == {"float16"}
    own = load_target("int8_scaled_mm", "cuda")
    assert target.hidden == own.hidden, "what decides rightness is not asked for"
    assert target.baselines == own.baselines


def test_another_element_type_changes_the_tolerance_with_it():
    half = made("softmax on a GPU in fp16 now", "cuda")
    own = load_target("softmax", "cuda")
    assert {t.dtype.value for t in half.problem.outputs} == {"float16"}
    assert half.problem.reference != own.problem.reference or half.problem != own.problem


def test_what_is_not_said_is_the_targets_own():
    assert made("make softmax faster", "cpu") == load_target("softmax", "cpu")


def test_overrides_of_the_command_line_outweigh_the_sentence():
    request = request_of(IN_WORDS)
    target = load_target(
        "softmax", "cpu", {"budget": {"rounds": 7}}, lambda raw: amended(raw, request, "cpu")
    )
    assert target.budget.rounds == 7
    assert target.goal.against == "torch compile"


async def test_a_request_chooses_among_the_devices_of_its_target():
    assert await choose("auto", "softmax", PoolSettings(endpoint="", state="")) in {"cpu", "cuda"}


def test_what_is_missing_is_one_error_of_the_target():
    with pytest.raises(TargetError, match=r"(?s)the size of N, K.*without bias"):
        request_of("int8_scaled_mm for M=64 without bias")


async def test_a_run_keeps_the_sentence_and_what_was_assumed(tmp_path):
    request = request_of(IN_WORDS)
    target = made(IN_WORDS, "cpu")
    files, team, pool = RunFiles(tmp_path / "softmax-1"), TableTeam(), ScenarioPool()
    await begin(files, target, team.name, pool, seed=0, request=request)
    await drive(files, load_settings(), team, pool)
    manifest = files.read_manifest()
    assert manifest.request == IN_WORDS
    assert manifest.assumptions == request.assumptions
    (event,) = [e for e in files.events.read() if e.kind == "decision" and e.subject == "request"]
    assert "element type: T is float32" in event.reason
    page = (files.root / "report.html").read_text()
    assert "Asked for: softmax on the CPU" in page
    assert "element type: T is float32" in page
    assert "kernelpilot run &#39;softmax on the CPU" in page, "the command that repeats it"


def test_the_command_line_refuses_an_incomplete_sentence_before_anything_starts(tmp_path):
    finished = kernelpilot("run", "make attention faster", "--json", cwd=tmp_path)
    assert finished.returncode == 2
    assert "no kernel of those that come with the program" in only_json(finished)["error"]
    assert not (tmp_path / "runs").exists()
    assert json.loads(finished.stdout)["exit_code"] == 2
