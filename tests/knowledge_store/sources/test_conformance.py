"""What every source owes its callers, held by one suite."""

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.pulls import PullRequest
from knowledge_store.sources import bundles, git, github, patches
from knowledge_store.sources.catalogue import Catalogue
from knowledge_store.sources.forge import Forge
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import make_diff, write_bundle
from tests.knowledge_store.sources.github_server import Hub, served
from tests.knowledge_store.sources.test_git import Clone

ROOT = Path(__file__).resolve().parents[3]
NONE = Catalogue()


def diff_of(text: str) -> bytes:
    return make_diff({"csrc/gemm.cu": (["int old;"], [text])})


class Stopped(Exception):
    """Ends an ingestion from within, as a signal would."""


def held(truth: Truth) -> list[tuple[PullRequest, bytes, int]]:
    """All that a store holds and does not depend on the order of changes."""
    return [(pull, truth.diff(pull.key), len(truth.chunks(pull.key))) for pull in truth.pulls()]


class Conformance:
    """The suite; a subclass says how its source is written to and read."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Iterator[object]:
        raise NotImplementedError

    def add(self, source: object, number: int, text: str) -> None:
        raise NotImplementedError

    def read(self, truth: Truth, source: object, tell: Tell = silent) -> Report:
        raise NotImplementedError

    @pytest.fixture
    def truth(self, tmp_path):
        with Truth(tmp_path / "store") as opened:
            yield opened

    def test_everything_is_taken_in_with_its_diff(self, truth, source):
        for number in (1, 2, 3):
            self.add(source, number, f"int x{number};")
        report = self.read(truth, source)
        assert (report.changed, report.total) == (3, 3)
        assert (report.problems, report.missing, report.stopped) == ([], [], "")
        for number in (1, 2, 3):
            assert f"+int x{number};".encode() in truth.diff(f"owner/name#{number}")
        assert truth.counts().unparsed == ()

    def test_a_second_call_changes_nothing(self, truth, source):
        for number in (1, 2, 3):
            self.add(source, number, f"int x{number};")
        self.read(truth, source)
        revision, before = truth.revision, held(truth)
        assert self.read(truth, source).changed == 0
        assert (truth.revision, held(truth)) == (revision, before)

    def test_what_is_new_is_taken_in_by_itself(self, truth, source):
        for number in (1, 2):
            self.add(source, number, f"int x{number};")
        self.read(truth, source)
        revision = truth.revision
        self.add(source, 3, "int x3;")
        assert self.read(truth, source).changed == 1
        assert list(truth.keys(since=revision)) == ["owner/name#3"]

    def test_what_has_changed_replaces_what_was_there(self, truth, source):
        self.add(source, 1, "int x1;")
        self.read(truth, source)
        self.add(source, 1, "int changed;")
        assert self.read(truth, source).changed == 1
        assert b"+int changed;" in truth.diff("owner/name#1")
        assert truth.counts().pulls == 1

    @pytest.mark.parametrize("after", [1, 3, 6])
    def test_a_call_that_is_stopped_goes_on_to_the_same_end(self, truth, source, after, tmp_path):
        for number in range(1, 8):
            self.add(source, number, f"int x{number};")

        def stop(progress: Progress) -> None:
            if progress.done == after:
                raise Stopped

        with pytest.raises(Stopped):
            self.read(truth, source, stop)
        self.read(truth, source)
        with Truth(tmp_path / "other") as other:
            self.read(other, source)
            assert held(truth) == held(other)
            assert truth.counts() == other.counts()

    def test_what_was_dropped_stays_out_until_it_is_restored(self, truth, source):
        for number in (1, 2):
            self.add(source, number, f"int x{number};")
        self.read(truth, source)
        truth.drop("owner/name#1", "its authors asked for it")
        self.read(truth, source)
        assert sorted(truth.keys()) == ["owner/name#2"]
        truth.restore("owner/name#1")
        self.read(truth, source)
        assert sorted(truth.keys()) == ["owner/name#1", "owner/name#2"]

    def test_progress_counts_each_item_once(self, truth, source):
        for number in (1, 2, 3):
            self.add(source, number, f"int x{number};")
        told: list[Progress] = []
        self.read(truth, source, told.append)
        assert [step.done for step in told] == [1, 2, 3]
        assert {step.total for step in told} <= {None, 3}
        assert all(step.item for step in told)

    def test_an_empty_source_is_no_error(self, truth, source):
        assert self.read(truth, source).total == 0


class TestBundles(Conformance):
    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "bundles").mkdir()
        return tmp_path / "bundles"

    def add(self, source, number, text):
        folder = source / f"gh-{number}"
        if folder.exists():
            (folder / "review.diff").write_bytes(diff_of(text))
        else:
            write_bundle(folder, diff=diff_of(text))

    def read(self, truth, source, tell=silent):
        return bundles.ingest(truth, source, tell=tell, catalogue=NONE)


class TestArchives(TestBundles):
    def read(self, truth, source, tell=silent):
        path = source.parent / "bundles.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(source, arcname=".")
        return bundles.ingest(truth, path, tell=tell, catalogue=NONE)


class TestPatches(Conformance):
    @pytest.fixture
    def source(self, tmp_path):
        (tmp_path / "patches").mkdir()
        return tmp_path / "patches"

    def add(self, source, number, text):
        (source / f"{number:04}-change.patch").write_bytes(diff_of(text))

    def read(self, truth, source, tell=silent):
        return patches.ingest(truth, source, repo="owner/name", tell=tell, catalogue=NONE)


class TestGit(Conformance):
    @pytest.fixture
    def source(self, tmp_path):
        return Clone(tmp_path / "clone")

    def add(self, source, number, text):
        source.squash(number, f"{text}\n")

    def read(self, truth, source, tell=silent):
        return git.ingest(truth, source.folder, tell=tell, catalogue=NONE)


class TestGitHub(Conformance):
    @pytest.fixture
    def source(self):
        hub = Hub(page_size=2)
        with served(hub):
            yield hub

    def add(self, source, number, text):
        changes = {"updated_at": "2026-03-01T00:00:00Z"} if number in source.pulls else {}
        source.add(number, diff_of(text), **changes)

    def read(self, truth, source, tell=silent):
        forge = Forge(base_url=source.base_url)
        return github.ingest_from(forge, truth, "owner/name", tell=tell, catalogue=NONE)


READER = """
import sys
from pathlib import Path
from knowledge_store.sources import bundles
from knowledge_store.truth import Truth
def tell(progress):
    print(progress.done, flush=True)
with Truth(Path(sys.argv[2])) as truth:
    bundles.ingest(truth, Path(sys.argv[1]), tell=tell)
"""


@pytest.mark.processes
@pytest.mark.parametrize("after", [0, 5, 40, 77])
def test_a_killed_ingestion_goes_on_to_the_same_end(tmp_path, after):
    for number in range(1, 81):
        write_bundle(tmp_path / "bundles" / f"gh-{number}", diff=diff_of(f"int x{number};"))
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / "bundles"), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    with Truth(tmp_path / "store") as truth, Truth(tmp_path / "other") as other:
        assert list(truth.verify()) == []
        bundles.ingest(truth, tmp_path / "bundles")
        bundles.ingest(other, tmp_path / "bundles")
        assert held(truth) == held(other)
        assert truth.counts() == other.counts()
        assert bundles.ingest(truth, tmp_path / "bundles").changed == 0
