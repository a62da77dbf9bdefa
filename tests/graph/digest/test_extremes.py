"""Digests of kernels with hostile names, huge or no numbers, and their order of triggers."""

import io
import re
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpu_runner.facts import Hotspot
from graph.digest.build import build, chosen, confidence_word, shown
from graph.digest.html import html, roofline_figure, stall_figure
from graph.digest.markdown import for_model, markdown, plain
from graph.digest.model import Digest
from graph.digest.terminal import show
from graph.errors import KernelNotFound
from tests.agents.diagnosis.kernels import make_kernel

CHANGE = re.compile(r"^- Change: .+", re.MULTILINE)
BARE = dict.fromkeys(
    [
        "time_us",
        "dram_fraction",
        "l2_fraction",
        "l1_fraction",
        "sm_fraction",
        "issue_fraction",
        "waves",
        "occupancy_fraction",
        "occupancy_bound",
        "tail_fraction",
        "active_fraction",
        "sector_use",
        "thread_fraction",
        "l2_hit_fraction",
        "shared_fraction",
        "shared_conflict_share",
        "local_sector_share",
        "atomic_request_share",
        "multiprocessors",
    ]
)


def bare(**changes):
    """A kernel of which nothing but its name is known."""
    return make_kernel(**BARE, pipes={}, stalls={}, grid=(), block=(), arch="", **changes)


def printed(digest: Digest) -> str:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    show(console, digest)
    return cast("io.StringIO", console.file).getvalue()


def cells(row: str) -> int:
    """Count the cells of a row as a reader of Markdown does."""
    return len(re.findall(r"(?:\\.|[^|\\])+", row.strip("|")))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("a\\", "a\\\\"),
        ("[x](http://e)", r"\[x](http://e)"),
        ("![x](http://e)", r"!\[x](http://e)"),
        ("a\n\nb\tc", "a b c"),
        ("\x1b[31mred\x07", r"\[31mred"),
        ("a\0b\x7f", "ab"),
        ("a\u202eb", "ab"),
        ("<b>`x`", "&lt;b>'x'"),
        ("k<float, (int)4>(float *)", "k&lt;float, (int)4>(float *)"),
        ("", ""),
    ],
)
def test_a_name_is_plain_text_in_markdown(text, written):
    assert plain(text) == written


@given(st.text(alphabet="\\|[]`<ab \n\x1b", max_size=30))
def test_any_name_stays_in_its_cell(text):
    assert cells(f"| {plain(text)} | x |") == 2
    assert "\x1b" not in plain(text)


@given(st.text(max_size=30))
def test_no_control_sequence_reaches_a_terminal(name):
    spot = Hotspot(symbol="line", share=1.0, path=name, line=1, text=name, detail=name)
    text = printed(build((make_kernel(kernel=f"k{name}", hotspots=(spot,)),), report=name))
    assert not {char for char in text if not char.isprintable()} - {"\n"}


def test_a_sequence_in_any_name_is_shown_as_text():
    evil = "\x1b]0;owned\x07\x1b[2J"
    other = make_kernel(kernel="other", time_us=1.0)
    digest = build(
        (make_kernel(kernel=evil), other), report=evil, against=(other,), against_report=evil
    )
    assert "owned" in printed(digest)
    for text in (printed(digest), markdown(digest), for_model(digest)):
        assert "\x1b" not in text
        assert "\x07" not in text


@pytest.mark.parametrize("length", [100, 1000, 5000, 50_000])
def test_a_name_of_any_length_leaves_room_for_the_edit(length):
    digest = build((make_kernel(kernel="k" * length, dram_fraction=0.9),), report="r" * length)
    text = for_model(digest)
    assert len(text) <= 2000 * 3 + 1
    change = CHANGE.search(markdown(digest))
    assert change is not None
    assert change.group() in text
    assert "- Validation: " in text
    assert "## Headline" in text


@given(st.integers(1, 3000))
def test_what_a_model_is_given_never_exceeds_its_room(most):
    digest = build((make_kernel(dram_fraction=0.9),), report="r")
    text = for_model(digest, most_tokens=most)
    assert len(text) <= most * 3 + 1
    if most >= 1000:
        assert CHANGE.search(text)


def test_more_room_never_shows_less():
    digest = build((make_kernel(dram_fraction=0.9),), report="r")
    sections = [
        re.findall(r"^## (.+)$", for_model(digest, most_tokens=most), re.MULTILINE)
        for most in (500, 700, 1000, 2000, 10_000)
    ]
    assert [len(one) for one in sections] == sorted(len(one) for one in sections)
    assert len(sections[-1]) == 7


def test_a_kernel_of_which_nothing_is_known_is_rendered_everywhere():
    digest = build((bare(),), report="r")
    assert (digest.bottleneck, digest.route) == ("unknown", "capture")
    assert digest.missing
    assert "capture the kernel again" in digest.next_edit.change
    assert "no samples" in markdown(digest)
    assert "no machine code" in markdown(digest)
    assert "Grid, block" not in markdown(digest)
    assert roofline_figure(digest) == stall_figure(digest) == ""
    assert "missing" in printed(digest)
    for text in (html(digest), printed(digest), for_model(digest)):
        assert digest.next_edit.change[:30] in " ".join(text.split())


