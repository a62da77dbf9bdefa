import json
from pathlib import Path

import pytest

from gpu_runner.definitions import (
    load_problem,
    load_workloads,
    parse_definition,
    parse_workload,
)
from gpu_runner.errors import DefinitionError
from gpu_runner.problem import ProfileName, Workload
from tests.gpu_runner.published import (
    RMSNORM,
    SPLIT_HEADS,
    TRACE,
    rmsnorm,
    workload_complaint,
)

# Workloads ---------------------------------------------------------------------------------------


def test_a_trace_becomes_a_workload():
    workload = parse_workload(TRACE, rmsnorm(), source="w")
    assert workload == Workload(
        name="w_6120f144_b973_4bd9_b884_77ecb132914e",
        axes={"batch_size": 3},
        scalars={"eps": 1e-6},
        source="uuid 6120f144-b973-4bd9-b884-77ecb132914e",
    )


def test_a_bare_workload_is_read_alike():
    assert parse_workload(TRACE["workload"], rmsnorm(), source="w") == parse_workload(
        TRACE, rmsnorm(), source="w"
    )


def test_our_own_fields_of_a_workload_pass_through():
    given = {
        "name": "decode",
        "axes": {"batch_size": 1},
        "scalars": {"eps": 1e-5},
        "weight": 3,
        "profile": "large",
        "visibility": "hidden",
        "source": "a chat server at night",
    }
    workload = parse_workload(given, rmsnorm(), source="w")
    assert workload.name == "decode"
    assert workload.weight == 3
    assert workload.profile is ProfileName.LARGE
    assert workload.visibility == "hidden"
    assert workload.source == "a chat server at night"
    assert workload.scalars == {"eps": 1e-5}


def test_a_workload_without_uuid_is_named_by_its_sizes():
    problem = parse_definition(SPLIT_HEADS, source="k")
    assert parse_workload({"axes": {"B": 2, "S": 3}}, problem, source="w").name == "B2_S3"


def test_tolerances_of_a_published_workload_are_dropped():
    extra = {**TRACE["workload"], "tolerance": {"max_atol": 0.02}, "eval_mode": "full"}
    assert parse_workload(extra, rmsnorm(), source="w") == parse_workload(
        TRACE, rmsnorm(), source="w"
    )


@pytest.mark.parametrize("value", [True, 0, 3, 1e-6])
def test_scalars_are_numbers(value):
    given = {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar", "value": value}}}
    assert parse_workload(given, rmsnorm(), source="w").scalars == {"eps": float(value)}


EPS = {"eps": {"type": "scalar", "value": 1e-6}}


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ([], "w.jsonl:3 must be an object"),
        ({"inputs": EPS}, "w.jsonl:3: axes is missing; keys given: inputs"),
        ({"axes": {"batch_size": 1}}, "gives no value for the scalar 'eps'"),
        ({"axes": {}, "inputs": EPS}, "axes is ''; a name starts with a letter"),
        ({"uuid": "a", "axes": {}, "inputs": EPS}, "axes ['batch_size'] are missing or not var"),
        (
            {"axes": {"batch_size": 1, "hidden_size": 8}, "inputs": EPS},
            "axes ['hidden_size'] are missing or not var axes",
        ),
        ({"axes": {"batch_size": 0}, "inputs": EPS}, "breaks the constraint 'batch_size >= 1'"),
        ({"axes": {"batch_size": "x"}, "inputs": EPS}, "w.jsonl:3: axes.batch_size: Input should"),
        ({"axs": {}, "axes": {}}, "axs is not a known key; did you mean 'axes'?"),
        (
            {"axes": {"batch_size": 1}, "inputs": {"wieght": {"type": "random"}}},
            "inputs.wieght is no input of 'rmsnorm_h8'; did you mean 'weight'?",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"weight": {"type": "randn"}}},
            "inputs.weight.type is 'randn', not random or scalar; did you mean 'random'?",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"weight": {"type": "custom"}}},
            'contents are drawn anew for every timed call; make it {"type": "random"}',
        ),
        (
            {
                "axes": {"batch_size": 1},
                "inputs": {"weight": {"type": "safetensors", "path": "w.st", "tensor_key": "w"}},
            },
            "inputs.weight.type is 'safetensors', but contents are drawn anew",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"weight": {"type": "scalar", "value": 1}}},
            "inputs.weight.type is 'scalar', but the definition makes it 'random'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "random"}}},
            "inputs.eps.type is 'random', but the definition makes it 'scalar'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar"}}},
            "inputs.eps.value is missing",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar", "value": "1e-6"}}},
            "inputs.eps.value must be a number, not '1e-6'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": {"eps": {"type": "scalar", "valeu": 1}}},
            "inputs.eps.valeu is not a known key; did you mean 'value'?",
        ),
        (
            {"definition": "softmax", "workload": TRACE["workload"]},
            "definition is 'softmax', but the problem is 'rmsnorm_h8'",
        ),
        (
            {"axes": {"batch_size": 1}, "inputs": EPS, "weight": 0},
            "weight: Input should be greater",
        ),
    ],
)
def test_a_malformed_workload_is_explained(workload, words):
    assert words in workload_complaint(workload)


