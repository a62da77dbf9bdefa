"""Keys that a candidate could read start no worker; inside the sandbox there are none."""

import sys
from pathlib import Path

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.host import bubblewrap
from gpu_runner.host.sandbox import Grants, run
from gpu_runner.security.keys import SECRET, make_pair
from gpu_runner.security.reach import check_out_of_reach

needs_bubblewrap = pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")


@needs_bubblewrap
def test_a_folder_of_its_own_is_out_of_reach(tmp_path):
    (tmp_path / "work").mkdir()
    check_out_of_reach(tmp_path / "keys", tmp_path / "work")


@needs_bubblewrap
@pytest.mark.parametrize(
    "folder", [Path(sys.prefix) / "keys", Path("/usr/share/keys"), Path(sys.base_prefix) / "keys"]
)
def test_what_the_sandbox_shows_is_refused(tmp_path, folder):
    with pytest.raises(PoolError, match="a candidate could read the keys"):
        check_out_of_reach(folder, tmp_path)


@needs_bubblewrap
def test_a_folder_in_the_workspace_is_refused_by_any_name(tmp_path):
    work = tmp_path / "work"
    (work / "keys").mkdir(parents=True)
    (tmp_path / "link").symlink_to(work)
    for folder in (work, work / "keys", tmp_path / "link" / "keys", work / ".." / "work" / "keys"):
        with pytest.raises(PoolError, match="keep them elsewhere"):
            check_out_of_reach(folder, work)


def test_without_namespaces_no_folder_is_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    bubblewrap._found.cache_clear()
    bubblewrap.options.cache_clear()
    try:
        with pytest.raises(PoolError, match="install bubblewrap"):
            check_out_of_reach(tmp_path / "keys", tmp_path / "work")
    finally:
        bubblewrap._found.cache_clear()
        bubblewrap.options.cache_clear()


@needs_bubblewrap
@pytest.mark.processes
def test_a_candidate_sees_no_key(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    make_pair(tmp_path / "keys")
    check_out_of_reach(tmp_path / "keys", work)
    text = f"import os; print(os.path.exists({str(tmp_path / 'keys' / SECRET)!r}))"
    grants = Grants(may_spawn=True, writable=(work,))
    finished = run([sys.executable, "-I", "-c", text], grants, timeout_s=20, cwd=work)
    assert finished.output.strip() == "False"
