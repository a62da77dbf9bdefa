"""What clusters are given, byte by byte; the shell reads every script."""

import subprocess
from pathlib import Path

import pytest
import yaml

from gpu_runner.errors import PoolError
from gpu_runner.provisioning.kubernetes import KubernetesEngine
from gpu_runner.provisioning.slurm import SlurmEngine
from tests.gpu_runner.provisioning.test_engine import make_plan

GOLDEN = Path(__file__).parents[2] / "data" / "provisioning"
KEYED = {"pool": "h200", "keys": "/data/keys", "broker_key": "ab" * 32, "gpus": 1}
SLURM = {
    "plain.sbatch": (make_plan(), 1),
    "keyed.sbatch": (make_plan(**KEYED), 4),
}
KUBERNETES = {
    "plain.yaml": (make_plan(), 1),
    "keyed.yaml": (make_plan(**KEYED), 4),
}


def only_file(provision):
    (file,) = provision.files
    return file


@pytest.mark.parametrize(("name", "given"), SLURM.items())
def test_a_script_for_slurm_is_this_one(name, given):
    plan, count = given
    started = SlurmEngine(plan).start(count)
    assert only_file(started).content == (GOLDEN / name).read_text()
    assert started.commands == (f"sbatch {plan.pool}.sbatch",)


@pytest.mark.parametrize(("name", "given"), KUBERNETES.items())
def test_a_manifest_for_kubernetes_is_this_one(name, given):
    plan, count = given
    started = KubernetesEngine(plan, image="registry.example/kernelpilot:1").start(count)
    assert only_file(started).content == (GOLDEN / name).read_text()
    assert started.commands == (f"kubectl apply -f {plan.pool}.yaml",)


@pytest.mark.parametrize("name", SLURM)
def test_the_shell_reads_the_script(name):
    subprocess.run(["bash", "-n", str(GOLDEN / name)], check=True)


def test_a_manifest_is_yaml_with_so_many_pods_and_a_gpu_each():
    plan, count = KUBERNETES["keyed.yaml"]
    text = only_file(KubernetesEngine(plan, image="i").start(count)).content
    spec = yaml.safe_load(text)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 4
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    script = container["args"][0]
    assert "keys new --keys /runner/keys --broker" in script
    assert script.rstrip().endswith("--keys /runner/keys")
    plain = yaml.safe_load((GOLDEN / "plain.yaml").read_text())
    assert "resources" not in plain["spec"]["template"]["spec"]["containers"][0]
    subprocess.run(["sh", "-n", "-c", script], check=True)


@pytest.mark.processes
@pytest.mark.parametrize("code", [0, 7])
def test_a_pilot_job_drains_its_worker_and_ends_with_its_code(tmp_path, code):
    """The script itself, with a worker that notes its signals in the runner's place."""
    fake = tmp_path / "kernelpilot-runner"
    fake.write_text(
        "#!/bin/bash\n"
        'echo "$@" >> $NOTES\n'
        f"trap 'echo drained >> $NOTES; exit {code}' USR1\n"
        "echo ready >> $NOTES\n"
        "while :; do sleep 0.05; done\n"
    )
    fake.chmod(0o755)
    notes, script = tmp_path / "notes", tmp_path / "job.sbatch"
    plan = make_plan(workspace=str(tmp_path / "w"), pool="h200")
    script.write_text(only_file(SlurmEngine(plan).start(3)).content)
    job = subprocess.Popen(
        ["bash", str(script)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTES": str(notes), "SLURM_ARRAY_TASK_ID": "2"},
    )
    while not notes.exists() or "ready" not in notes.read_text():
        assert job.poll() is None
    job.send_signal(10)
    assert job.wait(timeout=30) == code
    asked = (
        f"worker --endpoint tcp://broker.example:7766 --name h200-2 --workspace {tmp_path}/w/h200-2"
    )
    assert notes.read_text().splitlines() == [asked, "ready", "drained"]


@pytest.mark.parametrize(
    "engine",
    [SlurmEngine(make_plan(pool="h200")), KubernetesEngine(make_plan(pool="h200"), image="i")],
)
def test_what_a_cluster_does_is_said_as_commands(engine):
    for said in (engine.list(), engine.drain("h200-3"), engine.stop("h200-3")):
        assert len(said.commands) == 1
        assert (said.files, said.workers) == ((), ())
        assert "h200" in said.commands[0]
        subprocess.run(["bash", "-n", "-c", said.commands[0]], check=True)
    for name in ("h200", "other-1", "h200-x", "h200-1; rm x"):
        with pytest.raises(PoolError, match="no worker of 'h200'"):
            engine.stop(name)


def test_keys_without_the_brokers_are_refused():
    plan = make_plan(keys="/k")
    with pytest.raises(PoolError, match="--broker-key"):
        SlurmEngine(plan)
    with pytest.raises(PoolError, match="--broker-key"):
        KubernetesEngine(plan, image="i")


def test_pods_need_an_image():
    with pytest.raises(PoolError, match="--image"):
        KubernetesEngine(make_plan(), image="")