# Files -------------------------------------------------------------------------------------------


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_definition_file_is_read(tmp_path):
    assert load_problem(written(tmp_path, "d.json", json.dumps(RMSNORM))) == rmsnorm()


@pytest.mark.parametrize("layout", ["lines", "blank lines", "array"])
def test_workload_files_are_lines_or_an_array(tmp_path, layout):
    items = [TRACE, {"uuid": "two", "axes": {"batch_size": 5}, "inputs": EPS}]
    texts = [json.dumps(item) for item in items]
    text = {
        "lines": "\n".join(texts) + "\n",
        "blank lines": "\n\n".join(texts) + "\n\n  \n",
        "array": json.dumps(items),
    }[layout]
    workloads = load_workloads(written(tmp_path, "w.jsonl", text), rmsnorm())
    assert [w.axes["batch_size"] for w in workloads] == [3, 5]
    assert workloads[1].name == "w_two"


def file_complaint(read, *arguments) -> str:
    with pytest.raises(DefinitionError) as caught:
        read(*arguments)
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    text = file_complaint(load_problem, tmp_path / "none.json")
    assert text == f"{tmp_path / 'none.json'} cannot be read: No such file or directory"


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "d.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert file_complaint(load_problem, path) == f"{path} cannot be read: it is not UTF-8 text"


def test_a_file_that_is_no_json_says_where(tmp_path):
    path = written(tmp_path, "d.json", '{\n  "name": oops\n}')
    assert "is not JSON: Expecting value at line 2, column 11" in file_complaint(load_problem, path)


def test_a_bad_line_of_workloads_is_numbered(tmp_path):
    path = written(tmp_path, "w.jsonl", json.dumps(TRACE) + "\n{bad}\n")
    assert f"{path}:2 is not JSON" in file_complaint(load_workloads, path, rmsnorm())


def test_a_bad_item_of_an_array_is_numbered(tmp_path):
    path = written(tmp_path, "w.json", json.dumps([TRACE, {"uuid": "x"}]))
    assert f"{path}[1]: axes is missing" in file_complaint(load_workloads, path, rmsnorm())


def test_a_workload_that_is_there_twice_is_named(tmp_path):
    path = written(tmp_path, "w.jsonl", f"{json.dumps(TRACE)}\n{json.dumps(TRACE)}\n")
    text = file_complaint(load_workloads, path, rmsnorm())
    assert "w_6120f144" in text
    assert "is there more than once; rename one" in text


@pytest.mark.parametrize("text", ["", "\n\n", "[]"])
def test_a_file_without_workloads_is_refused(tmp_path, text):
    path = written(tmp_path, "w.jsonl", text)
    assert "holds no workload; add one JSON object a line" in file_complaint(
        load_workloads, path, rmsnorm()
    )
