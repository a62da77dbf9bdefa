"""What a reply may say beyond the types of its fields."""

import pytest
from pydantic import ValidationError

from agents.replies import OpenQuestion


def asked(**changes) -> OpenQuestion:
    values = {"question": "q?", "options": ("yes", "no"), "default": "no", "reason": "r"}
    return OpenQuestion(**{**values, **changes})


def test_an_open_question_goes_by_one_of_its_options():
    assert asked(default="yes").default == "yes"
    with pytest.raises(ValidationError, match=r"default 'maybe' is none of the options \['yes'"):
        asked(default="maybe")


@pytest.mark.parametrize("options", [("no",), tuple("abcdef"), ("no", "")])
def test_a_question_has_a_few_options_to_choose_from(options):
    with pytest.raises(ValidationError, match="options"):
        asked(options=options, default=options[0])
