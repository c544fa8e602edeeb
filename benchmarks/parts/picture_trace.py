"""What an input costs, read from the trace of a Chromium.

From the moment an input reaches the browser to the moment the frame that shows its effect is on the screen,
all time counts in which at least one thread of the page is busy: script, style, layout, paint, raster and
compositing. Waiting for the next refresh of the screen does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

CATEGORIES = ("toplevel", "input.scrolling")
COSTS = ("frame", "processor", "latency", "rest")

# Inputs further apart than this are two; one turn of the wheel may be several events. Microseconds, as all
# times of a trace.
APART = 60_000
# The threads that a frame passes through, by process; and the events that stand for whatever one does.
THREADS = {
    "Renderer": ("CrRendererMain", "Compositor", "ThreadPoolForegroundWorker", "CompositorTileWorker"),
    "GPU Process": ("CrGpuMain", "VizCompositorThread"),
}
TASKS = ("ThreadControllerImpl::RunTask", "ThreadPool_RunTask")

Event = dict[str, Any]


class Span(NamedTuple):
    """From one moment to another; and the time that a task in between had of a processor."""

    begin: float
    end: float
    processor: float = 0.0

    @property
    def rate(self) -> float:
        """How much of a processor it had."""
        return self.processor / (self.end - self.begin)


def costs(events: Sequence[Event]) -> list[dict[str, float]]:
    """What every input of a trace cost, in milliseconds, by `COSTS`.

    frame: busy time until its effect was on the screen.
    processor: what all threads together had of the processors until then; no other program adds to it.
    latency: time that passed until then.
    rest: busy time until the next input.

    Where nothing came to the screen, there is no latency, and the first two are up to the next input.
    """
    inputs, shown = find_inputs(events)
    tasks = find_tasks(events)
    busy = joined(tasks)
    found = []
    for begin, following in zip(inputs, [*inputs[1:], float("inf")], strict=True):
        ends = [span.end for span in shown if begin <= span.begin < following]
        seen = Span(begin, max(ends, default=following))
        cost = {
            "frame": sum(overlap(span, seen) for span in busy) / 1000,
            "processor": sum(task.rate * overlap(task, seen) for task in tasks) / 1000,
            "rest": sum(overlap(span, Span(begin, following)) for span in busy) / 1000,
        }
        found.append({**cost, "latency": (seen.end - begin) / 1000} if ends else cost)
    return found


def find_inputs(events: Iterable[Event]) -> tuple[list[float], list[Span]]:
    """When each input reached the browser; and for those that had an effect, from then to the screen."""
    open_events: dict[tuple[Any, ...], Event] = {}
    begins: list[float] = []
    shown = []
    for event in sorted((e for e in events if e["name"] == "EventLatency"), key=lambda e: e["ts"]):
        key = (event["pid"], *event["id2"].items())
        if event["ph"] == "b":
            open_events[key] = event
            begins.append(event["ts"])
        elif key in open_events:
            begin = open_events.pop(key)
            if "display_trace_id" in begin["args"]["event_latency"]:
                shown.append(Span(begin["ts"], event["ts"]))
    inputs = [ts for before, ts in zip([-APART, *begins], begins, strict=False) if ts - before >= APART]
    return inputs, shown


def find_tasks(events: Sequence[Event]) -> list[Span]:
    """What the threads did, in the order of time."""
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    watched = {
        place for place, name in threads.items() if name in THREADS.get(processes.get(place[0], ""), ())
    }
    return sorted(
        Span(e["ts"], e["ts"] + e["dur"], e.get("tdur", 0.0))
        for e in events
        if e["name"] in TASKS and e.get("dur") and (e["pid"], e["tid"]) in watched
    )


def joined(spans: Iterable[Span]) -> list[Span]:
    """When at least one of some spans, given in the order of time, was under way."""
    found: list[Span] = []
    for span in spans:
        if found and span.begin <= found[-1].end:
            found[-1] = Span(found[-1].begin, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def overlap(span: Span, window: Span) -> float:
    """How much of a span lies in a window."""
    return max(0.0, min(span.end, window.end) - max(span.begin, window.begin))
