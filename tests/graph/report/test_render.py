import re
from pathlib import Path

import pytest

from agents.replies import OpenQuestion
from graph.ledger import ExitReason
from graph.report import render
from graph.report.render import binary_size, commands, duration, sentence
from graph.target import Budget, Goal, Hardware, Scope, Target
from tests.graph.report.page import Page
from tests.graph.synthetic_run import SyntheticRun, whole_run
from tests.graph.synthetic_target import make_environment, make_manifest, make_plan, make_target

HOSTILE = '</td><script>alert("x")</script><img src=http://evil.example/x onerror=a> & {{ 7*7 }}'


def rendered(run, tuning=None, result=None) -> Page:
    path = render(run.files, run.manifest, run.files.attempts(), tuning, result)
    assert path == run.files.root / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = whole_run(tmp_path_factory.mktemp("run"))
    tuning, result = run.tuning(), run.finish()
    return run, tuning, result, rendered(run, tuning, result)


@pytest.fixture
def short(tmp_path):
    return SyntheticRun(tmp_path)


def test_the_page_is_balanced_and_its_ids_are_unique(whole):
    page = whole[3]
    assert len(page.ids) == len(set(page.ids))


def test_every_link_leads_to_something_on_the_page(whole):
    page = whole[3]
    assert page.targets
    assert {target.removeprefix("#") for target in page.targets} <= set(page.ids)
    assert all(target.startswith("#") for target in page.targets)


def test_nothing_is_fetched_and_nothing_runs(whole):
    run, _, _, page = whole
    text = (run.files.root / "report.html").read_text()
    assert page.named("script") == []
    assert page.named("link") == []
    assert not re.search(r"url\(|@import|javascript:", text)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    (policy,) = [m["content"] for m in page.named("meta") if m.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_no_url_at_all_is_in_the_page(whole):
    run = whole[0]
    assert "://" not in (run.files.root / "report.html").read_text()


def test_every_record_and_every_attempt_has_its_place(whole):
    run, _, _, page = whole
    assert {f"record-{record_id}" for record_id in run.files.records()} <= set(page.ids)
    assert {attempt.attempt_id for attempt in run.files.attempts()} <= set(page.ids)


def test_the_headline_shows_the_final_claims(whole):
    _, _, result, page = whole
    for decision in result.best:
        assert f"vs {decision.against}" in page.text
        assert f"{decision.overall.low:.2f}× to {decision.overall.high:.2f}×" in page.text
        assert f"{decision.overall.speedup:.2f}×" in page.texts_in("div")
    assert "Measured after the kernel was selected" in page.text
    assert "plan complete" in page.text


def test_sections_a_reader_looks_for_are_there(whole):
    wanted = {
        "Speed-up by attempt",
        "Latency by attempt",
        "Speed-up by workload",
        "Roofline",
        "Fraction of the roof",
        "Dispatcher",
        "Plan and acceptance",
        "What the profiles said",
        "Lineage",
        "Attempt ledger",
        "Measurement records",
        "Environment",
        "Where the time went",
        "Reproduce",
    }
    assert wanted <= set(whole[3].texts_in("h2"))


def test_figures_are_named_for_those_who_do_not_see_them(whole):
    figures = whole[3].named("svg")
    assert len(figures) == 6
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)


def test_the_dispatcher_cites_guards_reasons_and_records(whole):
    _, tuning, _, page = whole
    for regime in tuning.regimes:
        assert regime.guard in page.texts_in("code")
        assert regime.reason in page.text
    assert tuning.reason in page.text


def test_criteria_show_status_and_evidence(whole):
    page = whole[3]
    assert "MET" in page.texts_in("span")
    assert "PARTIAL" in page.texts_in("span")
    assert "run-admit" in page.texts_in("span")


def test_a_question_left_open_shows_what_the_plan_went_by(short):
    asked = OpenQuestion(
        question="May <b>rows</b> be padded?",
        options=("yes", "no"),
        default="no",
        reason="it costs",
    )
    short.files.save_reply("r001", make_plan().model_copy(update={"open_questions": (asked,)}))
    text = rendered(short).text
    assert "May <b>rows</b> be padded?" in text
    assert "yes / no" in text
    assert "It costs." in text


