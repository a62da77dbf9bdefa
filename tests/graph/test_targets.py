"""Reading target files, and what is said of wrong ones."""

from textwrap import dedent

import pytest
import yaml

from gpu_runner.candidate import Language
from gpu_runner.problem import DType, ProfileName
from graph.errors import TargetError
from graph.targets import describe_targets, load_target, target_names

GOOD = dedent(
    """\
    name: scale
    description: multiply rows
    problem:
      axes:
        - {name: B, kind: var}
        - {name: N, kind: var}
      inputs:
        - {name: x, shape: [B, N], dtype: T}
        - {name: mask, shape: [N], dtype: int32}
      outputs:
        - {name: y, shape: [B, N], dtype: T}
      scalars: [{name: factor, kind: float, default: 2.0}]
      constraints: ["N % 2 == 0"]
      reference: |
        def run(x, mask, factor):
            return x * factor
      flops: "B * N"
    baselines:
      - name: torch eager
        source: |
          def run(x, mask, factor):
              return x * factor
      - name: cuda only
        devices: [cuda]
        source: |
          def run(x, mask, factor):
              return x * factor
    devices:
      cpu:
        dtypes: {T: float32}
        threads: 2
        languages: [cpp]
        workloads:
          - {name: small, axes: {B: 2, N: 4}, weight: 3, source: somewhere}
          - {name: large, axes: {B: 64, N: 4096}, scalars: {factor: 3}}
        hidden:
          - {name: odd, axes: {B: 3, N: 6}, profile: large}
      cuda:
        dtypes: {T: bfloat16}
        arch: sm_90a
        languages: [cuda, triton]
        workloads:
          - {name: small, axes: {B: 2, N: 4}}
    budget: {rounds: 9}
    """
)


@pytest.fixture
def write(tmp_path):
    def writer(text: str):
        path = tmp_path / "scale.yaml"
        path.write_text(text)
        return str(path)

    return writer


def refused(write, text: str, device: str = "cpu") -> str:
    with pytest.raises(TargetError) as caught:
        load_target(write(text), device)  # type: ignore[arg-type]  # some devices are wrong on purpose
    return str(caught.value)


# -- good ----------------------------------------------------------------------------------------


def test_a_target_is_concrete_for_its_device(write):
    target = load_target(write(GOOD))
    assert target.name == target.problem.name == "scale"
    assert [t.dtype for t in target.problem.inputs] == [DType.FLOAT32, DType.INT32]
    assert target.hardware.model_dump() == {"device": "cpu", "threads": 2, "arch": ""}
    assert target.scope.languages == (Language.CPP,)
    assert [w.name for w in target.public] == ["small", "large"]
    assert [w.name for w in target.hidden] == ["odd"]
    assert target.hidden[0].profile is ProfileName.LARGE
    assert target.public[0].weight == 3
    assert target.public[1].scalars == {"factor": 3}
    assert [b.name for b in target.baselines] == ["torch eager"]
    assert target.baselines[0].is_trusted
    assert target.goal.against == "torch eager"
    assert target.budget.rounds == 9


def test_the_same_file_serves_another_device(write):
    target = load_target(write(GOOD), "cuda")
    assert target.problem.inputs[0].dtype is DType.BFLOAT16
    assert target.hardware.arch == "sm_90a"
    assert target.scope.languages == (Language.CUDA, Language.TRITON)
    assert [b.name for b in target.baselines] == ["torch eager", "cuda only"]


def test_the_goal_refers_to_the_first_baseline_of_the_device_unless_it_is_said(write):
    text = GOOD + "goal: {speedup: 2, against: cuda only}\n"
    assert load_target(write(text), "cuda").goal.against == "cuda only"
    assert "did you mean" in refused(write, GOOD + "goal: {against: torch eagr}\n")


def test_overrides_change_goal_scope_budget_and_hardware(write):
    target = load_target(
        write(GOOD),
        overrides={
            "budget": {"rounds": 3, "wall_s": 60},
            "scope": {"lanes": 4},
            "goal": {"speedup": 1.5},
            "hardware": {"threads": 1},
        },
    )
    assert (target.budget.rounds, target.budget.wall_s) == (3, 60)
    assert (target.scope.lanes, target.scope.languages) == (4, (Language.CPP,))
    assert target.goal.speedup == 1.5
    assert target.hardware.threads == 1


def test_a_device_may_have_a_goal_of_its_own(write):
    text = GOOD.replace(
        "    arch: sm_90a\n", "    arch: sm_90a\n    goal: {speedup: 3, against: best}\n"
    )
    text += "goal: {speedup: 2, against: torch eager}\n"
    on_gpu = load_target(write(text), "cuda").goal
    assert (on_gpu.speedup, on_gpu.against) == (3, "best")
    assert load_target(write(text)).goal.speedup == 2


def test_one_source_serves_several_baselines_through_its_constants(write):
    text = GOOD.replace("    source: |\n", "    source: &text |\n", 1).replace(
        "  - name: cuda only\n",
        "  - name: other\n    constants: {MODE: it's, COUNT: 3}\n    source: *text\n"
        "  - name: cuda only\n",
    )
    eager, other = load_target(write(text)).baselines
    assert other.name == "other"
    assert other.candidate.sources[0].text == (
        'MODE = "it\'s"\nCOUNT = 3\n' + eager.candidate.sources[0].text
    )
    assert other.candidate.digest != eager.candidate.digest


