import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.kernel_index import (
    INDEX_FILE,
    index_key,
    parameter_bytes,
    read_index,
    write_index,
)
from gpu_runner.errors import RunnerError
from tests.gpu_runner.device.plans import compiled


def test_what_is_written_is_read(tmp_path):
    index = {
        index_key(0, 0): compiled(),
        index_key(3, 15): compiled("u64", "f32", "b8[128]", threads=128, scratch_bytes=384),
    }
    write_index(tmp_path, index)
    assert read_index(tmp_path) == index


def test_the_file_says_what_a_launcher_needs(tmp_path):
    write_index(tmp_path, {"0.1": compiled(is_dynamic_shared=True, shared_bytes=8)})
    assert json.loads((tmp_path / INDEX_FILE).read_text())["0.1"] == {
        "cubin": "kernel.cubin",
        "symbol": "reduce",
        "shared_bytes": 8,
        "is_dynamic_shared": True,
        "parameters": ["u64", "u64", "u64"],
        "hidden": 0,
        "registers": 32,
        "scratch_bytes": 0,
        "threads": 0,
        "most_threads": 1024,
    }


@pytest.mark.parametrize("text", [None, "", "[]", '{"0.0": {"cubin": "a"}}', '{"0.0": null}'])
def test_an_index_that_cannot_be_read_is_named_with_the_remedy(tmp_path, text):
    if text is not None:
        (tmp_path / INDEX_FILE).write_text(text)
    with pytest.raises(RunnerError, match="is no kernel index; delete the artefact") as caught:
        read_index(tmp_path)
    assert str(tmp_path) in str(caught.value)


@given(st.sampled_from("busf"), st.sampled_from([8, 16, 32, 64, 128]), st.integers(1, 4096))
def test_a_parameter_has_the_bytes_its_type_says(letter, bits, count):
    assert parameter_bytes(f"{letter}{bits}") == bits // 8
    assert parameter_bytes(f"{letter}{bits}[{count}]") == bits // 8 * count


@pytest.mark.parametrize("text", ["", "u7", "i32", "u64[]", "u64 ", "*fp32", "b8[128]x"])
def test_what_is_no_type_is_refused(text):
    with pytest.raises(ValueError, match="is no type of a kernel parameter"):
        parameter_bytes(text)