def test_hidden_workloads_are_counted_and_not_shown(whole):
    page = whole[3]
    assert "6 public, 1 hidden" in page.text
    assert "secret_shape" not in page.text
    assert "1031" not in page.text


def test_the_environment_and_the_commands_are_complete(whole):
    run, _, _, page = whole
    for fact in (
        "Xeon at 2.1 GHz",
        "x86_64",
        "8 GiB",
        "g++ 12.2.0",
        "bubblewrap, seccomp, rlimits",
    ):
        assert fact in page.text
    (shown,) = [text for text in page.texts_in("pre") if text.startswith("make install")]
    assert shown.splitlines() == list(commands(run.manifest, run.incumbent))


def test_rejections_say_where_why_and_what(whole):
    page = whole[3]
    assert "compile failed" in page.text
    assert "wide/normal, y[3, 77]: 0.0132 for 0.0041" in page.text
    assert "runner was lost" in page.text


def test_a_run_in_progress_is_provisional(tmp_path):
    run = whole_run(tmp_path)
    assert run.incumbent is not None
    page = rendered(run)
    assert "This run is in progress" in page.text
    assert "Provisional" in page.text
    assert "1 min 1 s" in page.text
    assert f"{run.incumbent.claims[0].overall.speedup:.2f}×" in page.texts_in("div")


def test_a_run_that_has_just_begun_renders(short):
    page = rendered(short)
    assert "No attempt has ended yet." in page.text
    assert "Attempt ledger" not in page.text
    assert page.named("svg") == []


def test_a_run_without_a_promotion_says_so(short):
    short.rejected()
    short.measured(0.93)
    page = rendered(short, result=short.finish(ExitReason.PLATEAU))
    assert "No kernel was shown to be faster" in page.text
    assert "1 attempt computed the right result and was not promoted, 1 was rejected." in page.text
    assert "The baseline stays what to use." in page.text
    assert "Speed-up by workload" not in page.text


def test_a_run_of_rejections_alone_has_no_latency_figure(short):
    short.rejected()
    page = rendered(short)
    assert "Nothing is measured yet." in page.text
    assert len(page.named("svg")) == 2


def test_a_slower_final_kernel_is_called_slower(short):
    short.promoted(1.3)
    result = short.finish()
    slower = result.best[1]
    page = rendered(short, result=result)
    assert slower.overall.verdict == "SLOWER"
    assert "SLOWER" in page.texts_in("span")


def test_disturbances_are_shown_with_the_claim(short):
    short.promoted(1.3)
    result = short.finish()
    noisy = tuple(d.model_copy(update={"noise": ("p90/p50 is 1.9",)}) for d in result.best)
    page = rendered(short, result=result.model_copy(update={"best": noisy}))
    assert page.text.count("Disturbed: p90/p50 is 1.9") == 2


def test_a_record_that_is_not_in_the_directory_is_said_to_be_missing(short):
    row = short.promoted(1.3)
    missing = row.claims[0].record_id
    (short.files.root / "records" / f"{missing}.json").unlink()
    page = rendered(short)
    assert f"record-{missing}" in page.ids
    assert "not in this run directory" in page.text


def test_what_models_and_candidates_wrote_is_text(tmp_path):
    run = SyntheticRun(tmp_path)
    candidate = run.candidate(HOSTILE)
    run.promoted(
        1.4, motivation=HOSTILE, recipe=HOSTILE, family=HOSTILE, parameters={HOSTILE: HOSTILE}
    )
    run.rejected(message=HOSTILE, motivation=HOSTILE)
    run.attempt(
        candidate=candidate,
        outcome="promoted",
        version=HOSTILE,
        motivation=HOSTILE,
        feedback=run.decision(candidate, HOSTILE, 1.2, 1),
        claims=(run.decision(candidate, "torch eager", 1.7, 5),),
    )
    run.manifest = make_manifest(target=_hostile_target(), team=HOSTILE, run_id=HOSTILE)
    run.replies()
    result = run.finish().model_copy(update={"message": HOSTILE})
    page = rendered(run, result=result)
    assert page.named("script") == []
    assert page.named("img") == []
    assert "49" not in page.texts_in("h1")
    assert page.text.count("{{ 7*7 }}") > 5
    assert all(target.startswith("#") for target in page.targets)


