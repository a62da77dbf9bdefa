"""The state machine as a LangGraph graph: nodes, edges, retries. Knows no node's work."""

from collections.abc import Hashable
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import RetryPolicy, Send

from agents.errors import ModelBusy, ModelTimeout
from graph import routing
from graph.checkpoints import PruningSaver
from graph.nodes.admit import admit
from graph.nodes.autotune import autotune
from graph.nodes.bench import bench
from graph.nodes.build import build
from graph.nodes.check import check
from graph.nodes.claim import claim
from graph.nodes.finalize import finalize
from graph.nodes.finish import finish
from graph.nodes.inspect import inspect
from graph.nodes.plan import plan
from graph.nodes.profile import profile
from graph.nodes.research import research
from graph.nodes.review import review
from graph.nodes.write import write
from graph.services import Services
from graph.state import LaneState, Order, RunState
from graph.target import Budget

Loop = CompiledStateGraph[RunState, Services, RunState, RunState]

_STEPS_A_ROUND = 9
"""research, write, build, check, bench, claim, profile, review, plan; a mend takes fewer."""
_STEPS_BESIDE = 16


def recursion_limit(limits: Budget, repairs: int) -> int:
    """Return the most supersteps that a run within its budget can take."""
    return limits.rounds * (_STEPS_A_ROUND + 2 * repairs) + _STEPS_BESIDE


def assemble(
    saver: PruningSaver | None, *, lanes: int, repairs: int, retries: int, pause_s: float = 2.0
) -> Loop:
    """Return the compiled graph.

    Args:
        saver: keeps the checkpoints; None keeps none (for drawing).
        lanes: candidates a round.
        repairs: times a lane may be written again in one round.
        retries: of a role whose provider is busy or silent.
        pause_s: before the first retry; doubles each time.
    """
    builder = StateGraph(RunState, context_schema=Services)
    patient = RetryPolicy(
        initial_interval=pause_s,
        backoff_factor=2.0,
        max_attempts=retries,
        retry_on=(ModelBusy, ModelTimeout),
    )
    for asks in (plan, research, profile, review, inspect):
        builder.add_node(asks.__name__, asks, retry_policy=patient)
    builder.add_node("write", write, input_schema=LaneState, retry_policy=patient)
    for works in (admit, build, check, bench, claim, finalize, autotune, finish):
        builder.add_node(works.__name__, works)

    def fan_out(state: RunState, orders: tuple[Order, ...]) -> list[Send]:
        return [Send("write", LaneState(**state, order=order)) for order in orders]

    def after_research(state: RunState) -> Any:
        to = routing.after_research(state)
        return fan_out(state, routing.orders(state, lanes)) if to == "write" else to

    def after_build(state: RunState) -> Any:
        to = routing.after_build(state, repairs)
        return fan_out(state, routing.repairs(state, repairs)) if to == "write" else to

    def after_review(state: RunState) -> Any:
        to = routing.after_review(state)
        return fan_out(state, routing.orders(state, lanes)) if to == "write" else to

    def after_inspect(state: RunState) -> Any:
        to = routing.after_inspect(state)
        return fan_out(state, routing.orders(state, 1)) if to == "write" else to

    builder.add_edge(START, "admit")
    builder.add_conditional_edges("admit", routing.after_admit)
    builder.add_conditional_edges("plan", routing.after_plan)
    builder.add_conditional_edges("research", after_research, _map("write", "inspect", "finish"))
    builder.add_edge("write", "build")
    builder.add_conditional_edges(
        "build", after_build, _map("write", "check", "review", "finalize")
    )
    builder.add_conditional_edges("check", routing.after_check)
    builder.add_conditional_edges("bench", routing.after_bench)
    builder.add_edge("claim", "profile")
    builder.add_edge("profile", "review")
    builder.add_conditional_edges(
        "review", after_review, _map("write", "research", "plan", "inspect", "finish")
    )
    builder.add_conditional_edges("inspect", after_inspect, _map("write", "autotune"))
    builder.add_edge("finalize", "inspect")
    builder.add_edge("autotune", "finish")
    builder.add_edge("finish", END)
    return builder.compile(checkpointer=saver, name="kernelpilot")


def _map(*names: str) -> dict[Hashable, str]:
    return {name: name for name in names}
