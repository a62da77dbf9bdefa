from pathlib import Path

import pytest

from gpu_runner.candidate import Language
from gpu_runner.languages.artefact import ENTRY_FILES, Artefact


def make_artefact(language, **changes):
    values = {
        "path": Path("/cache/0"),
        "digest": "0" * 64,
        "language": language,
        "calling": "returning",
        "compiler": "",
        "log_tail": "",
        "seconds": 0.0,
        "is_cached": False,
    }
    return Artefact(**{**values, **changes})


@pytest.mark.parametrize("language", Language)
def test_every_language_has_an_entry_file(language):
    assert make_artefact(language).entry == Path("/cache/0") / ENTRY_FILES[language]


def test_candidate_finds_what_it_built_and_writes_nothing():
    artefact = make_artefact(Language.PYTHON)
    assert artefact.environment == {"CAND_BUILD_DIR": "/cache/0/build"}
    assert artefact.writable == ()


def test_only_a_trusted_python_baseline_may_write():
    artefact = make_artefact(Language.PYTHON, is_trusted=True)
    assert artefact.environment["TORCHINDUCTOR_CACHE_DIR"] == "/cache/0/inductor"
    assert artefact.writable == (Path("/cache/0/inductor"),)
    assert make_artefact(Language.CPP, is_trusted=True).writable == ()
    assert make_artefact(Language.CPP, is_trusted=True).environment == {}
