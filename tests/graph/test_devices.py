"""Which device a run is measured on, by what the target offers and what answers."""

import stat
import tempfile
from pathlib import Path

import pytest

from graph.devices import choose, is_gpu, listed_gpus, refuse_mismatch
from graph.errors import SettingsError, TargetError
from graph.run import begin
from graph.run_files import RunFiles
from graph.settings import PoolSettings, load_settings
from graph.target import Hardware
from graph.targets import devices_of
from tests.graph.builders import make_environment, make_target
from tests.graph.pool import ScenarioPool
from tests.graph.processes import scenario_bus
from tests.graph.test_targets import GOOD

HERE = PoolSettings(endpoint="", state="")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Put an `nvidia-smi` in front that lists so many GPUs; None: no such tool."""

    def install(count: int | None, code: int = 0) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        tool = folder / "nvidia-smi"
        tool.unlink(missing_ok=True)
        monkeypatch.setenv("PATH", str(folder))
        if count is None:
            return
        lines = "\n".join(f'echo "GPU {i}: a large one (UUID: GPU-{i})"' for i in range(count))
        tool.write_text(f"#!/bin/sh\n{lines or 'echo No devices were found'}\nexit {code}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.fixture
def target(tmp_path):
    """Write a target that offers these devices."""

    def write(*devices: str) -> str:
        path = tmp_path / "scale.yaml"
        text = GOOD
        if "cpu" not in devices:
            start, end = text.index("  cpu:"), text.index("  cuda:")
            text = text[:start] + text[end:]
        if "cuda" not in devices:
            start, end = text.index("  cuda:"), text.index("budget:")
            text = text[:start] + text[end:]
        path.write_text(text)
        return str(path)

    return write


# -- what this machine has -----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "found"), [(None, 0), (0, 0), (1, 1), (8, 8)])
def test_the_driver_is_asked_for_its_gpus(machine, count, found):
    machine(count)
    assert len(listed_gpus()) == found


def test_a_driver_that_fails_has_no_gpus(machine):
    machine(2, code=9)
    assert listed_gpus() == ()


def test_a_tool_that_cannot_be_run_has_no_gpus(machine, tmp_path):
    machine(1)
    (tmp_path / "bin" / "nvidia-smi").write_bytes(b"\x7fELF no program")
    assert listed_gpus() == ()


@pytest.mark.parametrize(("arch", "expected"), [("sm_90a", True), ("x86_64", False), ("", False)])
def test_a_worker_measures_on_a_gpu_where_its_architecture_says_so(arch, expected):
    assert is_gpu(make_environment(arch=arch)) is expected


# -- what is chosen ------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["cpu", "cuda"])
@pytest.mark.parametrize("count", [None, 1])
async def test_what_is_asked_for_is_taken(machine, target, asked, count):
    machine(count)
    assert await choose(asked, target("cpu", "cuda"), HERE) == asked


@pytest.mark.parametrize(
    ("offered", "count", "chosen"),
    [
        (("cpu", "cuda"), 1, "cuda"),
        (("cpu", "cuda"), 0, "cpu"),
        (("cpu", "cuda"), None, "cpu"),
        (("cpu",), 1, "cpu"),
        (("cuda",), 1, "cuda"),
    ],
)
async def test_auto_takes_a_gpu_where_target_and_machine_have_one(
    machine, target, offered, count, chosen
):
    machine(count)
    assert await choose("auto", target(*offered), HERE) == chosen


async def test_a_target_for_a_gpu_only_is_refused_without_one(machine, target):
    machine(None)
    with pytest.raises(TargetError, match=r"for a GPU only and this machine has none.*doctor"):
        await choose("auto", target("cuda"), HERE)


async def test_an_unknown_device_is_named_with_the_known_ones(target):
    with pytest.raises(TargetError, match="unknown device 'tpu'; known: auto, cpu, cuda"):
        await choose("tpu", target("cpu"), HERE)


async def test_an_unknown_target_is_refused_before_anything_is_asked():
    with pytest.raises(TargetError, match="did you mean 'softmax'"):
        await choose("auto", "sofmax", PoolSettings(endpoint="ipc:///nowhere", state=""))


@pytest.mark.processes
async def test_a_pool_that_is_set_is_asked_for_its_own_machine(machine, target):
    machine(1)
    with (
        tempfile.TemporaryDirectory(prefix="kernelpilot-") as folder,
        scenario_bus(Path(folder)) as endpoint,
    ):
        settings = PoolSettings(endpoint=endpoint, state="")
        assert await choose("auto", target("cpu", "cuda"), settings) == "cpu"
        with pytest.raises(TargetError, match="the pool at ipc"):
            await choose("auto", target("cuda"), settings)


def test_the_devices_of_a_target_are_those_of_its_file(target):
    assert devices_of("softmax") == ("cpu", "cuda")
    assert devices_of(target("cuda")) == ("cuda",)


# -- what is refused before a run ----------------------------------------------------------------


def test_a_gpu_target_is_refused_where_the_worker_has_no_gpu():
    target = make_target(hardware=Hardware(device="cuda"))
    with pytest.raises(TargetError, match=r"the pool's worker is test processor \(x86_64\)"):
        refuse_mismatch(target, make_environment())
    refuse_mismatch(target, make_environment(arch="sm_90a"))


@pytest.mark.parametrize("arch", ["x86_64", "sm_90a"])
def test_a_processor_target_runs_beside_a_gpu_as_well(arch):
    refuse_mismatch(make_target(), make_environment(arch=arch))


async def test_a_run_for_a_gpu_does_not_begin_without_one(tmp_path):
    files = RunFiles(tmp_path / "run")
    target = make_target(hardware=Hardware(device="cuda"))
    with pytest.raises(TargetError, match="on a GPU"):
        await begin(files, target, "playbook", ScenarioPool(), seed=0)
    assert not files.root.exists()


# -- how it is timed -----------------------------------------------------------------------------


def test_a_gpu_is_timed_by_plans_of_its_own():
    bench = load_settings().bench
    assert bench.on("cpu") is bench
    assert bench.on("cuda") is bench.cuda
    assert bench.cuda.claim.sittings >= 5
    assert bench.cuda.feedback.token_us < bench.feedback.token_us


def test_a_claim_on_a_gpu_needs_its_sittings_too():
    with pytest.raises(SettingsError, match=r"bench\.cuda.*a claim needs 5"):
        load_settings(assignments=("bench.cuda.claim.sittings=3",))
