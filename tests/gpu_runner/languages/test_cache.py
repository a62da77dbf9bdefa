import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason
from gpu_runner.languages.artefact import Artefact, BuildRefused
from gpu_runner.languages.cache import (
    MANIFEST_FILE,
    Made,
    cached_build,
    find,
    identity_of,
    remove_tree,
)
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built


def make_identity(*, problem=None, candidate=None, **changes):
    values = {
        "compiler": "g++ 12.2.0",
        "flags": ("-O3",),
        "machine": "x86_64-0",
        "is_trusted": False,
        **changes,
    }
    return identity_of(problem or make_problem(), candidate or make_candidate(), **values)


def write_kernel(scratch: Path) -> Made:
    (scratch / "kernel.so").write_bytes(b"machine code")
    (scratch / "source").mkdir()
    (scratch / "source" / "kernel.cpp").write_text("source")
    return Made(log_tail="a warning", seconds=1.5, counters={"k.registers": 28.0})


class CountingMake:
    def __init__(self, make=write_kernel):
        self.calls = 0
        self.make = make

    def __call__(self, scratch):
        self.calls += 1
        return self.make(scratch)


def build(cache, make=write_kernel, **changes):
    return cached_build(cache, make_identity(**changes), make_candidate(), make)


def test_second_build_is_the_first_one_from_the_cache(tmp_path):
    make = CountingMake()
    first = build(tmp_path, make)
    second = build(tmp_path, make)

    assert make.calls == 1
    assert (first.is_cached, second.is_cached) == (False, True)
    assert second == Artefact(
        path=tmp_path / first.digest,
        digest=make_identity().digest,
        language=Language.CPP,
        calling="returning",
        compiler="g++ 12.2.0",
        log_tail="a warning",
        seconds=1.5,
        is_cached=True,
        counters={"k.registers": 28.0},
    )
    assert second.entry.read_bytes() == b"machine code"


@pytest.mark.parametrize(
    "changes",
    [
        {"problem": make_problem(name="other")},
        {"candidate": make_candidate(flags=("-O2",))},
        {"candidate": make_candidate(text="other")},
        {"compiler": "g++ 13.1.0"},
        {"flags": ("-O3", "-march=native")},
        {"machine": "x86_64-1"},
        {"is_trusted": True},
    ],
)
def test_identity_depends_on_everything_the_code_depends_on(changes):
    assert make_identity(**changes).digest != make_identity().digest
    assert make_identity(**changes).digest == make_identity(**changes).digest


def test_entry_is_read_only(tmp_path):
    artefact = build(tmp_path)
    files = [p for p in artefact.path.rglob("*") if p.is_file()]

    assert {p.name for p in files} == {"kernel.so", "kernel.cpp", MANIFEST_FILE}
    assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o444}


def truncate(entry):
    (entry / "kernel.so").chmod(0o644)
    (entry / "kernel.so").write_bytes(b"")


def flip_bit(entry):
    (entry / "kernel.so").chmod(0o644)
    (entry / "kernel.so").write_bytes(b"machine codd")


def remove_file(entry):
    (entry / "kernel.so").unlink()


def add_file(entry):
    (entry / "extra.so").write_bytes(b"planted")


def replace_by_link(entry):
    (entry / "kernel.so").unlink()
    (entry / "kernel.so").symlink_to("/bin/true")


def drop_manifest(entry):
    (entry / MANIFEST_FILE).unlink()


def break_manifest(entry):
    (entry / MANIFEST_FILE).chmod(0o644)
    (entry / MANIFEST_FILE).write_text('{"digest": ')


def swap_manifest(entry):
    other = build(entry.parent, compiler="other")
    (entry / MANIFEST_FILE).unlink()
    (entry / MANIFEST_FILE).write_bytes((other.path / MANIFEST_FILE).read_bytes())


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_bit,
        remove_file,
        add_file,
        replace_by_link,
        drop_manifest,
        break_manifest,
        swap_manifest,
    ],
)
def test_damaged_entry_is_built_again(tmp_path, damage):
    damage(build(tmp_path).path)
    make = CountingMake()
    again = build(tmp_path, make)

    assert make.calls == 1
    assert not again.is_cached
    assert again.entry.read_bytes() == b"machine code"
    assert build(tmp_path, make).is_cached