def test_a_constant_is_a_name_and_a_plain_value(write):
    for constants in ("{no-name: 1}", "{MODE: [1]}"):
        text = GOOD.replace(
            "  - name: torch eager\n", f"  - name: torch eager\n    constants: {constants}\n"
        )
        assert "baselines[0].constants" in refused(write, text)


# -- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"budgets": {}}, "budgets: unknown key; did you mean 'budget'?"),
        ({"budget": {"round": 3}}, "budget.round: unknown key; did you mean 'rounds'?"),
        ({"budget": {"rounds": 0}}, "budget.rounds"),
        ({"scope": {"lanes": 99}}, "scope.lanes"),
        ({"budget": 3}, "budget"),
        ({"problem": {"name": "other"}}, "problem: unknown key"),
    ],
)
def test_wrong_overrides_are_explained(write, overrides, message):
    with pytest.raises(TargetError) as caught:
        load_target(write(GOOD), overrides=overrides)
    assert message in str(caught.value)


# -- bad -----------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(TargetError, match="unknown target 'sofmax'; did you mean 'softmax'"):
        load_target("sofmax")


def test_a_missing_file_is_named():
    with pytest.raises(TargetError, match=r"nowhere/x\.yaml.*does not exist"):
        load_target("nowhere/x.yaml")


def test_a_yaml_error_names_file_and_line(write):
    message = refused(write, GOOD.replace("threads: 2", "threads: [2"))
    assert "scale.yaml line" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("description:", "descripton:", "line 2: descripton: unknown key; did you mean"),
        ("kind: var}", "knd: var}", "problem.axes[0].knd: unknown key; did you mean 'kind'?"),
        ("    workloads:\n      - {name: small, axes: {B: 2, N: 4}, weight: 3",
         "    workload:\n      - {name: small, axes: {B: 2, N: 4}, weight: 3",
         "devices.cpu.workload: unknown key; did you mean 'workloads'?"),
        ("dtype: T}", "dtype: U}", "unknown element type 'U'"),
        ("dtype: int32", "dtype: int23", "did you mean 'int32'"),
        ("float32}", "float33}", "devices.cpu.dtypes.T"),
        ("shape: [N]", "shape: [M]", "unknown axis 'M'"),
        ("N: 4}, weight", "N: 5}, weight", "breaks the constraint 'N % 2 == 0'"),
        ("{B: 2, N: 4}, weight", "{B: 2}, weight", "axes ['N'] are missing"),
        ("name: large, ", "name: small, ", "'small' is given twice"),
        ("name: odd, ", "name: large, ", "'large' is given twice"),
        ("profile: large", "profile: larg", "devices.cpu.hidden[0].profile"),
        ("weight: 3", "weight: 0", "devices.cpu.workloads[0].weight"),
        ("languages: [cpp]", "languages: [c]", "devices.cpu.languages[0]"),
        ("languages: [cpp]", "languages: []", "devices.cpu.languages"),
        ("threads: 2", "threads: two", "(found 'two')"),
        ('flops: "B * N"', 'flops: "B * M"', "unknown axis 'M'"),
        ("    def run(x, mask, factor):\n        return x * factor\n  flops",
         "    def run(x, mask, factor:\n        return x * factor\n  flops",
         "problem.reference: is not Python"),
        ("    def run(x, mask, factor):\n        return x * factor\n  flops",
         "    def rum(x, mask, factor):\n        return x * factor\n  flops",
         "problem.reference: defines no `run(...)`"),
        ("name: torch eager", "name: -torch", "baselines[0]"),
        ("default: 2.0", "default: null", "no value for the scalar 'factor'"),
        ("name: scale", "name: scale-rows", "name"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_key_path(write, old, new, message):
    assert old in GOOD
    assert message in refused(write, GOOD.replace(old, new, 1))


def test_problems_of_one_file_have_lines(write):
    message = refused(write, GOOD.replace("threads: 2", "threads: two"))
    number = next(n for n, line in enumerate(GOOD.splitlines(), 1) if "threads" in line)
    assert f"line {number}" in message


def test_a_device_that_the_file_lacks_is_named(write):
    document = yaml.safe_load(GOOD)
    del document["devices"]["cuda"]
    message = refused(write, yaml.safe_dump(document), "cuda")
    assert "has no 'cuda'; it has 'cpu'" in message


def test_a_device_without_a_baseline_is_refused(write):
    document = yaml.safe_load(GOOD)
    del document["baselines"][0]
    assert "none of them is for the device 'cpu'" in refused(write, yaml.safe_dump(document))


@pytest.mark.parametrize("section", ["problem", "baselines", "devices", "name"])
def test_a_missing_section_is_named(write, section):
    document = yaml.safe_load(GOOD)
    del document[section]
    assert section in refused(write, yaml.safe_dump(document))


def test_a_baseline_assigned_to_run_is_one(write):
    document = yaml.safe_load(GOOD)
    document["baselines"][0]["source"] = "import torch\nrun = torch.mul\n"
    assert load_target(write(yaml.safe_dump(document))).baselines


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff\xfe", b"[1]", b"a: 1\na: 2"])
def test_files_that_are_no_target_are_refused(tmp_path, content):
    path = tmp_path / "t.yaml"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"t\.yaml"):
        load_target(str(path))


def test_every_shipped_target_is_described():
    described = describe_targets()
    assert [one["name"] for one in described] == list(target_names())
    assert all(one["description"] for one in described)
    devices = {one["name"]: one["devices"] for one in described}
    assert devices["softmax"] == "cpu, cuda"
    assert devices["quantize_per_token"] == "cuda"
