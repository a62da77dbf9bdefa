"""The researcher of the playbook: what the recipes' notes say, with citations that resolve."""

import re
from importlib.resources import as_file, files

from agents.contexts import ResearchContext
from agents.playbook.catalogue import notes_path
from agents.playbook.families import Match
from agents.playbook.search import Search
from agents.replies import Citation, Research
from knowledge_store.grep import Answer, grep
from knowledge_store.records import Passage

_LICENCE = "Apache-2.0"
_MOST_FINDINGS = 12
_BULLET = r"^- "


def research_for(context: ResearchContext, match: Match, search: Search) -> Research:
    """Return what the notes of the family know, and what they say of the query's words."""
    view = context.view
    language = search.recipes[0].language
    shelf = f"agents/recipes/{language.value}"
    with as_file(files("agents").joinpath("recipes", language.value, match.family)) as folder:
        notes = grep(_BULLET, folder, source=shelf, limit=_MOST_FINDINGS)
        known = {match.family, language.value}  # every note here is about these
        words = [w for w in re.findall(r"[A-Za-z]{4,}", context.query) if w not in known]
        asked = grep("|".join(words), folder, ignore_case=True, limit=6) if words else None
    passages = tuple(p for p in notes.passages if p.path == "notes.md")
    relevant = tuple(p for p in asked.passages if p.path == "notes.md") if asked else ()
    findings = dict.fromkeys(_sentence(p) for p in (*relevant, *passages))
    seen = tuple(_seen(passage) for passage in context.evidence)
    return Research(
        findings=(*tuple(findings)[:_MOST_FINDINGS], *seen),
        routes=tuple(f"{r.name}: {r.idea}" for r in reversed(search.recipes)),
        suspected_bottlenecks=_suspicions(context),
        benchmark_priorities=tuple(
            f"{w.name} (weight {w.weight:g})"
            for w in sorted(view.workloads, key=lambda w: -w.weight)
        ),
        citations=(
            *_citations(match, search, (*relevant, *passages)),
            *(cited(passage) for passage in context.evidence),
        ),
        route_log=(
            *_log(f"{shelf}/{match.family}", context.query, notes, asked),
            *(context.searched or ("no other source was asked",)),
        ),
    )


def _sentence(passage: Passage) -> str:
    return passage.text.strip().removeprefix("- ").strip()


def _seen(passage: Passage) -> str:
    """Return where to look in a passage of others' work; the playbook does not interpret it."""
    first = next((line for line in passage.text.split("\n") if line.strip("+- ")), "")
    return f"see {name_of(passage)}, {passage.path}: {first.strip()[:100]}"


def name_of(passage: Passage) -> str:
    """Return a passage's pull request, or what was searched."""
    return f"{passage.repo}#{passage.pr}" if passage.pr is not None else passage.source


def cited(passage: Passage) -> Citation:
    """Return the citation of a passage of the knowledge store."""
    return Citation(
        source=name_of(passage),
        lines=passage.lines,
        licence=passage.licence or "unknown",
        note=passage.path,
    )


def _suspicions(context: ResearchContext) -> tuple[str, ...]:
    """Return what arithmetic intensity suggests before anything is measured."""
    found = []
    problem = context.view.problem
    for workload in context.view.workloads:
        moved = problem.required_bytes(workload)
        intensity = problem.required_flops(workload) / moved if moved else 0.0
        kind = "arithmetic" if intensity > _BALANCE[context.view.tier] else "memory traffic"
        found.append(f"{workload.name}: {intensity:.2g} operations a byte, so {kind}")
    return tuple(found)


_BALANCE = {"cpu": 8.0, "gpu": 100.0}
"""Operations a byte where arithmetic and bandwidth are in balance, roughly: of a present-day core,
and of a GPU's matrix units beside its memory."""


def _citations(match: Match, search: Search, passages: tuple[Passage, ...]) -> tuple[Citation, ...]:
    notes = {
        p.lines: Citation(
            source=notes_path(match.family, search.recipes[0].language),
            lines=p.lines,
            licence=_LICENCE,
            note=_sentence(p)[:120],
        )
        for p in passages
    }
    recipes = [Citation(source=r.path, licence=_LICENCE, note=r.idea) for r in search.recipes]
    return (*notes.values(), *recipes)


def _log(folder: str, query: str, notes: Answer, asked: Answer | None) -> tuple[str, ...]:
    lines = [
        (f"exact search of {folder} for {_BULLET!r}: {notes.hits} lines in {notes.files} files")
    ]
    if asked is not None:
        lines.append(f"exact search of the same for the words of {query!r}: {asked.hits} lines")
    return tuple(lines)
