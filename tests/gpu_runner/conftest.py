"""A zygote of subjects for the tests of one process: torch is imported once, not in every test."""

import pytest

from gpu_runner.host.nursery import nursery


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """A folder in which a zygote listens; it imports torch when the first fork is wanted."""
    folder = tmp_path_factory.mktemp("nursery")
    with nursery(folder):
        yield folder
