"""Loops of a function's machine code: basic blocks, dominators, natural loops. Pure.

A jump backwards alone is not a loop: compilers move rare code behind the function's end and jump
back from there. A loop is an edge to a block that dominates the edge's source, and its body is what
reaches that source without passing the header.

Source: Cooper, Harvey, Kennedy, "A Simple, Fast Dominance Algorithm", 2001.
"""

from collections.abc import Mapping, Sequence

Graph = Mapping[int, Sequence[int]]
"""Block to the blocks that may follow it."""


def natural_loops(entry: int, successors: Graph) -> dict[int, frozenset[int]]:
    """Return each loop's header with the blocks of the loop, the header included."""
    order = _reverse_postorder(entry, successors)
    predecessors = _predecessors(order, successors)
    rank = {block: index for index, block in enumerate(order)}
    dominators = _dominators(entry, order, rank, predecessors)
    loops: dict[int, set[int]] = {}
    for block in order:
        for header in successors.get(block, ()):
            # A dominator comes no later in this order: most edges need no walk.
            if rank[header] <= rank[block] and _dominates(header, block, dominators, entry):
                loops.setdefault(header, {header}).update(_body(header, block, predecessors))
    return {header: frozenset(body) for header, body in loops.items()}


def innermost(loops: Mapping[int, frozenset[int]]) -> frozenset[int]:
    """Return the headers of the loops that hold no other loop."""
    return frozenset(
        header
        for header, body in loops.items()
        if not any(other in body for other in loops if other != header)
    )


def _reverse_postorder(entry: int, successors: Graph) -> list[int]:
    order: list[int] = []
    seen = {entry}
    stack = [(entry, iter(successors.get(entry, ())))]
    while stack:
        block, following = stack[-1]
        fresh = next((b for b in following if b not in seen), None)
        if fresh is None:
            order.append(block)
            stack.pop()
        else:
            seen.add(fresh)
            stack.append((fresh, iter(successors.get(fresh, ()))))
    return order[::-1]


def _predecessors(order: Sequence[int], successors: Graph) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {block: [] for block in order}
    for block in order:
        for following in successors.get(block, ()):
            found[following].append(block)
    return found


def _dominators(
    entry: int,
    order: Sequence[int],
    rank: Mapping[int, int],
    predecessors: Mapping[int, Sequence[int]],
) -> dict[int, int]:
    """Return the immediate dominator of every block; the entry's is itself."""
    nearest = {entry: entry}

    def common(left: int, right: int) -> int:
        while left != right:
            while rank[left] > rank[right]:
                left = nearest[left]
            while rank[right] > rank[left]:
                right = nearest[right]
        return left

    is_changing = True
    while is_changing:
        is_changing = False
        for block in order[1:]:
            known = [p for p in predecessors[block] if p in nearest]
            chosen = known[0]
            for other in known[1:]:
                chosen = common(chosen, other)
            if nearest.get(block) != chosen:
                nearest[block] = chosen
                is_changing = True
    return nearest


def _dominates(header: int, block: int, nearest: Mapping[int, int], entry: int) -> bool:
    while block not in (header, entry):
        block = nearest[block]
    return block == header


def _body(header: int, source: int, predecessors: Mapping[int, Sequence[int]]) -> set[int]:
    found = {header}
    waiting = [source]
    while waiting:
        block = waiting.pop()
        if block not in found:
            found.add(block)
            waiting += predecessors[block]
    return found
