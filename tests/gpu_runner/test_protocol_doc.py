"""PROTOCOL.md's table follows the types."""

import pytest

from gpu_runner import wire
from gpu_runner.protocol_doc import BEGIN, DOCUMENT, END, main, table, updated


def test_the_document_is_up_to_date():
    assert main(["--check"]) == 0


def test_every_message_has_a_row_that_says_something():
    rows = [line for line in table().splitlines() if line.startswith("| `")]
    kinds = {row.split("`")[1] for row in rows}
    unions = wire.AnyMessage.__args__
    assert kinds == {member.model_fields["kind"].default for member in unions}
    assert all(row.count(" | ") == 2 and not row.endswith("|  |") for row in rows)


def test_fields_are_shown_as_declared():
    assert "| `pong` | `seq: Count` |" in table()
    assert "`retry_after_s?: Seconds \\| None`" in table()
    assert "| `drain` | none |" in table()


def test_a_stale_document_is_found_and_mended(tmp_path, capsys):
    path = tmp_path / "P.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--check", str(path)]) == 1
    assert "protocol_doc --write" in capsys.readouterr().err
    assert main(["--write", str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    assert path.read_text().startswith(f"before\n{BEGIN}\n\n### Client to broker")
    assert path.read_text().endswith(f"{END}\nafter\n")


@pytest.mark.parametrize("text", ["", BEGIN, END])
def test_a_document_without_markers_is_refused(text):
    with pytest.raises(ValueError, match="needs the lines"):
        updated(text)


def test_the_page_is_shipped_beside_the_types():
    assert DOCUMENT.parent.joinpath("wire.py").exists()