def test_bare_kernels_can_be_compared():
    digest = build((bare(),), report="new", against=(bare(),), against_report="old")
    assert digest.against is not None
    assert digest.against.headline == "no duration in one of the reports"
    assert (digest.against.changes, digest.against.explanation) == ((), ())
    assert digest.against.time_change_percent is None
    assert "Against old: no duration" in markdown(digest)
    assert "against old" in printed(digest)
    html(digest)


@pytest.mark.parametrize("time_us", [1e-3, 1.0, 1e9, 1e15])
@pytest.mark.parametrize("share", [0.0, 1e-12, 1.0])
def test_numbers_of_any_size_are_rendered(time_us, share):
    kernel = make_kernel(time_us=time_us, dram_fraction=share, share=share, launches=10**9)
    digest = build((kernel, make_kernel(kernel="other")), report="r", against=(kernel,))
    assert digest.against is not None
    assert digest.against.time_change_percent == 0
    for text in (markdown(digest), html(digest), printed(digest)):
        assert "nan" not in re.findall(r"\b\w+\b", text)
        assert "inf" not in re.findall(r"\b\w+\b", text)


@settings(max_examples=30, deadline=None)
@given(*[st.floats(1e3, 1e18)] * 4)
def test_a_roofline_is_drawn_within_its_figure(bandwidth, peak, moved, rate):
    kernel = make_kernel(
        peak_bytes_per_s=bandwidth, peak_flops_per_s=peak, bytes_per_s=moved, flops_per_s=rate
    )
    figure = str(roofline_figure(build((kernel,), report="r")))
    (circle,) = re.findall(r"<circle[^>]*>", figure)
    place = {name: float(value) for name, value in re.findall(r'(cx|cy)="([-\d.e]+)"', circle)}
    assert 0 <= place["cx"] <= 640
    assert place["cy"] <= 260


@pytest.mark.parametrize("absent", ["peak_bytes_per_s", "peak_flops_per_s", "bytes_per_s"])
def test_without_one_of_its_numbers_no_roofline_is_drawn(absent):
    known = dict.fromkeys(
        ("peak_bytes_per_s", "peak_flops_per_s", "bytes_per_s", "flops_per_s"), 1e12
    )
    for value in (None, 0.0):
        kernel = make_kernel(**{**known, absent: value})
        assert roofline_figure(build((kernel,), report="r")) == ""


def test_stalls_below_half_a_percent_are_not_listed():
    stalls = {"wait": 0.99, "barrier": 0.0049, "drain": 0.0051}
    digest = build((make_kernel(stalls=stalls),), report="r")
    assert list(digest.stalls) == ["wait", "drain"]
    assert printed(digest).count("#") > 20


@pytest.mark.parametrize(
    ("confidence", "word"),
    [(1.0, "high"), (0.8, "high"), (0.79, "medium"), (0.55, "medium"), (0.54, "low"), (0, "low")],
)
def test_a_confidence_has_a_word_from_its_border_on(confidence, word):
    assert confidence_word(confidence) == word


@pytest.mark.parametrize(
    ("signal", "value", "text"),
    [
        ("time_us", 1e6, "1 s"),
        ("dram_bytes", 1e6, "1 MB"),
        ("stall_barrier", 0.25, "25.0 %"),
        ("pipe_xu", 0.5, "50.0 %"),
        ("work_busy", 0.5, "50.0 %"),
        ("busiest", 1.0, "100.0 %"),
        ("dram_reached", 0.5, "50.0 %"),
        ("excess_bytes", 2.0, "2"),
        ("no_such_thing", 0.5, "0.5"),
    ],
)
def test_a_signal_is_shown_in_its_unit(signal, value, text):
    assert shown(signal, value) == text


@pytest.mark.parametrize("name", ["k[1]", "k<float, 4>", "k(float*)", "k+", "K\\"])
def test_a_name_with_signs_of_patterns_is_found_as_it_is(name):
    kernels = (make_kernel(kernel="other"), make_kernel(kernel=name))
    assert chosen(kernels, name).kernel == name


def test_of_a_report_with_more_kernels_than_can_be_named_the_rest_are_counted():
    kernels = [make_kernel(kernel=f"a{number}") for number in range(13)]
    with pytest.raises(KernelNotFound, match=r"a11 and 1 more$"):
        chosen(kernels, "zzz")
    with pytest.raises(KernelNotFound, match=r"a11$"):
        chosen(kernels[:12], "zzz")


def test_an_id_changes_with_any_fact_and_with_nothing_else():
    ids = {
        build((make_kernel(time_us=time_us),), report=report).digest_id
        for time_us in (100.0, 100.0, 100.1)
        for report in ("a", "b")
    }
    assert len(ids) == 4
    assert all(re.fullmatch(r"[0-9a-f]{12}", one) for one in ids)
