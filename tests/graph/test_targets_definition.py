"""Targets whose problem and workloads are published files beside them."""

import json
from textwrap import dedent
from typing import Any

import pytest

from gpu_runner.problem import DType, ProfileName
from graph.errors import TargetError
from graph.targets import load_target
from tests.gpu_runner.published import RMSNORM, TRACE

BARE = {
    "axes": {"batch_size": 64},
    "uuid": "9",
    "weight": 3.0,
    "inputs": TRACE["workload"]["inputs"],
}
HIDDEN = {
    "name": "odd",
    "axes": {"batch_size": 7},
    "scalars": {"eps": 1e-5},
    "visibility": "hidden",
    "profile": "large",
}
TARGET = dedent(
    """\
    name: norm
    definition: norm.json
    workloads_file: norm.jsonl
    baselines:
      - name: torch eager
        source: |
          def run(hidden_states, weight, eps):
              return hidden_states
    devices:
      cpu:
        languages: [cpp]
    """
)
LISTED = f"""{TARGET}\
    workloads:
      - {{name: listed, axes: {{batch_size: 5}}, scalars: {{eps: 1.0e-6}}}}
    hidden:
      - {{name: kept, axes: {{batch_size: 6}}, scalars: {{eps: 1.0e-6}}}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "norm.json").write_text(json.dumps(RMSNORM))
    (tmp_path / "norm.jsonl").write_text(lines(TRACE, BARE, HIDDEN))
    return tmp_path


def lines(*workloads: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(workload)}\n" for workload in workloads)


def read(folder, text: str = TARGET):
    path = folder / "norm.yaml"
    path.write_text(text)
    return load_target(str(path))


def refused(folder, text: str = TARGET) -> str:
    with pytest.raises(TargetError) as caught:
        read(folder, text)
    return str(caught.value)


def test_problem_and_workloads_come_from_published_files(folder):
    target = read(folder)
    assert (target.name, target.problem.name) == ("norm", "rmsnorm_h8")
    assert [tensor.dtype for tensor in target.problem.inputs] == [DType.FLOAT32, DType.FLOAT32]
    assert target.problem.array_type == "torch"
    assert [workload.axes for workload in target.public] == [{"batch_size": 3}, {"batch_size": 64}]
    assert target.public[1].weight == 3.0
    (hidden,) = target.hidden
    assert (hidden.name, hidden.profile) == ("odd", ProfileName.LARGE)


def test_listed_workloads_follow_those_of_the_file(folder):
    target = read(folder, LISTED)
    assert [workload.name for workload in target.public][-1] == "listed"
    assert [workload.name for workload in target.hidden] == ["odd", "kept"]


def test_a_definition_needs_no_workloads_file(folder):
    target = read(folder, LISTED.replace("workloads_file: norm.jsonl\n", ""))
    assert [workload.name for workload in target.workloads] == ["listed", "kept"]


def test_files_are_found_beside_the_target_wherever_it_is_read_from(folder, monkeypatch):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert read(folder).problem.name == "rmsnorm_h8"


def test_the_budget_of_such_a_target_can_be_overridden(folder):
    path = folder / "norm.yaml"
    path.write_text(TARGET)
    target = load_target(str(path), overrides={"budget": {"rounds": 2}})
    assert target.budget.rounds == 2


PROBLEM = """problem:
  axes: []
  inputs: []
  outputs: []
  reference: ''
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TARGET.replace("norm.json\n", "none.json\n"), "line 2: definition: "),
        (TARGET.replace("norm.json\n", "none.json\n"), "none.json cannot be read"),
        (TARGET.replace("norm.jsonl", "none.jsonl"), "line 3: workloads_file: "),
        (TARGET.replace("definition: norm.json\n", ""), "give either `problem:` or `definition:`"),
        (TARGET + PROBLEM, "give either `problem:` or `definition:`"),
        (TARGET.replace("workloads_file", "workload_file"), "did you mean 'workloads_file'"),
        (TARGET.replace("workloads_file: norm.jsonl\n", ""), "no public workload; list one"),
        (
            TARGET.replace("languages", "dtypes: {T: float32}\n    languages"),
            "devices.cpu.dtypes: a definition names its element types itself",
        ),
    ],
)
def test_a_wrong_target_is_refused_with_the_place(folder, text, said):
    assert said in refused(folder, text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "norm.json is not JSON"),
        (json.dumps({**RMSNORM, "custom_inputs_entrypoint": "f"}), "custom_inputs_entrypoint"),
        (json.dumps({**RMSNORM, "referense": ""}), "reference"),
        (json.dumps({key: RMSNORM[key] for key in RMSNORM if key != "outputs"}), "outputs"),
    ],
)
def test_a_wrong_definition_is_told_as_the_targets(folder, content, said):
    (folder / "norm.json").write_text(content)
    message = refused(folder)
    assert "norm.yaml line 2: definition: " in message
    assert said in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no workload"),
        (lines(TRACE, TRACE), "more than once"),
        (lines({**TRACE, "definition": "softmax"}), "is 'softmax'"),
        (lines({**BARE, "axes": {"batch_size": 0}}), "norm.jsonl:1"),
        (lines({"axes": {"batch": 4}}), "norm.jsonl:1"),
    ],
)
def test_a_wrong_workloads_file_is_told_as_the_targets(folder, content, said):
    (folder / "norm.jsonl").write_text(content)
    message = refused(folder)
    assert "norm.yaml line 3: workloads_file: " in message
    assert said in message


def test_a_file_with_hidden_workloads_only_measures_nothing(folder):
    (folder / "norm.jsonl").write_text(lines(HIDDEN))
    assert "devices.cpu.workloads: no public workload" in refused(folder)


def test_a_listed_workload_may_not_take_a_name_of_the_file(folder):
    message = refused(folder, LISTED.replace("name: kept", "name: odd"))
    assert "devices.cpu.hidden[0]: the name 'odd' is given twice" in message
