import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.host.neighbours import Reading, others_percent, read

BURN = "import time\nuntil = time.process_time() + 0.4\nwhile time.process_time() < until: pass"


def reading(at_s, used_s, own_s):
    return Reading(at_s=at_s, used_s=used_s, own_s=own_s)


def test_what_is_used_and_not_ours_is_the_others():
    found = others_percent(reading(10, 100, 5), reading(14, 106, 7), subjects_s=1.5, processors=2)
    assert found == pytest.approx(100 * (6 - 2 - 1.5) / 8)


def test_nobody_else_is_nothing():
    before, after = reading(0, 50, 1), reading(2, 53, 3)
    assert others_percent(before, after, subjects_s=1.0, processors=2) == 0.0


seconds = st.floats(min_value=0, max_value=1e6)


@given(elapsed=seconds, used=seconds, own=seconds, subjects=seconds, processors=st.integers(1, 512))
def test_it_is_a_share_whatever_the_clocks_say(elapsed, used, own, subjects, processors):
    after = reading(1 + elapsed, 2 + used, 3 + own)
    found = others_percent(reading(1, 2, 3), after, subjects_s=subjects, processors=processors)
    assert 0.0 <= found <= 100.0


def test_clocks_only_grow():
    before = read()
    time.sleep(0.02)
    after = read()
    assert after.at_s > before.at_s
    assert after.used_s >= before.used_s
    assert after.own_s >= before.own_s


@pytest.mark.timed
def test_a_process_that_is_not_ours_is_seen():
    before = read()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    found = others_percent(before, read(), subjects_s=0.0, processors=os.cpu_count() or 1)
    assert found > 5.0
    assert found > others_percent(before, read(), subjects_s=0.4, processors=os.cpu_count() or 1)
