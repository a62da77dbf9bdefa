"""A digest as Markdown, in the order of sections that readers of profiles know. Pure."""

from collections.abc import Iterable, Sequence

from graph.digest.model import Digest

_MOST_HOT = 5
_CHARACTERS_A_TOKEN = 3.0
"""Of numbers, metric names and machine code; prose has more, so this errs on the safe side."""
MODEL_TOKENS = 2000
_MOST_CODE = 90
_LONGEST_LINE = 600
"""Characters; no edit that a rule asks for is longer."""


def markdown(digest: Digest) -> str:
    """Return the whole digest."""
    return "\n\n".join(_sections(digest)) + "\n"


def for_model(digest: Digest, *, most_tokens: int = MODEL_TOKENS) -> str:
    """Return what a model is given: as many sections as fit, the edit always, the rest by id."""
    environment, headline, *middle, edit = _sections(digest)
    headline, edit = _short(headline), _short(edit)
    report = _code(digest.report, _LONGEST_LINE)
    note = f"Full digest: `{digest.digest_id}` (kernelpilot digest {report} --json)"
    room = int(most_tokens * _CHARACTERS_A_TOKEN)
    parts = [headline, edit, note]
    room -= sum(len(part) + 2 for part in parts)
    kept: list[str] = []
    for section in (*middle, environment):
        if len(section) + 2 > room:
            section = _cut(section, room)  # noqa: PLW2901 - what is left of it
        if not section:
            break
        kept.append(section)
        room -= len(section) + 2
    text = "\n\n".join((headline, *kept, edit, note))
    return text[: int(most_tokens * _CHARACTERS_A_TOKEN)] + "\n"


def _short(section: str) -> str:
    """Return a section without the ends of long lines: some kernels' names fill pages."""
    return "\n".join(
        line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."
        for line in section.splitlines()
    )


def _cut(section: str, room: int) -> str:
    """Return as many whole lines as fit; nothing where hardly one does."""
    lines: list[str] = []
    for line in section.splitlines():
        if sum(len(one) + 1 for one in lines) + len(line) + 8 > room:
            break
        lines.append(line)
    return "\n".join([*lines, "- ..."]) if len(lines) > 2 else ""  # noqa: PLR2004 - a heading


def _sections(digest: Digest) -> list[str]:
    return [
        _section("Environment", _environment(digest)),
        _section("Headline", _headline(digest)),
        _section("Evidence", _evidence(digest)),
        _section("Hotspots", _hotspots(digest)),
        _section("PTX/SASS", _sass(digest)),
        _section("Inference chain", [f"{n}. {text}" for n, text in enumerate(digest.inference, 1)]),
        _section("Next Concrete Edit", _edit(digest)),
    ]


def _section(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", *lines])


def _environment(digest: Digest) -> list[str]:
    facts = digest.facts
    shape = " x ".join(map(str, facts.grid)), " x ".join(map(str, facts.block))
    known = {
        "Report": digest.report,
        "Digest": digest.digest_id,
        "Device": " ".join(word for word in (facts.device, facts.arch) if word),
        "Kernel": digest.kernel,
        "Grid, block": f"{shape[0]}, {shape[1]}" if facts.grid else "",
        "Launches": f"{facts.launches}" if facts.launches else "",
        "Share of the report's time": "" if facts.share is None else f"{facts.share:.1%}",
    }
    return [f"- {name}: {plain(value)}" for name, value in known.items() if value]


def _headline(digest: Digest) -> list[str]:
    sure = f"confidence {digest.confidence_word} ({digest.confidence:.2f})"
    lines = [f"**{digest.label}** (`{digest.bottleneck}`), {sure}, route: {digest.route}"]
    if digest.is_near_roof:
        lines.append("Near the roof: no cheap edit is left in this kernel.")
    if digest.against is not None:
        against = digest.against
        lines += ["", f"Against {plain(against.report)}: {against.headline}."]
        lines += [f"- slower because: {plain(text)}" for text in against.explanation]
    if digest.alternatives:
        others = ", ".join(f"{one.label} ({one.confidence:.2f})" for one in digest.alternatives)
        lines += ["", f"Also holds: {others}."]
    return lines


def _evidence(digest: Digest) -> list[str]:
    if digest.against is not None:
        head = ("Metric", "Before", "Now", "Change", "Better")
        words = {True: "yes", False: "no", None: ""}
        rows = [
            (one.label, one.shown_before, one.shown_after, one.change, words[one.is_better])
            for one in digest.against.changes
        ]
        return [*(f"- {plain(line.text)}" for line in digest.evidence), "", *_table(head, rows)]
    return _table(
        ("Metric", "Value", "Threshold", "Source"),
        [
            (
                line.metric,
                line.shown,
                "" if line.threshold is None else f"{line.op} {line.threshold:g}",
                line.source,
            )
            for line in digest.evidence
        ],
    )


def _hotspots(digest: Digest) -> list[str]:
    lines = [f"- waiting for {name}: {share:.1%}" for name, share in digest.stalls.items()]
    for kind in ("line", "instruction"):
        spots = [spot for spot in digest.hotspots if spot.symbol == kind][:_MOST_HOT]
        lines += [
            f"- {spot.share:.1%} {plain(spot.detail)} `{_code(spot.text)}`"
            f"{f' ({spot.stall})' if spot.stall else ''}"
            for spot in spots
        ]
    return lines or ["- no samples; give --source with an export of the source page"]


def _sass(digest: Digest) -> list[str]:
    facts = digest.facts
    lines = []
    if facts.registers is not None:
        lines.append(
            f"- {facts.registers} registers a thread"
            + ("" if facts.shared_bytes is None else f", {facts.shared_bytes} bytes shared a block")
        )
    if facts.sass is not None:
        kinds = sorted(facts.sass.kinds.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{name} {count}" for name, count in kinds if name != "other")
        lines.append(f"- {facts.sass.total} instructions: {shown}")
    if digest.against is not None and digest.against.sass:
        lines += [f"- {text}" for text in digest.against.sass]
    return lines or ["- no machine code; give --source with an export of the source page"]


def _edit(digest: Digest) -> list[str]:
    edit = digest.next_edit
    return [
        f"- File: {plain(edit.file)}",
        f"- Symbol: {plain(edit.symbol)}",
        f"- Change: {edit.change}",
        f"- Others are weaker: {edit.why_others_are_weaker}",
        f"- Expected: {edit.expected.text}",
        f"- Validation: {edit.validation}",
        *([f"- Ask the researcher: {plain(digest.query.text)}"] if digest.query else []),
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(map(plain, row))} |" for row in rows)]


def plain(text: str) -> str:
    """Return text that changes no table and no markup: kernels' names come from anywhere."""
    flat = "".join(char for char in " ".join(text.split()) if char.isprintable())
    for char in "\\|[":  # a backslash first: it would take the next one's meaning away
        flat = flat.replace(char, f"\\{char}")
    return flat.replace("<", "&lt;").replace("`", "'")


def _code(text: str, most: int = _MOST_CODE) -> str:
    flat = "".join(char for char in " ".join(text.split()) if char.isprintable())
    return flat.replace("`", "'")[:most]
