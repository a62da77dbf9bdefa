"""What each command answers: exit code, one JSON object, one line of error, an entry in the log."""

import json

import pytest
from typer.testing import CliRunner

from knowledge_store import embedders
from knowledge_store.cli import app
from knowledge_store.routes import RouteLog
from tests.knowledge_store.stores import FENCE, PAGED, SWIZZLE


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(embedders, "WHEEL", "no_such_wheel_at_all")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    (folder / "patches").mkdir()
    for name, text in (("a", SWIZZLE), ("b", PAGED), ("c", FENCE)):
        (folder / "patches" / f"{name}.diff").write_text(text)
    done = run("build", "--patches", folder / "patches", "--embedder", "none", store=folder / "s")
    assert done.exit_code == 0, done.output
    return folder / "s"


def run(command, *arguments, store):
    words = [*command.split(), *map(str, arguments), "--store", str(store)]
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def slug(store):
    done = run("search", "gather_page_table", "--json", store=store)
    return json.loads(done.stdout)["found"][0]["slug"]


COMMANDS = {
    "search swizzle_bank": ("query", "route", "found", "is_complete", "total_lines"),
    "search why-do-banks-conflict": ("query", "route", "found", "is_complete", "note"),
    "grep page_table": ("hits", "total_hits", "total_pulls", "searched_pulls", "is_truncated"),
    "stats": ("pulls", "chunks", "repos", "revision", "indices", "bytes"),
    "validate": ("is_valid", "violations"),
    "source list": ("sources",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_answers_one_object_of_known_fields(store, command):
    done = run(command, "--json", store=store)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    assert set(COMMANDS[command]) <= set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("grep no_such_thing", 1),
        ("grep page_table", 0),
        ("grep page_table --repo nobody/nothing", 2),
        ("grep page_table --kind poem", 2),
        ("grep page_table --since yesterday", 2),
        ("grep page_table --limit 0", 2),
        ("grep page_table --limit -1", 2),
        ("grep page_table --limit many", 2),
        ("grep", 2),
        ("search page_table --limit 0", 2),
        ("search page_table --kind poem", 2),
        ("search page_table --until 2025-1-1", 2),
        ("search page_table --repo nobody", 2),
        ("show nobody/nothing#1", 2),
        ("show not-a-name", 2),
        ("why page_table not-a-name", 2),
        ("source clone no-such-source", 2),
        ("source search x --source no-such-source", 2),
        ("eval /no/such/file.jsonl", 2),
        ("no-such-command", 2),
    ],
)
def test_exit_codes_tell_nothing_found_from_not_asked_rightly(store, command, code):
    done = run(command, store=store)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    "command", ["search x --kind poem", "show not-a-name", "source clone none-such", "grep -e ("]
)
def test_an_error_is_one_line_and_with_json_one_object(store, command):
    plain = run(command, store=store)
    assert plain.stderr.startswith("kernelpilot knowledge: ")
    assert (plain.stderr.count("\n"), plain.stdout) == (1, "")
    told = json.loads(run(command, "--json", store=store).stdout)
    assert told["exit_code"] == 2
    assert told["error"] in plain.stderr


@pytest.mark.parametrize(
    ("command", "route", "query"),
    [
        ("grep page_table", "lines", "page_table"),
        ("search gather_page_table", "lines", "gather_page_table"),
        ("search avoiding-bank-conflicts", "meaning", "avoiding-bank-conflicts"),
    ],
)
def test_each_search_leaves_its_entry(store, tmp_path, command, route, query):
    log = tmp_path / "new" / "folder" / "routes.jsonl"
    assert run(command, "--log", log, store=store).exit_code == 0
    (entry,) = RouteLog(log).entries()
    assert (entry.route, entry.query, entry.scope) == (route, query, {})
    assert entry.is_complete == (route == "lines")
    assert entry.searched == 3


def test_a_page_leaves_its_entry_and_says_whether_the_diff_was_seen(store, slug, tmp_path):
    log = tmp_path / "routes.jsonl"
    assert run("show", slug, "--log", log, store=store).exit_code == 0
    (entry,) = RouteLog(log).entries()
    assert (entry.route, entry.query, entry.has_diff) == ("page", slug, True)


def test_what_failed_leaves_no_entry(store, tmp_path):
    log = tmp_path / "routes.jsonl"
    for command in ("grep -e (", "show not-a-name", "source search x --source no-such-source"):
        assert run(command, "--log", log, store=store).exit_code == 2
    assert not log.exists()


def test_a_log_that_cannot_be_written_is_one_line(store, tmp_path):
    (tmp_path / "file").write_text("x")
    for log in (tmp_path, tmp_path / "file" / "routes.jsonl"):
        done = run("grep", "page_table", "--log", log, store=store)
        assert done.exit_code == 2
        assert "cannot be written" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("what", ["--searched", "--borrowed"])
def test_a_claim_on_a_damaged_log_is_refused(tmp_path, what):
    log = tmp_path / "routes.jsonl"
    log.write_text("rubbish\nmore\n")
    done = CliRunner().invoke(app, ["claim", str(log), what, "a/b#1"])
    assert done.exit_code == 2
    assert "line 1, is damaged" in done.stderr


def test_a_limit_shows_less_and_counts_all(store):
    done = run("grep", "page_table", "--limit", 1, "--json", store=store)
    told = json.loads(done.stdout)
    assert (len(told["hits"]), told["total_hits"], told["is_truncated"]) == (1, 3, True)


@pytest.mark.parametrize("url", ["http://docs.nvidia.com/", "https://10.0.0.1/", "https://[::1]/"])
def test_the_web_refuses_before_anything_is_asked(url, tmp_path):
    log = tmp_path / "routes.jsonl"
    words = ["web", url, "--web", "--json", "--log", str(log)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert json.loads(done.stdout)["exit_code"] == 2
    assert not log.exists()


def test_words_for_the_web_need_a_provider():
    done = CliRunner().invoke(app, ["web", "tma copy", "--web"])
    assert done.exit_code == 2
    assert "search_url" in done.stderr


@pytest.mark.parametrize("command", ["grep", "search", "why", "source search"])
@pytest.mark.parametrize("text", ["\udcff ab", "\ud83d"])
def test_a_query_that_is_no_text_is_one_line_that_names_what_finds_bytes(
    store, slug, command, text
):
    named = [slug] if command == "why" else []
    done = run(command, text, *named, "--json", store=store)
    assert done.exit_code == 2
    assert "kernelpilot-grep" in json.loads(done.stdout)["error"]
    assert len(done.stderr.splitlines()) == 1
