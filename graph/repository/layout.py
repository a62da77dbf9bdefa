"""What the repository holds, as texts by path: a scaffold, one version, the end of the run.

Everything is rendered from the run directory's facts; nothing is measured or judged here.
"""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import JsonValue

from agents.replies import Digest, Research
from gpu_runner.candidate import Candidate, Language
from gpu_runner.jobs import Built
from gpu_runner.languages.header import problem_header
from gpu_runner.problem import Workload
from gpu_runner.records import Decision
from graph.autotune import MARGIN, regime_for
from graph.control import veto_on_row, vetoed
from graph.dispatcher import Dispatcher, Rule, c_source, dispatcher, python_source, table
from graph.events import Controlled
from graph.ledger import Attempt, AttemptOutcome, RunManifest, RunResult, Tuning
from graph.regimes import ALWAYS
from graph.repository import words
from graph.repository.binding import bind, definition, example_call, struct_fields, torch_dtype
from graph.repository.kernels import (
    CUDA_FLAGS,
    DEFAULT_ARCH,
    DeviceCode,
    Files,
    arch_of,
    kernel_files,
)
from graph.repository.scaffold import Device, device_of, templates
from graph.run_files import RunFiles

_LEDGERS: Final = (
    *("attempt-ledger", "optimization-ledger", "research-digest", "tuning-decisions"),
)
_FILTERS: Final = ("cell", "line", "sentence", "interval", "micros", "decision", "idea", "why")


class Optimisation(NamedTuple):
    """One row of the optimisation ledger."""

    round: int
    version: str
    idea: str
    claim: Decision
    outcome: str