def _hostile_target() -> Target:
    target = make_target()
    problem = target.problem.model_copy(update={"description": HOSTILE})
    workloads = tuple(w.model_copy(update={"source": HOSTILE}) for w in target.workloads)
    return target.model_copy(update={"problem": problem, "workloads": workloads})


def test_commands_repeat_the_run_and_measure_its_best_kernel_again(short):
    budget = Budget(rounds=9, wall_s=300)
    manifest = make_manifest(target=make_target(budget=budget, scope=Scope(lanes=3)))
    run = ".venv/bin/kernelpilot run softmax --device cpu --seed 7 --rounds 9 --lanes 3"
    repeat = ("make install", f"{run} --team playbook --budget 300s")
    assert commands(manifest, None) == repeat
    again = f".venv/bin/kernelpilot evaluate softmax {manifest.run_id}:a0001 --against"
    assert commands(manifest, short.promoted()) == (
        *repeat,
        f'{again} "torch eager"',
        f'{again} "torch compile"',
    )


def test_the_same_run_renders_to_the_same_bytes(whole):
    run, tuning, result, _ = whole
    path = Path(run.files.root / "report.html")
    before = path.read_bytes()
    rendered(run, tuning, result)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (60, "1 min 0 s"),
        (287.4, "4 min 47 s"),
        (7265, "2 h 1 min"),
    ],
)
def test_lengths_of_time(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(512, "512 B"), (1536, "1.5 KiB"), (8 * 2**30, "8 GiB"), (2**42, "4 TiB")]
)
def test_sizes(count, shown):
    assert binary_size(count) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("no gain", "No gain."), ("Done.", "Done."), (" p50 is 3... ", "P50 is 3."), ("", "")],
)
def test_sentences(text, shown):
    assert sentence(text) == shown


# -- on a GPU ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    run = whole_run(tmp_path_factory.mktemp("gpu"))
    run.manifest = make_manifest(
        target=make_target(
            hardware=Hardware(device="cuda"), goal=Goal(speedup=1.01, against="best")
        ),
        environment=make_environment(
            machine="NVIDIA H200", arch="sm_90a", kernel="6.1, driver 580, CUDA 13.0",
            compiler="nvrtc 13.0, triton 3.6", governor="at most SM 1980 MHz", sandbox=(),
        ),
    )  # fmt: skip
    return rendered(run, run.tuning(), run.finish())


@pytest.mark.parametrize(
    "words",
    [
        "median of one call's device time, cold L2 cache",
        "device clock",
        "Device time of one call",
        "the best baseline (torch",
        "NVIDIA H200, sm_90a",
        "Kernel and driver",
        "at most SM 1980 MHz",
        "device code and a launch plan",
        "the rate of its best copy",
    ],
)
def test_a_run_on_a_gpu_is_told_in_a_gpus_words(on_gpu, words):
    assert words in on_gpu.text


def test_a_run_on_a_gpu_says_nothing_of_threads(on_gpu):
    assert "Threads" not in on_gpu.text
    assert "thread," not in on_gpu.text


def test_every_workload_shows_its_floor_and_how_much_of_it_is_reached(whole):
    run, _, result, page = whole
    for roof in run.files.facts(result.best_attempt).roofline:
        kernel_us = result.best[0].workloads[roof.workload].candidate_us
        assert f"{100 * roof.floor_us / kernel_us:.0f} %" in page.text
    assert "Floor: the least time" in page.text


def test_a_kernel_that_was_not_profiled_has_no_floor(tmp_path):
    run = whole_run(tmp_path)
    for path in (run.files.root / "facts").iterdir():
        path.unlink()
    assert "not profiled" in rendered(run, None, run.finish()).text
