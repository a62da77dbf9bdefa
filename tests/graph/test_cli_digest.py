"""The command: exit codes, one JSON object, files, and what it says of bad input."""

import json

import pytest
from typer.testing import CliRunner

from graph.cli import app, main
from tests.agents.diagnosis.kernels import KNOWN, NCU

RAW = NCU / "known" / "raw.csv"
SYNTHETIC = (
    "ID,Kernel Name,gpu__time_duration.sum,gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed"
)


def run(*words):
    return CliRunner().invoke(app, ["digest", *map(str, words)])


def answered(*words):
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


@pytest.mark.parametrize("name", KNOWN)
def test_each_captured_kernel_is_named_in_json(name):
    digest = answered(RAW, "--kernel", name)
    assert digest["bottleneck"] == KNOWN[name]
    assert digest["confidence"] >= 0.8
    assert len(digest["evidence"]) >= 1
    assert isinstance(digest["next_edit"], dict)
    assert {"file", "symbol", "change", "why_others_are_weaker", "expected", "validation"} == set(
        digest["next_edit"]
    )


def test_without_a_name_the_kernel_that_takes_most_time_is_chosen():
    assert answered(RAW)["kernel"] == "smem_bank_conflict"


@pytest.fixture
def pair(tmp_path):
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    before.write_text(f"{SYNTHETIC}\n,,ms,%\n0,my_kernel,1.2,80\n")
    after.write_text(f"==PROF== x\n{SYNTHETIC}\n,,us,%\n0,my_kernel,850,91\n")
    return before, after


def test_850_us_against_1_2_ms_is_29_percent_less(pair):
    before, after = pair
    digest = answered(after, "--against", before)
    assert digest["against"]["time_change_percent"] == pytest.approx(-29.17)
    assert digest["against"]["headline"] == "850 us against 1.2 ms: -29 %"
    assert digest["bottleneck"] == "dram_bandwidth"


def test_markdown_and_the_short_form_go_to_standard_output():
    assert "## Next Concrete Edit" in run(RAW, "--markdown").stdout
    short = run(RAW, "--for-model", "--kernel", "spills").stdout
    assert "Full digest" in short
    assert len(short) <= 6001


def test_html_is_one_file_that_is_named(tmp_path):
    page = tmp_path / "digest.html"
    result = run(RAW, "--html", page)
    assert result.stdout.strip() == str(page)
    assert page.read_text().startswith("<!doctype html>")


def test_source_and_details_add_lines_and_advice():
    folder = NCU / "known"
    digest = answered(
        RAW,
        "--kernel",
        "dram_stream",
        "--source",
        folder / "source.csv",
        "--details",
        folder / "details.csv",
    )
    assert digest["next_edit"]["file"] == "zoo.cu:8"
    assert digest["facts"]["advice"]
    assert digest["facts"]["sass"]["kinds"]["load_global_128"] == 1


def test_required_bytes_tell_waste_from_work():
    digest = answered(RAW, "--kernel", "spills", "--required-bytes", "1e8")
    assert digest["facts"]["required_bytes"] == 1e8
    wasteful = answered(RAW, "--kernel", "dram_stream", "--required-bytes", "1e8")
    assert wasteful["bottleneck"] == "excess_traffic"


def ended(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["kernelpilot", "digest", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("no table\n", "no launch was profiled"),
        ("==ERROR== ERR_NVGPUCTRPERM\n", "ERR_NVGPUCTRPERM"),
        (f"{SYNTHETIC}\n,,us,%\n", "no launch was profiled"),
        (f"{SYNTHETIC}\n,,us,%\n0,my_ker", "no launch was profiled"),
    ],
)
def test_bad_reports_are_one_line_and_an_exit_code(monkeypatch, capsys, tmp_path, content, said):
    path = tmp_path / "r.csv"
    path.write_text(content)
    code, out = ended(monkeypatch, capsys, path, "--json")
    assert code == 1
    assert said in json.loads(out.out)["error"]
    assert len(out.err.strip().splitlines()) == 1


def test_an_unknown_kernel_is_bad_usage_and_names_those_there_are(monkeypatch, capsys):
    code, out = ended(monkeypatch, capsys, RAW, "--kernel", "nope")
    assert code == 2
    assert "smem_bank_conflict" in out.err


def test_a_missing_file_is_one_line(monkeypatch, capsys, tmp_path):
    code, out = ended(monkeypatch, capsys, tmp_path / "none.csv")
    assert code == 1
    assert "none.csv cannot be read" in out.err


def test_a_page_that_cannot_be_written_is_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    code, out = ended(monkeypatch, capsys, RAW, "--html", tmp_path / "file" / "d.html")
    assert code == 1
    assert "d.html cannot be written" in out.err
