"""A target out of a sentence: the shipped target it names, with the shapes and goal it asks for."""

from typing import Any

from pydantic import JsonValue

from agents.errors import RequestIncomplete
from agents.request import KnownTarget, Request, parse_request
from graph.errors import TargetError
from graph.explain import read_document
from graph.target_schema import TargetDocument
from graph.targets import TARGETS, target_names


def request_of(text: str) -> Request:
    """Return what a sentence asks for, held against the targets that come with the program.

    Raises:
        TargetError: something is missing that no rule can supply; lists all of it.
    """
    try:
        return parse_request(text, tuple(known_target(name) for name in target_names()))
    except RequestIncomplete as error:
        raise TargetError(str(error)) from error


def known_target(name: str) -> KnownTarget:
    """Return a shipped target as a request sees it."""
    raw, _ = read_document(TARGETS / f"{name}.yaml")
    document = TargetDocument.model_validate(raw)
    problem: dict[str, Any] = dict(document.problem or {})
    goals = {d: entry.goal or document.goal for d, entry in document.devices.items()}
    return KnownTarget(
        name=name,
        axes=tuple(axis["name"] for axis in problem.get("axes", ()) if axis["kind"] == "var"),
        inputs=tuple(tensor["name"] for tensor in problem.get("inputs", ())),
        baselines=tuple(dict.fromkeys(one.name for one in document.baselines)),
        devices=tuple(document.devices),
        dtypes={d: {k: v.value for k, v in e.dtypes.items()} for d, e in document.devices.items()},
        goals={
            device: f"{goal.speedup:g} times the speed of {goal.against}"
            for device, goal in goals.items()
            if goal is not None
        },
    )


def amended(raw: dict[str, JsonValue], request: Request, device: str) -> dict[str, JsonValue]:
    """Return a target's document with what a request asks for, for one kind of device.

    Hidden shapes stay: they decide what is right, whatever is asked to be fast.
    """
    document: dict[str, Any] = dict(raw)
    devices = dict(document["devices"])
    entry = dict(devices[device])
    if request.shapes:
        document["workloads_file"] = ""
        entry["workloads"] = [
            {"name": _name(shape), "axes": shape, "source": "the request"}
            for shape in request.shapes
        ]
    if request.dtype:
        entry["dtypes"] = dict.fromkeys(entry.get("dtypes", {}), request.dtype)
    if request.arch:
        entry["arch"] = request.arch
    goal = {**(entry.get("goal") or document.get("goal") or {})}
    if request.speedup is not None:
        goal["speedup"] = request.speedup
    if request.against:
        goal["against"] = request.against
    if goal:
        entry["goal"] = goal
    limits = {"rounds": request.rounds, "wall_s": request.wall_s}
    asked = {key: value for key, value in limits.items() if value is not None}
    budget = {**document.get("budget", {}), **asked}
    return {**document, "devices": {**devices, device: entry}, "budget": budget}


def _name(shape: dict[str, int]) -> str:
    """Return a name for a workload: `m64_n2048_k2048`."""
    return "_".join(f"{axis.lower()}{size}" for axis, size in shape.items())[:64]
