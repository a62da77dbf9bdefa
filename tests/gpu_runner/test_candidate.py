import pytest
from pydantic import ValidationError

from gpu_runner.candidate import (
    Candidate,
    Contender,
    Language,
    Launch,
    LaunchPlan,
    Slice,
    Source,
    TensorMap,
    Value,
)
from gpu_runner.message import canonical_json, digest_of
from tests.builders import make_candidate

LAUNCH = Launch(
    kernel="softmax_rows",
    grid=("B", "1", "1"),
    block=("min(N, 1024)", "1", "1"),
    shared_bytes="4 * N",
    arguments=("x", "y", "N"),
)


def test_equal_content_is_one_identity_and_a_changed_byte_another():
    assert make_candidate().digest == make_candidate().digest
    assert make_candidate().digest != make_candidate(text="int x;").digest
    assert make_candidate().digest != make_candidate(flags=("-O2",)).digest


@pytest.mark.parametrize("path", ["/etc/passwd", "../k.cpp", "a/../b.cpp", "", ".hidden", "a//b"])
def test_a_source_path_stays_inside_its_folder(path):
    with pytest.raises(ValidationError):
        Source(path=path, text="")


@pytest.mark.parametrize("path", ["kernel.cpp", "include/tile.h", "a_b-c.d.cu"])
def test_plain_relative_paths_are_fine(path):
    assert Source(path=path, text="").path == path


def test_two_sources_of_one_path_are_refused():
    source = Source(path="kernel.cpp", text="")
    with pytest.raises(ValidationError, match="two sources"):
        Candidate(language="cpp", sources=(source, source))


def test_a_launch_names_every_expression_by_its_field():
    assert LAUNCH.texts() == {
        "grid[0]": "B",
        "grid[1]": "1",
        "grid[2]": "1",
        "block[0]": "min(N, 1024)",
        "block[1]": "1",
        "block[2]": "1",
        "shared_bytes": "4 * N",
    }


def test_arguments_that_are_no_names_bring_their_expressions():
    launch = LAUNCH.model_copy(
        update={
            "cluster": ("2", "1", "1"),
            "arguments": (
                "x",
                Value(value="N // 8", type="i32"),
                Slice(workspace="16 * B"),
                TensorMap(tensor="y", box=("64", "N"), columns="2 * N"),
            ),
        }
    )
    found = launch.texts()
    assert found["cluster[0]"] == "2"
    assert found["arguments[1].value"] == "N // 8"
    assert found["arguments[2].workspace"] == "16 * B"
    assert found["arguments[3].box[1]"] == "N"
    assert found["arguments[3].columns"] == "2 * N"
    assert "arguments[3].rows" not in found


def test_each_kind_of_argument_is_told_by_its_fields():
    given = ["x", {"value": "N", "type": "i32"}, {"workspace": "0"}]
    given.append({"tensor": "y", "box": ["64", "64"], "swizzle": "128B"})
    launch = Launch.model_validate({**LAUNCH.model_dump(), "arguments": given})
    assert [type(a) for a in launch.arguments] == [str, Value, Slice, TensorMap]
    assert Launch.model_validate_json(launch.model_dump_json()) == launch


def test_a_candidate_with_plans_survives_json():
    plan = LaunchPlan(launches=(LAUNCH,))
    candidate = make_candidate(language=Language.CUDA, text="__global__ void f() {}", plans=(plan,))
    assert Candidate.model_validate_json(candidate.model_dump_json()) == candidate


def test_a_contender_has_a_printable_name():
    assert Contender(name="torch eager", candidate=make_candidate()).version == "1"
    with pytest.raises(ValidationError):
        Contender(name="a\nb", candidate=make_candidate())


def test_canonical_json_does_not_depend_on_order():
    assert canonical_json({"b": 1, "a": [True, None]}) == b'{"a":[true,null],"b":1}'
    assert canonical_json({"a": [True, None], "b": 1}) == canonical_json(
        {"b": 1, "a": [True, None]}
    )


def test_not_a_number_has_no_canonical_json():
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})


def test_bytes_are_digested_as_they_are():
    assert digest_of(b"abc").startswith("ba7816bf")
