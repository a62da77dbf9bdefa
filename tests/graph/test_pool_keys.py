"""A run at a broker that wants keys: `pool.keys`."""

from pathlib import Path

import pytest

from gpu_runner import wire
from gpu_runner.errors import PoolError
from gpu_runner.security.peers import Role
from graph.devices import choose
from graph.settings import PoolSettings, load_settings
from graph.wiring import open_pool
from tests.builders import make_environment
from tests.gpu_runner.security.secured import KeyedPeer, Yard, serving


def test_without_a_folder_there_are_no_keys():
    assert load_settings().pool.key_folder is None


def test_a_folder_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    settings = load_settings((), ["pool.keys=~/keys"])
    assert settings.pool.key_folder == Path("/somewhere/keys")


async def test_a_run_with_keys_reaches_its_pool(tmp_path):
    yard = Yard(tmp_path)
    mine, theirs = yard.enrolled("run"), yard.enrolled("w1", Role.WORKER)
    with (
        serving(yard) as broker,
        KeyedPeer(broker.endpoint, theirs, wire.TO_WORKER) as worker,
    ):
        worker.say_hello()
        settings = PoolSettings(endpoint=broker.endpoint, state="", keys=str(mine))
        async with open_pool(settings, tmp_path / "state") as pool:
            assert await pool.environment() == make_environment()
        assert await choose("auto", "softmax", settings) == "cpu"


async def test_keys_that_cannot_be_used_are_said_before_anything_is_asked(tmp_path):
    settings = PoolSettings(endpoint="tcp://127.0.0.1:9", state="", keys=str(tmp_path))
    with pytest.raises(PoolError, match="make a pair with: kernelpilot-runner keys new"):
        async with open_pool(settings, tmp_path):
            pass
    with pytest.raises(PoolError, match="make a pair"):
        await choose("auto", "softmax", settings)
