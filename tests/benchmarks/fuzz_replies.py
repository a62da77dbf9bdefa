"""Feeds malformed replies to every role: `python -m tests.benchmarks.fuzz_replies [EACH] [SEED]`.

Right replies are cut, wrapped, contradicted, garbled and made to lie. Whatever comes, a role ends
with a reply that keeps its promises or with MalformedReply, after a bounded number of calls and in
bounded time. Prints what became of them, by role.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.errors import MalformedReply
from agents.model import Answer, Form, Turn
from agents.replies import AnyReply
from agents.roles import Spend
from agents.team import ModelTeam
from tests.benchmarks.reply_cases import CASES, DECOY, Case

REPAIRS = 2
MOST_S = 10.0
"""For one question: far more than any takes, for no one must hang."""

Fault = Callable[[str, Case, random.Random], tuple[str, bool]]


class Mumbling:
    """A model that never answers well. Says malformed replies of one case and counts its calls."""

    provider = "p"
    name = "m"

    def __init__(self, case: Case, rng: random.Random) -> None:
        self.case = case
        self.rng = rng
        self.calls = 0
        self.said: list[Answer] = []

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        self.calls += 1
        answer = malformed(self.case, self.rng)
        self.said.append(answer)
        return answer

    def spend(self) -> Spend:
        return Spend(calls=self.calls)


def malformed(case: Case, rng: random.Random) -> Answer:
    """Return an answer with one to four faults."""
    text = json.dumps(case.lie(rng) if rng.random() < 0.4 else case.right)
    is_complete = rng.random() < 0.8
    for _ in range(rng.randint(1, 4)):
        text, was_cut = rng.choice(_FAULTS)(text, case, rng)
        # What was cut behind a brace is told to be cut, as a provider tells it.
        is_complete = is_complete and not was_cut
    return Answer(text=text.encode("utf-8", "replace").decode(), is_complete=is_complete)


def _cut(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    return text[: rng.randint(0, len(text))], True


def _garble(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(_BITS) + text[at + rng.randint(0, 3) :], False


def _wrap(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    before, after = rng.choice(_WRAPS)
    return before + text + after, False


def _drop_key(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    value = _loaded(text)
    if isinstance(value, dict) and value:
        value.pop(rng.choice(list(value)))
        return json.dumps(value), False
    return text, False


def _swap_value(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    value = _loaded(text)
    if isinstance(value, dict) and value:
        value[rng.choice(list(value))] = rng.choice(_VALUES)
        return json.dumps(value), False
    return text, False


def _twice(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    """Say a key twice, the second time otherwise."""
    value = _loaded(text)
    if not isinstance(value, dict) or not value:
        return text, False
    key = rng.choice(list(value))
    return f"{text[:-1]}, {json.dumps(key)}: {json.dumps(rng.choice(_VALUES))}}}", False


def _contradict(text: str, case: Case, rng: random.Random) -> tuple[str, bool]:
    """Say another whole reply beside it: a thought, an example, a second thought."""
    decoy = json.dumps(case.decoy)
    form = rng.choice(_DECOYS)
    if "{reply}" not in form:
        return form.replace("{decoy}", decoy) + text, False
    return form.replace("{reply}", text).replace("{decoy}", decoy), False


def _example_then_cut(text: str, case: Case, rng: random.Random) -> tuple[str, bool]:
    """Give an example, then begin the answer and be cut off in it."""
    start = text.find("{")
    cut = text[: rng.randint(start + 1, len(text))] if start >= 0 else "{"
    return f"An example:\n{json.dumps(case.decoy)}\nMine:\n{cut[:-1] or '{'}{{", True


def _nest(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    deep = rng.choice((10, 900, 30_000))
    return rng.choice(("[" * deep + text, '{"a":' * deep + text + "}" * deep)), False


def _repeat(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    return text * rng.choice((2, 3, 40)), False


def _braces(text: str, _: Case, rng: random.Random) -> tuple[str, bool]:
    return rng.choice(('{"' * 20_000, "{" * 50_000, "```\n{\n" * 3000)) + text, False


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


_FAULTS: Sequence[Fault] = (
    *(_cut, _garble, _garble, _wrap, _wrap, _drop_key, _swap_value),
    *(_twice, _contradict, _contradict, _example_then_cut, _nest, _repeat, _braces),
)
_BITS = (
    *("", '"', "\\", "{", "}", "[", "]", ",", ":", "null", "NaN", "Infinity", "-", "1e999"),
    *(
        "\x00",
        "\ud800",
        "\u2028",
        "```",
        "</think>",
        "<think>",
        "//",
        "'",
        "\n",
        "\\u0000",
        "9" * 5000,
    ),
)
_WRAPS = (
    ("Sure! Here it is:\n", "\nAnything else?"),
    ("```json\n", "\n```"),
    ("```", "```"),
    ("<think>hm</think>", ""),
    ("so it is</think>\n", ""),
    ("<think>never ends ", ""),
    ("[", "]"),
    ('{"answer": ', "}"),
    ('"', '"'),
    ("\ufeff", "\n\n"),
)
_DECOYS = (
    "<think>{decoy}</think>",
    "<think>perhaps {decoy}</think>\n{reply}",
    "First I thought {decoy} but then {reply}",
    "An example:\n```json\n{decoy}\n```\nMine:\n```json\n{reply}\n```",
    'Not {"instead": {decoy}, but: {reply}',
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    "",
    "x" * 9,
    [],
    {},
    [[]],
    {"a": 1},
    ["MET"],
    "../../etc",
    "\ud800",
)


@dataclass
class Tally:
    """What became of the questions of one role."""

    asked: int = 0
    accepted: int = 0
    calls: int = 0
    longest_s: float = 0.0


async def fuzz(case: Case, number: int, seed: int) -> Tally:
    """Ask one role `number` times; raise AssertionError with the seed of the first that lies."""
    tally = Tally()
    for turn in range(number):
        name = f"{case.role}-{seed}-{turn}"
        model = Mumbling(case, random.Random(name))
        team = _team(case, model)
        began = time.monotonic()
        try:
            reply = await _asked(case.ask(team))
        except MalformedReply:
            reply = None
        took_s = time.monotonic() - began
        assert took_s < MOST_S, f"{name}: {took_s:.1f} s"
        assert 1 <= model.calls <= 1 + REPAIRS, f"{name}: {model.calls} calls"
        tally.asked += 1
        tally.calls += model.calls
        tally.longest_s = max(tally.longest_s, took_s)
        if reply is None:
            continue
        tally.accepted += 1
        fault = case.lie_in(reply) or _unwritable(reply)
        assert not fault, f"{name}: {fault}: accepted from {model.said[-1].text[:2000]!r}"
    return tally


async def _asked(question: Awaitable[AnyReply]) -> AnyReply:
    return await question


def _unwritable(reply: AnyReply) -> str:
    """Return why a reply could not be kept as a file and read again; empty where it can."""
    text = reply.model_dump_json()
    if DECOY in text:
        return "what was thought, taken back or said beside another answer was taken for it"
    return "" if type(reply).model_validate_json(text) == reply else "read again it is another one"


def _team(case: Case, model: Mumbling) -> ModelTeam:
    if case.role not in {"reviewer", "inspector"}:
        return ModelTeam(model, None, repairs=REPAIRS)
    other = Mumbling(case, random.Random(0))
    other.name = "writer"
    return ModelTeam(other, model, repairs=REPAIRS)


def main(each: int = 1000, seed: int = 1) -> int:
    started, totals = time.monotonic(), Counter[str]()
    for case in CASES:
        tally = asyncio.run(fuzz(case, each, seed))
        totals.update(asked=tally.asked, calls=tally.calls)
        sys.stdout.write(
            f"{case.role:11} {tally.asked} questions, {tally.calls} replies, {tally.accepted} "
            f"accepted, none a lie; longest {tally.longest_s:.2f} s\n"
        )
    seconds = time.monotonic() - started
    sys.stdout.write(f"{totals['calls']} malformed replies in {seconds:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
