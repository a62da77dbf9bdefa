"""The container: the same bytes everywhere, and nothing taken from a file that is not ours."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner import archive
from gpu_runner.archive import Contents, Manifest, pack, program_version, unpack
from gpu_runner.errors import ArchiveError

ROOT = Path(__file__).parents[2]
MEMBERS = {"jobs/b.json": b"second", "jobs/a.json": b"first" * 100}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "jobs.zip"
    pack(path, Contents.JOBS, "a-run", MEMBERS)
    return path


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Write the archive anew, its members as `change` makes them of a list of pairs."""
    with zipfile.ZipFile(path) as file:
        members = change([(entry.filename, file.read(entry)) for entry in file.infolist()])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, compression)
    path.write_bytes(buffer.getvalue())


def with_manifest(path, **changes):
    """Change keys of the manifest."""

    def change(members):
        manifest = {**json.loads(dict(members)["manifest.json"]), **changes}
        rest = [pair for pair in members if pair[0] != "manifest.json"]
        return [("manifest.json", json.dumps(manifest).encode()), *rest]

    rewritten(path, change)


# -- what is written is read -----------------------------------------------------------------------


def test_what_is_packed_is_unpacked(path):
    found = unpack(path, Contents.JOBS)
    assert dict(found.members) == MEMBERS
    assert list(found.members) == ["jobs/a.json", "jobs/b.json"]
    assert found.manifest.origin == "a-run"
    assert found.manifest.kernelpilot == program_version()


def test_an_archive_may_be_empty(tmp_path):
    pack(tmp_path / "none.zip", Contents.RESULTS, "a-run", {})
    assert unpack(tmp_path / "none.zip", Contents.RESULTS).members == {}


def test_the_same_content_is_the_same_bytes(path, tmp_path):
    again = tmp_path / "again.zip"
    size = pack(again, Contents.JOBS, "a-run", dict(reversed(MEMBERS.items())))
    assert again.read_bytes() == path.read_bytes()
    assert size == path.stat().st_size


def test_any_zip_program_reads_it(path):
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert file.namelist() == ["manifest.json", "jobs/a.json", "jobs/b.json"]
        assert {entry.date_time[0] for entry in file.infolist()} == {1980}
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}


NAMES = st.from_regex(r"jobs/[a-z0-9][a-z0-9._-]{0,20}\.json", fullmatch=True)


@given(members=st.dictionaries(NAMES, st.binary(max_size=200), max_size=6), origin=st.text())
def test_packing_and_unpacking_are_inverse(tmp_path_factory, members, origin):
    path = tmp_path_factory.getbasetemp() / "law.zip"
    pack(path, Contents.JOBS, origin, members)
    found = unpack(path, Contents.JOBS)
    assert (dict(found.members), found.manifest.origin) == (members, origin)


@pytest.mark.parametrize(
    "name",
    [
        "../jobs/a.json",
        "jobs/../../a.json",
        "/etc/passwd",
        "jobs/a/b.json",
        "jobs/.hidden.json",
        "jobs/A.json",
        "jobs/a.json\n",
        "jobs/a.exe",
        "manifest.json",
        "",
    ],
)
def test_a_name_that_is_no_member_is_never_written(tmp_path, name):
    with pytest.raises(ValueError, match="name"):
        pack(tmp_path / "bad.zip", Contents.JOBS, "a-run", {name: b""})
    assert list(tmp_path.iterdir()) == []


# -- writing that fails ----------------------------------------------------------------------------


def test_an_archive_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(ArchiveError, match="No such file or directory; name another place with -o"):
        pack(tmp_path / "missing" / "jobs.zip", Contents.JOBS, "a-run", MEMBERS)


FULL = """
import resource, signal, sys
from pathlib import Path
from gpu_runner.archive import Contents, pack
from gpu_runner.errors import ArchiveError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    pack(Path(sys.argv[1]), Contents.JOBS, "other", {"jobs/a.json": bytes(1000)})
except ArchiveError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_earlier_archive(path):
    """The limit on a file's size stands for the disk; it is of the process."""
    before = path.read_bytes()
    command = [sys.executable, "-c", FULL, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "cannot write" in said
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["jobs.zip"]


def test_too_much_is_refused_before_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 500)
    with pytest.raises(ArchiveError, match="at most 500 can be read; carry fewer jobs"):
        pack(tmp_path / "large.zip", Contents.JOBS, "a-run", MEMBERS)
    assert list(tmp_path.iterdir()) == []


# -- what is refused -------------------------------------------------------------------------------


def refusal(path, contents=Contents.JOBS):
    with pytest.raises(ArchiveError) as raised:
        unpack(path, contents)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_a_file_that_is_not_there(tmp_path):
    assert "No such file" in refusal(tmp_path / "missing.zip")
    assert "Is a directory" in refusal(tmp_path)


def test_a_file_that_is_too_large(path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 100)
    assert "more than 100 bytes" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello" * 1000, b"PK\5\6" + bytes(18)])
def test_a_file_that_is_no_archive(path, content):
    path.write_bytes(content)
    assert "damaged or was cut short" in (said := refusal(path)) or "has no manifest.json" in said


