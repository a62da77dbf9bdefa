"""The cache under any order of builds, damage, refusals and killed builders: whole or not there."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason
from gpu_runner.languages.artefact import BuildRefused
from gpu_runner.languages.cache import MANIFEST_FILE, Made, cached_build, find, remove_tree
from tests.builders import make_candidate
from tests.gpu_runner.languages.outcomes import built
from tests.gpu_runner.languages.test_cache import build, make_identity, write_kernel

COMPILERS = ("g++ 12", "g++ 13", "g++ 14")
REFUSAL = BuildRefused(reason=Reason.COMPILE_FAILED, message="no")


def content_of(compiler):
    return f"code of {compiler}".encode()


class CacheMachine(RuleBasedStateMachine):
    """Builds of three identities against what should be there."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.whole: set[str] = set()
        self.made = 0

    def teardown(self):
        remove_tree(self.folder)

    def entry(self, compiler):
        return self.folder / make_identity(compiler=compiler).digest

    def make(self, compiler):
        def inner(scratch):
            self.made += 1
            (scratch / "kernel.so").write_bytes(content_of(compiler))
            (scratch / "deep").mkdir()
            (scratch / "deep" / "note.txt").write_text(compiler)
            return Made(seconds=0.5, log_tail=compiler)

        return inner

    @rule(compiler=st.sampled_from(COMPILERS))
    def build(self, compiler):
        before = self.made
        identity = make_identity(compiler=compiler)
        found = built(cached_build(self.folder, identity, make_candidate(), self.make(compiler)))
        assert found.is_cached == (compiler in self.whole) == (self.made == before)
        assert (found.compiler, found.log_tail) == (compiler, compiler)
        self.whole.add(compiler)

    @rule(compiler=st.sampled_from(COMPILERS))
    def refuse(self, compiler):
        identity = make_identity(compiler=compiler)
        found = cached_build(self.folder, identity, make_candidate(), lambda _: REFUSAL)
        assert (found is REFUSAL) == (compiler not in self.whole)

    @rule(compiler=st.sampled_from(COMPILERS))
    def fail(self, compiler):
        def full(scratch):
            (scratch / "kernel.so").write_bytes(b"half")
            raise OSError(28, "No space left on device")

        identity = make_identity(compiler=compiler)
        if compiler in self.whole:
            built(cached_build(self.folder, identity, make_candidate(), full))
        else:
            with pytest.raises(OSError, match="No space"):
                cached_build(self.folder, identity, make_candidate(), full)

    @precondition(lambda self: self.whole)
    @rule(data=st.data(), how=st.sampled_from(["cut", "drop", "add", "swap", "empty"]))
    def damage(self, data, how):
        compiler = data.draw(st.sampled_from(sorted(self.whole)))
        entry = self.entry(compiler)
        (entry / "deep").chmod(0o755)
        note = entry / "deep" / "note.txt"
        if how == "cut":
            note.chmod(0o644)
            note.write_text(compiler[:-1])
        elif how == "drop":
            note.unlink()
        elif how == "add":
            (entry / "deep" / "more").write_text("")
        elif how == "swap":
            note.replace(entry / "note.txt")
        else:
            (entry / MANIFEST_FILE).unlink()
        self.whole.discard(compiler)

    @rule(age=st.sampled_from([0, 7200]))
    def kill_a_builder(self, age):
        left = Path(tempfile.mkdtemp(prefix=".building-", dir=self.folder))
        (left / "kernel.so").write_bytes(b"half")
        stamp = left.stat().st_mtime - age
        os.utime(left, (stamp, stamp))

    @invariant()
    def what_is_found_is_what_was_made(self):
        for compiler in COMPILERS:
            found = find(self.folder, make_identity(compiler=compiler).digest)
            assert (found is not None) == (compiler in self.whole)
            if found is not None:
                assert found.entry.read_bytes() == content_of(compiler)
                assert (found.path / "deep" / "note.txt").read_text() == compiler
        # What was damaged is gone once it was looked for.
        names = {p.name for p in self.folder.iterdir() if not p.name.startswith(".building-")}
        assert names == {self.entry(compiler).name for compiler in self.whole}


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)

