"""The run directory: where each fact of a run lies; written so that a kill loses none.

    run.json          RunManifest            blobs/<digest>            candidates, by content
    events.jsonl      events                 records/<record_id>.json  BenchRecord
    attempts.jsonl    Attempt, append-only   replies/<kind>/<key>.json Plan, Research, Draft, ...
    tuning.json       Tuning                 facts/<attempt_id>.json   Facts
    lessons.json      Lessons recalled       tracker.json, tracker.md  Tracker
    contracts/r<round>.json  Contract
    result.json       RunResult, last        outcomes/<job_id>.json    how each job ended
    controls/<id>.json  Control, written by whoever steers the run

Ids are names of files: nothing is written twice under one id, so every write may be repeated.
"""

import json
import logging
from collections.abc import Container, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from agents.contexts import Contract
from agents.lessons import Lesson
from agents.replies import AnyReply, Digest, Draft, Inspection, Plan, Research, Review
from gpu_runner.candidate import Candidate
from gpu_runner.facts import Facts
from gpu_runner.jobs import OUTCOME, AnyOutcome, Benched
from gpu_runner.message import Message, canonical_json, digest_of
from gpu_runner.records import BenchRecord
from graph.control import Control
from graph.durable import append_line, drop_torn_line, whole_lines, write_bytes
from graph.errors import RunDamaged, RunNotFound, RunTooNew
from graph.event_log import EventLog
from graph.ledger import Attempt, RunManifest, RunResult, Tuning
from graph.tracker import Tracker

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)
ReplyT = TypeVar("ReplyT", Plan, Research, Draft, Digest, Review, Inspection)

_FORMAT = 1
_FOLDERS: dict[type[BaseModel], str] = {
    Plan: "plan",
    Research: "research",
    Draft: "draft",
    Digest: "digest",
    Review: "review",
    Inspection: "inspection",
}


class Recollection(Message):
    """What a run recalled when it began."""

    lessons: tuple[Lesson, ...] = ()


