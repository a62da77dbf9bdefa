import pytest

from scripts import docs


@pytest.fixture(scope="module")
def generated():
    return {name: generate() for name, generate in docs.DOCUMENTS.items()}


def test_documents_in_the_checkout_are_what_the_code_says(generated):
    held = {name: (docs.ROOT / name).read_text() for name in generated}
    assert held == generated


def test_the_diagram_has_every_node_and_both_ends(generated):
    diagram = generated["docs/graph.md"]
    for node in ("plan", "research", "write", "build", "check", "bench", "profile", "review"):
        assert f"\t{node}(" in diagram
    assert "__start__" in diagram
    assert "autotune --> finish" in diagram


def test_the_command_lines_name_every_command(generated):
    text = generated["docs/cli.md"]
    for command in ("run", "resume", "status", "report", "targets", "evaluate", "doctor"):
        assert f"## `kernelpilot {command}`" in text
    for command in ("broker", "worker", "run-job", "execute", "export", "import"):
        assert f"## `kernelpilot-runner {command}`" in text


def test_generating_twice_gives_the_same_text(generated):
    assert docs.graph_diagram() == generated["docs/graph.md"]