class Layout:
    """The texts of one run's repository."""

    def __init__(
        self,
        files: RunFiles,
        manifest: RunManifest,
        attempts: tuple[Attempt, ...],
        tuning: Tuning,
        result: RunResult,
        built: Mapping[str, Built],
    ) -> None:
        """Take what the run left; nothing is read before it is asked for.

        Args:
            files: of the run.
            manifest: target and environment.
            attempts: every row of the ledger.
            tuning: the regimes.
            result: how the run ended.
            built: device code by attempt, where the runner handed it over.
        """
        self._files = files
        self._built = built
        self._manifest = manifest
        self._attempts = attempts
        self._result = result
        taken = (e.control for e in files.events.read() if isinstance(e, Controlled))
        self._vetoed = vetoed(taken)
        self._tuning = self._in_versions(tuning)
        self._target = manifest.target
        self._problem = manifest.target.problem
        self._first = manifest.target.baselines[0]

    @cached_property
    def promoted(self) -> tuple[Attempt, ...]:
        """Attempts that were promoted, in order; each is a version and a commit.

        What the user vetoed is not shipped; the best is, also where the user pinned it.
        """
        best = self._result.best_attempt
        return tuple(
            a
            for a in self._attempts
            if a.attempt_id == best
            or (a.outcome is AttemptOutcome.PROMOTED and not veto_on_row(self._vetoed, a))
        )

    @cached_property
    def versions(self) -> dict[str, str]:
        """Attempt id to version."""
        return {a.attempt_id: a.version or a.attempt_id for a in self.promoted}

    def _in_versions(self, tuning: Tuning) -> Tuning:
        """Return a tuning whose words name versions, which the repository's owner knows."""

        def told(text: str) -> str:
            return re.sub(r"\ba\d{4}\b", lambda m: self.versions.get(m[0], m[0]), text)

        regimes = tuple(r.model_copy(update={"reason": told(r.reason)}) for r in tuning.regimes)
        return tuning.model_copy(update={"regimes": regimes, "reason": told(tuning.reason)})

    def scaffold(self) -> Files:
        """Return what does not depend on any kernel; the baseline serves everything."""
        name = self._problem.name
        rendered = templates(name, self._device)
        made: Files = {path: self._render(template) for path, template in rendered.items()}
        made[f"src/{name}/kernels/problem.h"] = problem_header(self._problem)
        made[f"src/{name}/baseline.py"] = self._first.candidate.sources[0].text
        made["tests/reference.py"] = self._problem.reference
        made["dispatch/__init__.py"] = '"""The dispatcher: which kernel serves which sizes."""\n'
        made["README.md"] = f"# {name}\n\nBeing written: run `{self._manifest.run_id}`.\n"
        everywhere = Rule(guard=ALWAYS, serves="baseline", reason="no kernel was promoted yet")
        return {
            **made,
            **self._workloads(),
            **self._baselines(),
            **self._dispatch(self._dispatcher((everywhere,), "no kernel was promoted yet")),
        }

    def version(self, attempt: Attempt) -> Files:
        """Return the files of a promoted attempt; from here on it serves everything."""
        version = self.versions[attempt.attempt_id]
        candidate = self._candidate(attempt)
        prefix = f"src/{self._problem.name}/kernels"
        code = DeviceCode(arch=self._arch(candidate), built=self._built.get(attempt.attempt_id))
        made = kernel_files(self._problem, candidate, version, code)
        sources: Files = {f"{prefix}/{path}": text for path, text in made.items()}
        reason = f"the latest promoted version, {attempt.attempt_id}"
        rule = Rule(guard=ALWAYS, serves=version, reason=reason)
        return {
            **sources,
            **self._profile(attempt, version),
            **self._records(words.cited_records((attempt,))),
            **self._dispatch(self._dispatcher((rule,), reason)),
        }

    def message(self, attempt: Attempt) -> tuple[str, str]:
        """Return subject and body of the commit that brings a version."""
        version = self.versions[attempt.attempt_id]
        claims = "\n".join(f"- {words.decision(claim)}" for claim in attempt.claims)
        gained = next((c for c in attempt.claims if c.against == self._first.name), None)
        told = f", {gained.overall.speedup:.2f}x {self._first.name}" if gained else ""
        parent = self.versions.get(attempt.parent or "", "the baseline")
        body = f"{words.line(attempt.motivation)}\n\nFrom {parent}, attempt {attempt.attempt_id}."
        return f"{self._problem.name}: {version}{told}", f"{body}\n{claims}".strip()

    def conclusion(self) -> Files:
        """Return the tuned dispatcher, the ledgers, the map and the README."""
        chosen = dispatcher(self._problem, self._tuning, self.versions, self._candidates)
        cited = words.cited_records(self._attempts)
        cited |= {d.record_id for d in self._result.best}
        cited |= {point.record_id for point in self._tuning.points}
        cited |= {i for regime in self._tuning.regimes for i in regime.record_ids}
        lineage = [words.lineage_line(a, self._result.best_attempt) for a in self._attempts]
        return {
            **self._dispatch(chosen),
            **{f"ledgers/{n}.md": self._render(f"ledgers/{n}.md") for n in _LEDGERS},
            "ledgers/lineage.jsonl": "".join(f"{text}\n" for text in lineage),
            "profile-artifacts/README.md": self._render("profile-readme.md"),
            "benchmarks/performance-map.json": _json(self._map()),
            "README.md": self._render("README.md", **self._headline(chosen)),
            **self._records(cited),
        }

    @cached_property
    def _candidates(self) -> dict[str, Candidate]:
        return {a.attempt_id: self._candidate(a) for a in self.promoted}

    def _candidate(self, attempt: Attempt) -> Candidate:
        return self._files.candidate(attempt.candidate_digest)

    def _arch(self, candidate: Candidate) -> str:
        return arch_of(candidate, self._target, self._manifest.environment.arch)

    @property
    def _shipped_archs(self) -> tuple[str, ...]:
        """Architectures of the cubins that are here."""
        found = (
            self._arch(candidate)
            for attempt_id, candidate in self._candidates.items()
            if attempt_id in self._built and self._built[attempt_id].files
        )
        return tuple(dict.fromkeys(found))

    @cached_property
    def _device(self) -> Device:
        return device_of(self._target, tuple(self._candidates.values()))

    def _dispatcher(self, rules: tuple[Rule, ...], reason: str) -> Dispatcher:
        axes = tuple(axis.name for axis in self._problem.axes)
        return Dispatcher(name=self._problem.name, axes=axes, rules=rules, reason=reason)

    def _dispatch(self, chosen: Dispatcher) -> Files:
        return {
            "dispatch/dispatcher.py": python_source(chosen),
            "dispatch/dispatch.h": c_source(chosen),
            "dispatch/table.json": _json(table(chosen)),
        }

    def _workloads(self) -> Files:
        described = self._problem.model_dump(mode="json", exclude={"reference"})
        return {
            "workloads/problem.json": _json(described),
            "workloads/public.json": _json([self._workload(w) for w in self._target.public]),
            "workloads/hidden.json": _json([self._workload(w) for w in self._target.hidden]),
        }

    def _workload(self, workload: Workload) -> dict[str, JsonValue]:
        sizes: dict[str, JsonValue] = dict(self._problem.sizes(workload))
        return {**workload.model_dump(mode="json"), "sizes": sizes}

    def _baselines(self) -> Files:
        made: Files = {}
        index: dict[str, JsonValue] = {}
        for contender in self._target.baselines:
            stem = "".join(c if c.isalnum() else "_" for c in contender.name)
            file = f"{stem}.py"
            made[f"benchmarks/baselines/{file}"] = contender.candidate.sources[0].text
            index[contender.name] = {"file": file, "calling": contender.candidate.calling}
        made["benchmarks/baselines/index.json"] = _json(index)
        return made

    def _profile(self, attempt: Attempt, version: str) -> Files:
        facts = self._files.facts(attempt.attempt_id)
        if facts is None:
            return {}
        digest = self._files.reply(Digest, f"r{attempt.round:03}")
        folder = f"profile-artifacts/{version}"
        return {
            f"{folder}/facts.json": facts.model_dump_json(indent=1) + "\n",
            f"{folder}/digest.md": self._render(
                "profile-digest.md", version=version, digest=digest
            ),
        }

    def _records(self, ids: set[str]) -> Files:
        return {
            f"evidence/records/{i}.json": self._files.record(i).model_dump_json(indent=1) + "\n"
            for i in sorted(ids)
        }

    def _map(self) -> dict[str, JsonValue]:
        points: list[JsonValue] = [
            {**p.model_dump(mode="json"), "version": self.versions.get(p.attempt_id, "")}
            for p in self._tuning.points
        ]
        return {"against": self._first.name, "regret": self._tuning.regret, "points": points}

    def _headline(self, chosen: Dispatcher) -> Mapping[str, Any]:
        """Return what only the README shows."""
        best = next((a for a in self.promoted if a.attempt_id == self._result.best_attempt), None)
        claims = self._result.best or (best.claims if best else ())
        if self._result.best:
            note = "Measured after the kernel was selected, so without the winner's luck."
        elif claims:
            note = "Measured when the version was promoted; no claim was made after the selection."
        else:
            note = (
                f"No kernel was promoted ({words.line(self._result.message)}): the baseline serves."
            )
        serving = {rule.serves for rule in chosen.rules}
        version = self.versions.get(self._result.best_attempt or "", "")
        return {
            "headline": claims,
            "headline_note": note,
            "workloads": [self._row(w, claims[0], chosen) for w in self._target.public]
            if claims
            else [],
            "best_version": version,
            "served_otherwise": bool(serving - {version}),
            "dispatch": chosen,
            "example": example_call(
                self._problem, self._problem.sizes(self._target.public[0]), self._device
            ),
            "archs": ", ".join(self._shipped_archs),
            "has_triton": any(c.language is Language.TRITON for c in self._candidates.values()),
            "dtype_names": ", ".join(sorted({t.dtype.value for t in self._problem.outputs})),
            "contract_text": ", ".join(f"`{c}`" for c in self._problem.constraints) or "any size",
        }

    def _row(self, workload: Workload, claim: Decision, chosen: Dispatcher) -> dict[str, str]:
        sizes = self._problem.sizes(workload)
        regime = regime_for(self._tuning.regimes, sizes)
        serves = self.versions.get(regime.attempt_id, "baseline") if regime else "baseline"
        one = claim.workloads.get(workload.name)
        return {
            "name": workload.name,
            "sizes": ", ".join(f"{axis}={sizes[axis]}" for axis in chosen.axes),
            "weight": f"{workload.weight:g}",
            "serves": serves,
            "against": f"{words.interval(one)} {one.verdict.value}" if one else "-",
            "kernel": words.micros(one.candidate_us) if one else "-",
            "baseline": words.micros(one.against_us) if one else "-",
        }

    def _optimisations(self) -> list[Optimisation]:
        rows = []
        for attempt in self.promoted:
            is_best = attempt.attempt_id == self._result.best_attempt
            outcome = "Selected, current best" if is_best else "Selected"
            rows += self._claimed(attempt, attempt.claims, outcome)
            if is_best:
                rows += self._claimed(attempt, self._result.best, "Selected, measured again")
        return rows

    def _claimed(
        self, attempt: Attempt, claims: tuple[Decision, ...], outcome: str
    ) -> list[Optimisation]:
        version = self.versions[attempt.attempt_id]
        return [
            Optimisation(attempt.round, version, words.idea(attempt), claim, outcome)
            for claim in claims
            if claim.against == self._first.name
        ]

    def _render(self, template: str, **more: Any) -> str:
        values = {**self._context, **more}
        text = self._templates.get_template(f"{template}.j2").render(values)
        return text.rstrip("\n") + "\n"

    @cached_property
    def _context(self) -> dict[str, Any]:
        tensors = (*self._problem.inputs, *self._problem.outputs)
        cited = {c.source: c for a in self.promoted for c in a.provenance}
        described = self._problem.description or f"{self._problem.name} kernels."
        return {
            "name": self._problem.name,
            "device": self._device,
            "arch": next((self._arch(c) for c in self._candidates.values()), DEFAULT_ARCH),
            "cuda_flags": CUDA_FLAGS,
            "tensor_names": [t.name for t in tensors],
            "scalar_names": self._problem.scalar_names,
            "summary": words.line(described),
            "docstring": words.docstring(described),
            "release": f"0.{len(self.promoted)}.0",
            "manifest": self._manifest,
            "environment": self._manifest.environment,
            "threads": self._target.hardware.threads,
            "result": self._result,
            "tuning": self._tuning,
            "versions": self.versions,
            "attempts": self._attempts,
            "optimisations": self._optimisations(),
            "researches": self._files.replies(Research),
            "sources": [cited[source] for source in sorted(cited)],
            "binding": bind(self._problem),
            "fields": struct_fields(self._problem),
            "definition": definition,
            "dtypes": ", ".join(torch_dtype(t.dtype) for t in tensors),
            "baseline": self._first.name,
            "calling": self._first.candidate.calling,
            "margin": self._result.best[0].margin if self._result.best else MARGIN,
        }

    @cached_property
    def _templates(self) -> Environment:
        environment = Environment(  # noqa: S701 - Markdown and Python, not HTML; words.line escapes
            loader=PackageLoader("graph.repository"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters.update({name: getattr(words, name) for name in _FILTERS})
        return environment


def _json(value: JsonValue | Mapping[str, JsonValue]) -> str:
    return json.dumps(value, indent=1) + "\n"
