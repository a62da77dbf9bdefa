"""A digest on a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graph.digest.model import Digest, listed

_BAR = 24
_NAMES = 12
_MOST_SPOTS = 4
_COLOURS = {"high": "green", "medium": "yellow", "low": "red"}


def show(console: Console, digest: Digest) -> None:
    """Print a digest: the kernels of the report, then the chosen one."""
    if len(digest.kernels) > 1:
        console.print(_kernels(digest))
    colour = _COLOURS[digest.confidence_word]
    console.print(
        f"\n[bold]{_safe(digest.kernel)}[/bold]  {digest.label}  "
        f"[{colour}]{digest.confidence_word} confidence ({digest.confidence:.2f})[/{colour}]"
    )
    if digest.is_near_roof:
        console.print("near the roof: no cheap edit is left in this kernel")
    if digest.against is not None:
        _show_against(console, digest)
    console.print(_evidence(digest))
    if digest.stalls:
        console.print(_stalls(digest))
    spots = [spot for spot in digest.hotspots if spot.symbol == "line"][:_MOST_SPOTS]
    for spot in spots:
        console.print(
            _safe(f"  {spot.share:6.1%}  {spot.detail}  {spot.stall}  {spot.text[:60]}"),
            highlight=False,
        )
    _show_edit(console, digest)


def _kernels(digest: Digest) -> Table:
    table = Table(title=_safe(digest.report), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("kernel", overflow="fold")
    for heading in ("launches", "time us", "share"):
        table.add_column(heading, justify="right")
    table.add_column("class")
    table.add_column("confidence", justify="right")
    for line in listed(digest):
        table.add_row(
            ">" if line.is_chosen else "",
            _safe(line.kernel),
            str(line.launches),
            "-" if line.time_us is None else f"{line.time_us:.4g}",
            "-" if line.share is None else f"{line.share:.1%}",
            line.bottleneck.replace("_", " "),
            f"{line.confidence:.2f}",
        )
    rest = len(digest.kernels) - len(listed(digest))
    if rest:
        table.caption = f"and {rest} more that take less time; --json lists them all"
    return table


def _evidence(digest: Digest) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("evidence", "value", "threshold"):
        table.add_column(heading)
    for line in digest.evidence:
        limit = "" if line.threshold is None else f"{line.op} {line.threshold:g}"
        table.add_row(_safe(line.metric), _safe(line.shown), limit)
    return table


def _stalls(digest: Digest) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("warps wait for", "share", ""):
        table.add_column(heading)
    for name, share in digest.stalls.items():
        table.add_row(_safe(name), f"{share:.1%}", "#" * max(1, round(share * _BAR)))
    return table


def _show_against(console: Console, digest: Digest) -> None:
    if digest.against is None:
        return
    console.print(_safe(f"against {digest.against.report}: {digest.against.headline}"))
    for text in digest.against.explanation:
        console.print(_safe(f"  slower because: {text}"))
    table = Table(box=None, pad_edge=False)
    for heading in ("metric", "before", "now", "change"):
        table.add_column(heading)
    for one in digest.against.changes:
        if one.change:
            table.add_row(one.label, one.shown_before, one.shown_after, one.change)
    console.print(table)
    for text in digest.against.sass:
        console.print(_safe(f"  {text}"))


def _show_edit(console: Console, digest: Digest) -> None:
    edit = digest.next_edit
    console.print("\n[bold]next edit[/bold]")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", min_width=_NAMES)
    table.add_column(overflow="fold")
    for name, text in (
        ("file", edit.file),
        ("symbol", edit.symbol),
        ("change", edit.change),
        ("expected", edit.expected.text),
        ("validation", edit.validation),
        ("others", edit.why_others_are_weaker),
    ):
        table.add_row(name, _safe(text))
    if digest.missing:
        table.add_row("missing", _safe(", ".join(digest.missing[:6])))
    console.print(table, highlight=False)


def _safe(text: str) -> str:
    """Return text that is neither markup nor a terminal's control sequence: names are not ours."""
    return escape("".join(char if char.isprintable() else " " for char in text))
