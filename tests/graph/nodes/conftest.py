"""A workshop in the test's own directory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.graph.nodes.workshop import Workshop

MakeWorkshop = Callable[..., Workshop]


@pytest.fixture
def make_workshop(tmp_path: Path) -> MakeWorkshop:
    def make(**changes) -> Workshop:
        return Workshop(tmp_path, **changes)

    return make


@pytest.fixture
def workshop(make_workshop: MakeWorkshop) -> Workshop:
    return make_workshop()