TREES = st.dictionaries(
    st.from_regex(r"[a-z]{1,3}(/[A-Z]{1,2}){0,2}", fullmatch=True),
    st.binary(max_size=20),
    min_size=1,
    max_size=6,
).filter(lambda tree: not any(a.startswith(f"{b}/") for a in tree for b in tree))


@settings(max_examples=25, deadline=None)
@given(TREES)
def test_the_manifest_has_each_file_with_its_digest(tmp_path_factory, tree):
    cache = tmp_path_factory.mktemp("cache")

    def make(scratch):
        for name, content in tree.items():
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return Made(seconds=0.0)

    artefact = build(cache, make)
    manifest = json.loads((artefact.path / MANIFEST_FILE).read_text())
    assert manifest["files"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in tree.items()
    }
    assert build(cache, make).is_cached
    assert all((artefact.path / name).stat().st_mode & 0o222 == 0 for name in tree)


def test_a_program_stays_executable_and_nothing_else_becomes_so(tmp_path):
    def make(scratch):
        (scratch / "program").write_text("#!/bin/sh\nexit 0\n")
        (scratch / "program").chmod(0o700)
        return write_kernel(scratch)

    artefact = build(tmp_path, make)
    modes = {p.name: p.stat().st_mode & 0o777 for p in artefact.path.iterdir() if p.is_file()}
    assert modes == {"program": 0o544, "kernel.so": 0o444, MANIFEST_FILE: 0o444}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("digest", "0" * 64), ("digest", "short"), ("language", "fortran")),
        *(("files", {}), ("files", {"kernel.so": "0" * 64}), ("seconds", "soon")),
        *(("calling", "sideways"), ("unheard_of", 1)),
    ],
)
def test_a_manifest_that_was_changed_is_not_believed(tmp_path, field, value):
    artefact = build(tmp_path)
    place = artefact.path / MANIFEST_FILE
    changed = {**json.loads(place.read_text()), field: value}
    place.chmod(0o644)
    place.write_text(json.dumps(changed))
    assert find(tmp_path, artefact.digest) is None
    assert not artefact.path.exists()
    assert not build(tmp_path).is_cached


@pytest.mark.parametrize("name", ["kernel.so", "source", "source/kernel.cpp"])
def test_an_entry_that_is_another_kind_of_file_is_damaged(tmp_path, name):
    artefact = build(tmp_path)
    (artefact.path / "source").chmod(0o755)
    path = artefact.path / name
    kept = tmp_path / "moved"
    path.rename(kept)
    path.symlink_to(kept)
    assert find(tmp_path, artefact.digest) is None


def test_a_disk_that_loses_what_it_is_given_is_told_by_name(tmp_path):
    """Each time the entry is in place another builder's damaged copy is there first."""
    digest = make_identity().digest

    def overtaken(scratch):
        (tmp_path / digest / "kernel.so").mkdir(parents=True)
        return write_kernel(scratch)

    with pytest.raises(OSError, match=f"artefact {digest[:12]} in .* is damaged .* check the disk"):
        build(tmp_path, overtaken)
    assert not list(tmp_path.glob(".building-*"))


def test_a_file_in_the_place_of_an_entry_is_no_entry(tmp_path):
    digest = make_identity().digest
    (tmp_path / digest).write_text("")
    assert find(tmp_path, digest) is None


def test_the_calling_of_a_candidate_is_kept_with_its_artefact(tmp_path):
    candidate = make_candidate(language=Language.PYTHON, calling="destination")
    identity = make_identity(candidate=candidate)
    for _ in range(2):
        artefact = built(cached_build(tmp_path, identity, candidate, write_kernel))
        assert (artefact.calling, artefact.language) == ("destination", Language.PYTHON)


FLAGS = st.lists(st.sampled_from(["-O2", "-O3", "-ffast-math", "-O2 -O3"]), max_size=3)


@settings(max_examples=60, deadline=None)
@given(FLAGS, FLAGS)
def test_identities_are_equal_exactly_where_their_flags_are(left, right):
    one, other = (make_identity(flags=tuple(flags)).digest for flags in (left, right))
    assert (one == other) == (left == right)
    assert len(one) == 64