class RunFiles:
    """Typed access to one run directory. One process writes (see `lock.py`), any may read.

    Controls alone are written by others: a file for each, so that nobody waits for anybody.
    """

    def __init__(self, root: Path) -> None:
        """Take the directory as it is; nothing is created before something is written."""
        self.root = root
        self._attempts: dict[str, Attempt] | None = None

    @cached_property
    def events(self) -> EventLog:
        """The event log."""
        return EventLog(self.root / "events.jsonl")

    # -- manifest, tuning, result --------------------------------------------------------------

    def write_manifest(self, manifest: RunManifest) -> None:
        """Write `run.json`."""
        self._write("run.json", manifest)

    def read_manifest(self) -> RunManifest:
        """Return the manifest.

        Raises:
            RunNotFound: the directory holds no run.
            RunTooNew: a later version wrote it.
            RunDamaged: it cannot be read.
        """
        path = self.root / "run.json"
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunNotFound(
                f"{self.root} holds no run (no run.json); `kernelpilot status` lists the runs"
            ) from error
        _refuse_newer(path, content)
        return _parse(RunManifest, path, content)

    def save_tuning(self, tuning: Tuning) -> None:
        """Write what autotuning decided."""
        self._write("tuning.json", tuning)

    def tuning(self) -> Tuning | None:
        """Return what autotuning decided; None before."""
        return self._read_or_none(Tuning, "tuning.json")

    def save_result(self, result: RunResult) -> None:
        """Write how the run ended; the last file of a run."""
        self._write("result.json", result)

    def result(self) -> RunResult | None:
        """Return how the run ended; None while it has not."""
        return self._read_or_none(RunResult, "result.json")

    def save_lessons(self, lessons: tuple[Lesson, ...]) -> None:
        """Write what the run recalled when it began; once."""
        self._write_once("lessons.json", Recollection(lessons=lessons))

    def lessons(self) -> tuple[Lesson, ...] | None:
        """Return what the run recalled; None where it was not asked yet."""
        found = self._read_or_none(Recollection, "lessons.json")
        return found.lessons if found else None

    # -- what users say --------------------------------------------------------------------------

    def save_control(self, control: Control) -> None:
        """Write what a user said; any process may."""
        self._write_once(f"controls/{control.control_id}.json", control)

    def controls(self, without: Container[str] = ()) -> tuple[Control, ...]:
        """Return what users said, oldest first, but for the ids in `without`."""
        paths = sorted((self.root / "controls").glob("[!.]*.json"))
        new = (path for path in paths if path.stem not in without)
        return tuple(_parse(Control, path, path.read_bytes()) for path in new)

    # -- contracts and the goal tracker ----------------------------------------------------------

    def save_contract(self, contract: Contract) -> None:
        """Write what a round is to do; the first one stays."""
        self._write_once(f"contracts/r{contract.round:03}.json", contract)

    def contract(self, number: int) -> Contract | None:
        """Return what a round is to do; None before anybody asked."""
        return self._read_or_none(Contract, f"contracts/r{number:03}.json")

    def contracts(self) -> tuple[Contract, ...]:
        """Return every contract, oldest first."""
        return tuple(one for _, one in self._folder(Contract, "contracts"))

    def save_tracker(self, tracker: Tracker) -> None:
        """Write where the run stands."""
        self._write("tracker.json", tracker)

    def tracker(self) -> Tracker | None:
        """Return where the run stands; None before the first review."""
        return self._read_or_none(Tracker, "tracker.json")

    # -- the ledger ------------------------------------------------------------------------------

    def append_attempt(self, attempt: Attempt) -> Attempt:
        """Append a row, on disk when this returns; a row of this id that is there already stays.

        Returns:
            The row as the ledger has it.
        """
        known = self._load_attempts(is_writer=True)
        if attempt.attempt_id not in known:
            append_line(self.root / "attempts.jsonl", attempt.model_dump_json().encode())
            known[attempt.attempt_id] = attempt
        return known[attempt.attempt_id]

    def attempts(self) -> tuple[Attempt, ...]:
        """Return every row by attempt id."""
        known = self._load_attempts(is_writer=False)
        return tuple(known[key] for key in sorted(known))

    def _load_attempts(self, *, is_writer: bool) -> dict[str, Attempt]:
        if self._attempts is not None:
            return self._attempts
        path = self.root / "attempts.jsonl"
        if is_writer and (torn := drop_torn_line(path)):
            logger.warning("unfinished ledger line dropped path=%s bytes=%d", path, len(torn))
        known: dict[str, Attempt] = {}
        for number, line in enumerate(whole_lines(path), start=1):
            attempt = _parse(Attempt, path, line, place=f" line {number}")
            known.setdefault(attempt.attempt_id, attempt)
        if is_writer:
            self._attempts = known
        return known

    # -- records, candidates, facts --------------------------------------------------------------

    def save_record(self, record: BenchRecord) -> str:
        """Write a measurement record; return its id."""
        self._write_once(f"records/{record.record_id}.json", record)
        return record.record_id

    def record(self, record_id: str) -> BenchRecord:
        """Return a measurement record."""
        return self._read(BenchRecord, f"records/{record_id}.json")

    def records(self) -> dict[str, BenchRecord]:
        """Return every measurement record by id."""
        return dict(self._folder(BenchRecord, "records"))

    def save_blob(self, content: bytes) -> str:
        """Keep bytes under their sha256; return it."""
        digest = digest_of(content)
        path = self.root / "blobs" / digest
        if not path.exists():
            write_bytes(path, content)
        return digest

    def blob(self, digest: str) -> bytes:
        """Return the bytes of a sha256.

        Raises:
            RunDamaged: it is missing, or its content is another one.
        """
        path = self.root / "blobs" / digest
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise RunDamaged(f"{path} is missing; restore it from a copy of the run") from error
        if digest_of(content) != digest:
            raise RunDamaged(f"{path} is not what its name says; restore it from a copy")
        return content

    def save_candidate(self, candidate: Candidate) -> str:
        """Keep a candidate's canonical JSON; return its digest, which names the blob."""
        return self.save_blob(canonical_json(candidate.model_dump(mode="json")))

    def candidate(self, digest: str) -> Candidate:
        """Return the candidate of a digest."""
        return _parse(Candidate, self.root / "blobs" / digest, self.blob(digest))

    def save_facts(self, attempt_id: str, facts: Facts) -> None:
        """Write what a profile found."""
        self._write_once(f"facts/{attempt_id}.json", facts)

    def facts(self, attempt_id: str) -> Facts | None:
        """Return what a profile of the attempt found; None where it was not profiled."""
        return self._read_or_none(Facts, f"facts/{attempt_id}.json")

    # -- replies and outcomes --------------------------------------------------------------------

    def save_reply(self, key: str, reply: AnyReply) -> None:
        """Keep a role's answer under a key that sorts in order of time (`r003-l1-t0`)."""
        self._write_once(f"replies/{_FOLDERS[type(reply)]}/{key}.json", reply)

    def reply(self, kind: type[ReplyT], key: str) -> ReplyT | None:
        """Return one answer, None where that question was not answered yet."""
        return self._read_or_none(kind, f"replies/{_FOLDERS[kind]}/{key}.json")

    def replies(self, kind: type[ReplyT]) -> dict[str, ReplyT]:
        """Return every answer of a kind (`Plan`, `Digest`, ...) by key, oldest first."""
        return dict(self._folder(kind, f"replies/{_FOLDERS[kind]}"))

    def save_outcome(self, outcome: AnyOutcome) -> None:
        """Write how a job ended; its measurement record goes to `records/`."""
        content: dict[str, JsonValue] = outcome.model_dump(mode="json")
        if isinstance(outcome, Benched):
            content["record"] = self.save_record(outcome.record)
        path = self.root / "outcomes" / f"{outcome.job_id}.json"
        if not path.exists():
            write_bytes(path, json.dumps(content).encode())

    def outcome(self, job_id: str) -> AnyOutcome | None:
        """Return how a job ended; None while it has not."""
        path = self.root / "outcomes" / f"{job_id}.json"
        try:
            content = json.loads(path.read_bytes())
            if content["kind"] == "benched":
                content["record"] = self.record(content["record"]).model_dump(mode="json")
            return OUTCOME.validate_python(content, strict=False)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(path, "", error) from error

    # -- files -----------------------------------------------------------------------------------

    def _write(self, name: str, value: BaseModel) -> None:
        write_bytes(self.root / name, value.model_dump_json(indent=1).encode() + b"\n")

    def _write_once(self, name: str, value: BaseModel) -> None:
        if not (self.root / name).exists():
            self._write(name, value)

    def _read(self, kind: type[ModelT], name: str) -> ModelT:
        value = self._read_or_none(kind, name)
        if value is None:
            raise RunDamaged(f"{self.root / name} is missing; restore it from a copy of the run")
        return value

    def _read_or_none(self, kind: type[ModelT], name: str) -> ModelT | None:
        path = self.root / name
        try:
            return _parse(kind, path, path.read_bytes())
        except FileNotFoundError:
            return None

    def _folder(self, kind: type[ModelT], name: str) -> Iterator[tuple[str, ModelT]]:
        for path in sorted((self.root / name).glob("[!.]*.json")):
            yield path.stem, _parse(kind, path, path.read_bytes())


def _parse(kind: type[ModelT], path: Path, content: bytes, place: str = "") -> ModelT:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(path, place, error) from error


def _damaged(path: Path, place: str, error: Exception) -> RunDamaged:
    first = str(error).splitlines()
    return RunDamaged(
        f"{path}{place} cannot be read: {' '.join(first[:3])}; restore it from a copy of the run"
    )


def _refuse_newer(path: Path, content: bytes) -> None:
    try:
        written = json.loads(content)["format"]
    except (ValueError, KeyError, TypeError):
        return  # not a manifest at all: the parser says so in its own words
    if isinstance(written, int) and written > _FORMAT:
        raise RunTooNew(
            f"{path} has format {written}, this version reads up to {_FORMAT}; "
            "upgrade kernelpilot to resume or report this run"
        )