def test_an_archive_that_was_cut_anywhere(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert "nothing was taken from it: copy it again" in refusal(path)


def test_a_zip_file_of_somebody_else(path):
    rewritten(path, lambda members: [("a.txt", b"hello")])
    assert "no archive of kernelpilot" in refusal(path)


def test_the_other_kind_of_archive_names_its_command(path, tmp_path):
    assert "kernelpilot-runner execute" in refusal(path, Contents.RESULTS)
    results = tmp_path / "results.zip"
    pack(results, Contents.RESULTS, "a-run", {})
    assert "kernelpilot-runner import" in refusal(results)


def test_an_archive_of_a_later_version_names_it(path):
    with_manifest(path, format=2, kernelpilot="9.9", contents="dreams", novelty=True)
    said = refusal(path)
    assert "has format 2 (kernelpilot 9.9)" in said
    assert "reads up to 1; install that version here" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 0},
        {"format": "1"},
        {"kind": "something else"},
        {"members": 7},
        {"contents": "dreams"},
        {"members": [{"name": "../a", "size": 0, "sha256": "0" * 64}]},
        {"members": [{"name": "jobs/a.json", "size": -1, "sha256": "0" * 64}]},
    ],
)
def test_a_manifest_that_is_none(path, changes):
    with_manifest(path, **changes)
    assert "manifest.json" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"format": {}}'])
def test_a_manifest_that_is_no_json_of_ours(path, content):
    rewritten(path, lambda members: [("manifest.json", content), *members[1:]])
    assert "manifest.json" in refusal(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m[:-1], "'jobs/b.json' is missing"),
        (lambda m: [*m, ("jobs/c.json", b"")], "'jobs/c.json' is missing, twice there or not in"),
        (lambda m: [*m, ("../../evil.json", b"")], "'../../evil.json' is missing, twice"),
        (lambda m: [*m, ("/etc/evil", b"")], "'/etc/evil' is missing, twice"),
        (lambda m: [*m[:-1], (m[-1][0], b"other ")], "jobs/b.json is not what the manifest says"),
        (lambda m: [*m[:-1], (m[-1][0], b"")], "jobs/b.json is not what the manifest says"),
    ],
    ids=["one less", "one more", "slip", "absolute", "other bytes", "emptied"],
)
def test_members_that_the_manifest_does_not_name(path, change, text):
    rewritten(path, change)
    assert text in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice(path):
    rewritten(path, lambda members: [*members, members[-1]])
    assert "twice there" in refusal(path)
    rewritten(path, lambda members: [members[0], *members])
    assert "twice there" in refusal(path)


def test_nothing_compressed_is_unpacked(path):
    bomb = bytes(50_000_000)
    rewritten(path, lambda m: [m[0], ("jobs/a.json", bomb), m[2]], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert "is compressed or too large" in refusal(path)
    buffer = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(buffer) as file:
        head = file.read("manifest.json")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("manifest.json", head)
        file.writestr("jobs/a.json", bomb, zipfile.ZIP_DEFLATED)
        file.writestr("jobs/b.json", b"second")
    assert "it was compressed" in refusal(path)


def test_members_that_share_their_bytes_do_not_multiply(tmp_path):
    """Every entry of the directory points to one large member."""
    path = tmp_path / "overlap.zip"
    content = bytes(100_000)
    names = [f"jobs/{number}.json" for number in range(50)]
    pack(path, Contents.JOBS, "a-run", dict.fromkeys(names, content))
    with zipfile.ZipFile(path) as file:
        first = next(e for e in file.infolist() if e.filename != "manifest.json")
        entries = file.infolist()
        whole = path.read_bytes()
        directory = whole[file.start_dir :]
    end = first.header_offset + 30 + len(first.filename) + first.file_size
    for entry in entries:
        if entry.filename != "manifest.json":
            old = entry.header_offset.to_bytes(4, "little")
            directory = directory.replace(old, first.header_offset.to_bytes(4, "little"), 1)
    tail = bytearray(directory)
    tail[-6:-2] = end.to_bytes(4, "little")  # where the directory begins
    path.write_bytes(whole[:end] + bytes(tail))
    assert "damaged or was cut short" in refusal(path)


# -- whatever comes --------------------------------------------------------------------------------


def packed():
    manifest = Manifest(kernelpilot="1", contents=Contents.JOBS, origin="x", members=())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("manifest.json", manifest.model_dump_json())
        file.writestr("jobs/a.json", b"first")
    return buffer.getvalue()


@given(content=st.binary(max_size=400))
def test_any_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.zip"
    path.write_bytes(content)
    refusal(path)


@given(data=st.data())
def test_no_change_of_an_archive_gets_through(tmp_path_factory, data):
    """Some bytes say nothing (dates, rights); then what comes out is what went in."""
    folder = tmp_path_factory.getbasetemp()
    path = folder / "mutated.zip"
    pack(path, Contents.JOBS, "a-run", MEMBERS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set":
                content[place] = data.draw(st.integers(0, 255))
            case "cut":
                del content[place : place + data.draw(st.integers(1, 40))]
            case "insert":
                content[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        content = content or bytearray(b"x")
    path.write_bytes(bytes(content))
    try:
        found = unpack(path, Contents.JOBS)
    except ArchiveError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ends are right
    else:
        assert dict(found.members) == MEMBERS


@given(
    lies=st.dictionaries(
        st.sampled_from(["kind", "format", "kernelpilot", "contents", "origin", "members"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
        ),
        min_size=1,
    )
)
def test_any_manifest_is_read_or_refused(tmp_path_factory, lies):
    path = tmp_path_factory.getbasetemp() / "lies.zip"
    path.write_bytes(packed())
    with_manifest(path, **lies)
    with pytest.raises(ArchiveError):
        unpack(path, Contents.JOBS)
