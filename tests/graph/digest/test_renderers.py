"""Markdown, the short form for a model, HTML and the terminal show the same digest."""

import io
import re
from html.parser import HTMLParser
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpu_runner.facts import Hotspot
from graph.digest.build import build
from graph.digest.html import html, roofline_figure, stall_figure
from graph.digest.markdown import for_model, markdown
from graph.digest.terminal import show
from tests.agents.diagnosis.kernels import KNOWN, make_kernel
from tests.graph.digest.builders import digest_of

SECTIONS = [
    "Environment",
    "Headline",
    "Evidence",
    "Hotspots",
    "PTX/SASS",
    "Inference chain",
    "Next Concrete Edit",
]
EVIL = "k<script>alert(1)</script>|`x` [bold]"


def against(**changes):
    old = make_kernel(time_us=100.0, registers=64, occupancy_bound=0.5)
    new = make_kernel(time_us=150.0, registers=96, occupancy_bound=0.25, **changes)
    return build((new,), report="new.csv", against=(old,), against_report="old.csv")


@pytest.mark.parametrize("name", KNOWN)
def test_markdown_has_the_sections_in_their_order(name):
    text = markdown(digest_of(name))
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert digest_of(name).next_edit.change in text


def test_markdown_names_line_instruction_and_ledger():
    text = markdown(digest_of("dram_stream"))
    assert "zoo.cu:8" in text
    assert "load_global_128 1" in text
    assert "NVIDIA H200 sm_90" in text


def test_markdown_explains_a_loss():
    text = markdown(against())
    assert "150 us against 100 us: +50 %" in text
    assert "slower because: registers a thread 64 -> 96" in text
    assert "| Duration | 100 us | 150 us | +50 % | no |" in text


@pytest.mark.parametrize("name", KNOWN)
def test_a_model_is_given_at_most_two_thousand_tokens_and_always_the_edit(name):
    text = for_model(digest_of(name))
    assert len(text) <= 2000 * 3 + 1
    assert "## Next Concrete Edit" in text
    assert digest_of(name).digest_id in text


def test_what_does_not_fit_is_left_out_from_the_middle():
    text = for_model(digest_of("dram_stream"), most_tokens=500)
    assert len(text) <= 500 * 3 + 1
    assert "## Headline" in text
    assert "## Next Concrete Edit" in text
    assert "## Environment" not in text


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]


@pytest.mark.parametrize("name", KNOWN)
def test_the_page_fetches_nothing_and_runs_nothing(name):
    text = html(digest_of(name))
    page = Page()
    page.feed(text)
    assert page.addresses == []
    assert "script" not in page.tags
    assert not re.search(r"https?://|//\w", text)
    assert "default-src 'none'" in text
    assert digest_of(name).next_edit.change[:40] in text


def test_the_page_has_roofline_and_stalls_where_they_were_measured():
    digest = digest_of("dram_stream")
    assert "Roofline" in roofline_figure(digest)
    assert "long scoreboard" in stall_figure(digest)
    bare = build((make_kernel(stalls={}),), report="r")
    assert roofline_figure(bare) == stall_figure(bare) == ""


def test_what_a_kernel_is_called_changes_no_page():
    spot = Hotspot(symbol="line", share=1.0, path=EVIL, line=1, text=EVIL, detail=EVIL)
    digest = build((make_kernel(kernel=EVIL, hotspots=(spot,)),), report=EVIL)
    assert "<script" not in html(digest)
    assert "<script" not in markdown(digest).replace("`k<script>", "")
    rows = [line for line in markdown(digest).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


def printed(digest) -> str:
    console = Console(width=120, file=io.StringIO())
    show(console, digest)
    return cast("io.StringIO", console.file).getvalue()


def test_the_terminal_shows_the_kernels_the_class_and_the_edit():
    text = printed(digest_of("spills"))
    assert "register spills to local memory" in text
    assert re.search(r"> .*spills", text)
    assert "raise the cap on registers" in " ".join(text.split())
    assert "lg_throttle" in text


def test_of_very_many_kernels_the_longest_and_the_chosen_are_listed():
    kernels = [make_kernel(kernel=f"k{n:03}", time_us=500.0 - n) for n in range(100)]
    digest = build(kernels, report="r", kernel="k077")
    assert len(digest.kernels) == 100
    for text in (printed(digest), html(digest)):
        assert "k029" in text
        assert "k077" in text
        assert "k030" not in text
        assert "69 more that take less time" in text


def test_one_kernel_needs_no_table_of_kernels():
    assert "launches" not in printed(build((make_kernel(),), report="r"))


def test_the_terminal_shows_what_changed():
    text = printed(against())
    assert "150 us against 100 us: +50 %" in text
    assert "slower because" in text


def test_markup_of_a_name_is_text():
    assert "[bold]" in printed(build((make_kernel(kernel=EVIL),), report=EVIL))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_names_are_rendered(kernel, line):
    spot = Hotspot(symbol="line", share=0.5, path=line, line=1, text=line)
    digest = build((make_kernel(kernel=kernel, hotspots=(spot,)),), report=line)
    assert re.findall(r"^## (.+)$", markdown(digest), re.MULTILINE)[-1] == SECTIONS[-1]
    html(digest)
    for_model(digest)
