import json
import subprocess

import pytest
import yaml

from knowledge_store import routes
from knowledge_store.errors import SourceError
from knowledge_store.source_map import (
    NotCloned,
    Source,
    SourceMap,
    licence_of_folder,
    read_registry,
)
from knowledge_store.source_search import search

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this"


def git(folder, *words):
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def upstream(tmp_path):
    folder = tmp_path / "upstream"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    (folder / "LICENSE").write_text(MIT)
    (folder / "kernel.cu").write_text("// wgmma here\nint x;\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def grow(upstream, text="// wgmma again\n"):
    (upstream / "more.cu").write_text(text)
    git(upstream, "add", ".")
    git(upstream, "commit", "-q", "-m", "more")
    return git(upstream, "rev-parse", "HEAD")


def make_source(upstream, name="some-kernels", **changes):
    fields = {"id": name, "url": upstream.as_uri(), "why": "kernels to read", **changes}
    return Source.model_validate(fields)


@pytest.fixture
def sources(tmp_path, upstream):
    return SourceMap(tmp_path / "store" / "sources", [make_source(upstream)])


def test_a_clone_is_one_commit_with_its_licence(sources, upstream):
    pin = sources.clone("some-kernels")
    assert pin.commit == git(upstream, "rev-parse", "HEAD")
    assert pin.licence == "MIT"
    folder, again = sources.require("some-kernels")
    assert again == pin
    assert (folder / "kernel.cu").is_file()
    assert not (folder / ".git").exists()


def test_a_second_clone_keeps_the_commit_and_an_update_moves_it(sources, upstream):
    before = sources.clone("some-kernels")
    head = grow(upstream)
    assert sources.clone("some-kernels") == before
    after = sources.update("some-kernels")
    assert after.commit == head
    assert (sources.folder_of("some-kernels") / "more.cu").is_file()


def test_a_commit_that_the_registry_pins_is_the_one_cloned(tmp_path, upstream):
    first = git(upstream, "rev-parse", "HEAD")
    grow(upstream)
    pinned = SourceMap(tmp_path / "s", [make_source(upstream, commit=first)])
    assert pinned.clone("some-kernels").commit == first
    assert pinned.update("some-kernels").commit == first


def test_a_clone_that_was_removed_comes_back_at_its_commit(sources, upstream):
    pin = sources.clone("some-kernels")
    (sources.folder_of("some-kernels") / "kernel.cu").unlink()
    sources.folder_of("some-kernels").joinpath("LICENSE").unlink()
    sources.folder_of("some-kernels").rmdir()
    grow(upstream)
    assert sources.clone("some-kernels").commit == pin.commit


def test_a_failed_update_leaves_what_was_there(sources, upstream):
    pin = sources.clone("some-kernels")
    upstream.rename(upstream.with_name("gone"))
    with pytest.raises(SourceError, match="git fetch failed"):
        sources.update("some-kernels")
    assert sources.require("some-kernels")[1] == pin


def test_links_of_a_repository_are_not_made(sources, upstream):
    (upstream / "link").symlink_to("/etc/passwd")
    git(upstream, "add", ".")
    git(upstream, "commit", "-q", "-m", "a link")
    sources.clone("some-kernels")
    assert not (sources.folder_of("some-kernels") / "link").is_symlink()


def test_nothing_is_searched_before_it_is_cloned(sources):
    with pytest.raises(NotCloned, match="knowledge source clone some-kernels"):
        sources.require("some-kernels")
    with pytest.raises(NotCloned):
        search(sources, "wgmma")


def test_one_that_is_not_cloned_is_refused_though_another_is(tmp_path, upstream):
    both = SourceMap(tmp_path / "s", [make_source(upstream), make_source(upstream, "not-here")])
    both.clone("some-kernels")
    with pytest.raises(NotCloned, match="not-here"):
        search(both, "wgmma", ("some-kernels", "not-here"))
    assert len(search(both, "wgmma")) == 1


def test_what_is_found_names_commit_and_licence(sources, tmp_path):
    pin = sources.clone("some-kernels")
    log = tmp_path / "routes.jsonl"
    (one,) = search(sources, "wgmma", log=log)
    assert (one.path, one.first_line, one.text) == ("kernel.cu", 1, "// wgmma here")
    assert (one.commit, one.licence) == (pin.commit, "MIT")
    (entry,) = routes.RouteLog(log).entries()
    assert (entry.route, entry.keys) == ("source", ("some-kernels",))


def test_a_search_by_pattern_ends_at_its_limit(sources, upstream):
    grow(upstream, "wgmma\n" * 20)
    sources.clone("some-kernels")
    assert len(search(sources, r"wg\w+a", given=(True, 5))) == 5
    assert search(sources, r"wg\w+a") == ()


def test_an_unknown_source_is_an_error_that_lists_the_known(sources):
    with pytest.raises(SourceError, match="some-kernels"):
        sources.clone("nothing")


def test_damaged_pins_are_an_error_that_says_what_to_do(sources, tmp_path):
    sources.clone("some-kernels")
    (tmp_path / "store" / "sources" / "pins.json").write_text("{")
    with pytest.raises(SourceError, match="remove it and clone again"):
        sources.pins()


def test_the_table_says_what_is_cloned(sources):
    (row,) = sources.table()
    assert (row["id"], row["commit"], row["licence"]) == ("some-kernels", "", "unknown")
    pin = sources.clone("some-kernels")
    (row,) = sources.table()
    assert (row["commit"], row["licence"]) == (pin.commit, "MIT")


def test_the_shipped_registry_is_whole():
    found = read_registry()
    assert len(found) >= 5
    assert all(one.url.startswith("https://github.com/") for one in found)


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": "a-b", "url": "ssh://x", "why": "long enough why"}],
        [{"id": "../up", "url": "https://x/y", "why": "long enough why"}],
        [{"id": "a-b", "url": "https://x/y", "why": "short"}],
        [{"id": "a-b", "url": "https://x/y", "why": "long enough why", "commit": "main"}],
        [{"id": "a-b", "url": "https://x/y", "why": "long enough why", "page": "x"}],
        [{"id": "a-b", "url": "https://x/y", "why": "long enough why"}] * 2,
        "text",
    ],
)
def test_a_broken_registry_is_an_error(tmp_path, rows):
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump({"sources": rows}))
    with pytest.raises(SourceError):
        read_registry(path)


def test_a_folder_without_a_licence_is_unknown(tmp_path):
    assert licence_of_folder(tmp_path) == "unknown"
    (tmp_path / "LICENSE.txt").write_text("All rights reserved")
    assert licence_of_folder(tmp_path) == "unknown"
    (tmp_path / "COPYING").write_text(MIT)
    assert licence_of_folder(tmp_path) == "MIT"


def test_pins_are_json_that_people_can_read(sources, tmp_path):
    sources.clone("some-kernels")
    told = json.loads((tmp_path / "store" / "sources" / "pins.json").read_text())
    assert set(told["some-kernels"]) == {"url", "commit", "licence"}
