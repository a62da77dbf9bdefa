"""What a pool's plan may hold, and the command it gives."""

import pytest
from pydantic import ValidationError

from gpu_runner.provisioning.engine import WorkerPlan, home_of, worker_command


def make_plan(**changes):
    values = {"endpoint": "tcp://broker.example:7766", "workspace": "/data/workers"}
    return WorkerPlan(**{**values, **changes})


def test_names_stay_the_same():
    assert [make_plan(pool="h200").name_of(n) for n in (0, 11)] == ["h200-0", "h200-11"]


@pytest.mark.parametrize("pool", ["", "A", "a b", "-a", "a-", "a;b", "a" * 41, "1a", "a\n"])
def test_a_pool_has_a_name_that_jobs_and_pods_may_have(pool):
    with pytest.raises(ValidationError):
        make_plan(pool=pool)


@pytest.mark.parametrize(
    "text", ["a b", "a;b", "$(x)", "`x`", "a'b", 'a"b', "a\nb", "a|b", "a&b", "{a}", "a\\b", "*"]
)
@pytest.mark.parametrize("field", ["endpoint", "workspace", "keys"])
def test_nothing_goes_into_a_script_that_a_shell_would_read(field, text):
    with pytest.raises(ValidationError):
        make_plan(**{field: text})


def test_the_command_is_the_runners(tmp_path):
    words = "worker --endpoint tcp://broker.example:7766 --name w-1 --workspace /w"
    assert worker_command(make_plan(), "w-1", workspace="/w") == words.split()
    keyed = worker_command(make_plan(keys="/k"), "w-1", workspace="/w")
    assert keyed[-2:] == ["--keys", "/k/w-1"]
    assert home_of(make_plan(workspace=str(tmp_path)), "w-1") == tmp_path / "w-1"