def test_refusal_is_returned_and_leaves_nothing(tmp_path):
    refusal = BuildRefused(reason=Reason.COMPILE_FAILED, message="no")

    assert build(tmp_path, lambda _: refusal) is refusal
    assert list(tmp_path.iterdir()) == []


def test_failure_of_the_builder_leaves_nothing(tmp_path):
    def fail(scratch):
        write_kernel(scratch)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        build(tmp_path, fail)
    assert list(tmp_path.iterdir()) == []


def test_entry_appears_only_when_it_is_whole(tmp_path):
    digest = make_identity().digest

    def look(scratch):
        made = write_kernel(scratch)
        assert not (tmp_path / digest).exists()
        assert find(tmp_path, digest) is None
        return made

    build(tmp_path, look)
    assert find(tmp_path, digest) is not None


def test_concurrent_builders_agree_on_one_entry(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: build(tmp_path), range(24)))

    assert len({artefact.path for artefact in found}) == 1
    assert [p.name for p in tmp_path.iterdir()] == [make_identity().digest]
    assert found[0].entry.read_bytes() == b"machine code"


def test_builder_that_comes_second_takes_the_entry_of_the_first(tmp_path):
    def overtaken(scratch):
        build(tmp_path)
        return write_kernel(scratch)

    assert build(tmp_path, overtaken).is_cached


def test_links_and_pipes_left_by_the_build_are_not_kept(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "secret").write_text("secret")

    def plant(scratch):
        (scratch / "link").symlink_to(outside / "secret")
        (scratch / "folder").symlink_to(outside)
        (scratch / MANIFEST_FILE).symlink_to(outside / "secret")
        os.mkfifo(scratch / "pipe")
        return write_kernel(scratch)

    artefact = build(tmp_path / "cache", plant)

    assert {p.name for p in artefact.path.iterdir()} == {"kernel.so", "source", MANIFEST_FILE}
    assert (outside / "secret").read_text() == "secret"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o750


def test_more_than_a_gigabyte_is_refused(tmp_path):
    def sparse(scratch):
        with (scratch / "large").open("wb") as file:
            file.truncate((1 << 30) + 1)
        return write_kernel(scratch)

    refused = build(tmp_path, sparse)
    assert refused.reason is Reason.LOAD_FAILED
    assert "1073741" in refused.message
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_builder_are_swept_after_an_hour(tmp_path):
    old, fresh = tmp_path / ".building-old", tmp_path / ".building-new"
    for folder in (old, fresh):
        (folder / "source").mkdir(parents=True)
        (folder / "source").chmod(0o555)
    os.utime(old, (1, 1))

    build(tmp_path)

    assert not old.exists()
    assert fresh.exists()


def test_trusted_baseline_may_fill_its_compile_cache_without_damage(tmp_path):
    candidate = make_candidate(language=Language.PYTHON)
    identity = make_identity(candidate=candidate, is_trusted=True)

    def make(scratch):
        (scratch / "candidate.py").write_text("def run(x): return x")
        (scratch / "inductor").mkdir()
        return Made(seconds=0.1)

    artefact = built(cached_build(tmp_path, identity, candidate, make))
    assert artefact.writable == (artefact.path / "inductor",)
    (artefact.path / "inductor" / "kernel.so").write_text("compiled at the first call")

    assert built(cached_build(tmp_path, identity, candidate, make)).is_cached


def test_remove_tree_does_not_follow_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    tree = tmp_path / "tree"
    (tree / "locked").mkdir(parents=True)
    (tree / "locked").chmod(0o500)
    (tree / "away").symlink_to(outside)

    remove_tree(tree)

    assert not tree.exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
    remove_tree(tree)
