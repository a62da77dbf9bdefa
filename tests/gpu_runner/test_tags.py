"""What a worker offers."""

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.tags import machine_tags


def test_tools_that_are_here_are_found(tmp_path, monkeypatch):
    for name in ("ncu", "compute-sanitizer"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"ncu", "sanitizer"} <= set(machine_tags())
    monkeypatch.setenv("PATH", "")
    assert not {"ncu", "sanitizer"} & set(machine_tags())


def test_an_owners_tags_are_added_once_and_sorted():
    tags = machine_tags(("rack-1", "a100:80g", "rack-1"))
    assert {"rack-1", "a100:80g"} <= set(tags)
    assert list(tags) == sorted(set(tags))


@pytest.mark.parametrize("tag", ["", "Rack", "a b", "-x", "x" * 65])
def test_what_is_no_tag_is_refused(tag):
    with pytest.raises(PoolError, match="is no tag; use lower-case"):
        machine_tags((tag,))
