"""A hand-written backward, held against the graph under conditions in which mistakes show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from tensorgrad.bptt.compare import compare
from tensorgrad.bptt.conditions import INPUTS, Condition, Problem, Shapes, conditions, draw
from tensorgrad.bptt.doctor import Finding
from tensorgrad.bptt.handwritten import OPTIONS, Arrays, Handwritten, Snapshot, matched
from tensorgrad.bptt.readings import Graph, Reading, Recorded, candidates, described, matching
from tensorgrad.bptt.reference import Network
from tensorgrad.bptt.report import Report
from tensorgrad.bptt.rolls import state_parts
from tensorgrad.errors import GradientError, UserError
from tensorgrad.tensor import Tensor

__all__ = ["BackwardReport", "Outcome", "check_backward"]

# So many failures are diagnosed: what explains one of them and not another is not the mistake.
DIAGNOSED = 4


class Outcome(NamedTuple):
    """What came of one condition.

    report: the comparison, None where there was nothing to compare. changed: what the backward leaves
    changed, or gives otherwise the second time. problem: why nothing could be compared, else "".
    """

    condition: Condition
    report: Report | None
    changed: str = ""
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether everything agrees, the second time too."""
        return self.report is not None and self.report.ok and not self.changed


@dataclass(frozen=True)
class BackwardReport:
    """What `check_backward` found.

    network: what the backward was held against. outcomes: one for each condition.
    untried: in words, what forward and backward gave no way to try.
    """

    network: str
    outcomes: list[Outcome]
    untried: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the backward agrees under all conditions."""
        return all(outcome.ok for outcome in self.outcomes)

    @property
    def diagnosis(self) -> list[Finding]:
        """The mistakes that explain the failures, the likeliest first.

        Of those in the gradients, the ones that fit under the most conditions; before them BPTT038, which is
        found by running the backward twice.
        """
        reports = [outcome.report for outcome in self.outcomes if outcome.report is not None]
        findings = [finding for report in reports for finding in report.diagnosis]
        counts = Counter(finding.code for finding in findings)
        best = {f.code: f for f in reversed(findings) if counts[f.code] == max(counts.values())}
        changed = [outcome.changed for outcome in self.outcomes if outcome.changed]
        return [Finding("BPTT038", what) for what in changed[:1]] + [
            best[code] for code in counts if code in best
        ]

    def raise_if_different(self) -> None:
        """Raise GradientError with the whole report unless the backward agrees under all conditions."""
        if not self.ok:
            raise GradientError(str(self))

    def __str__(self) -> str:
        failed = [outcome for outcome in self.outcomes if not outcome.ok]
        n = len(self.outcomes)
        lines = [f"Held against {self.network}."]
        if failed:
            lines.append(f"The backward is wrong under {len(failed)} of {n} conditions{self._only(failed)}.")
            lines += self._shown(failed)
        else:
            lines.append(f"The backward agrees under all {n} conditions, and the second time as the first.")
        if self.untried:
            lines.append(f"Not tried: {'; '.join(self.untried)}.")
        return "\n".join(lines)

    def _only(self, failed: list[Outcome]) -> str:
        """The fewest features that all failures have together, and nothing else has."""
        passed = [set(outcome.condition.features) for outcome in self.outcomes if outcome.ok]
        words = failed[0].condition.features
        words = [word for word in words if all(word in outcome.condition.features for outcome in failed)]
        for word in list(words):
            fewer = [other for other in words if other != word]
            if not any(features.issuperset(fewer) for features in passed):
                words = fewer
        apart = not any(features.issuperset(words) for features in passed)
        return f", those with {' and '.join(words)}" if words and apart else ""

    def _shown(self, failed: list[Outcome]) -> list[str]:
        """The first of each kind of failure."""
        lines = []
        different = next((o for o in failed if o.report is not None and not o.report.ok), None)
        if different is not None and different.report is not None:
            codes = [finding for finding in self.diagnosis if finding.code != "BPTT038"]
            lines += [f"Under {different.condition}:", str(replace(different.report, diagnosis=codes))]
        lines += [str(finding) for finding in self.diagnosis if finding.code == "BPTT038"]
        stopped = [outcome for outcome in failed if outcome.problem]
        return lines + [f"Under {outcome.condition}: {outcome.problem}" for outcome in stopped[:1]]


def check_backward(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    graph: Graph | None = None,
    shapes: Shapes | None = None,
    *,
    cell: str | None = None,
    draws: int = 8,
    seed: int = 0,
) -> BackwardReport:
    """Hold a hand-written backward against the graph, under conditions in which mistakes show.

    forward: `(params, xs, targets, ...) -> (loss, cache)`, where the rest is asked for by name: initial
        states `h0`, `c0` (B, H); `mask` (T, B) or `lengths` (B,) for padding at the end; `reduction`, "mean"
        or "sum"; for a GRU `reset`, "after" or "before". xs are ids (T, B) or floats (T, B, D), whichever
        it takes; targets are ids (T, B). Everything is float64.
    backward: `(params, cache, ...) -> gradients`, a dict of arrays by name: of every parameter, W_hh or
        dW_hh, and where it likes of initial states, "dh0", and (T, ...) of what every timestep has, "dh",
        "da". By name it can have what forward was given, and `dh_last`, `dc_last`, gradients that reach the
        last states from outside.
    graph, shapes: for a network that is no vanilla RNN, LSTM or GRU. `graph(params, xs, targets, ...)`, with
        the arguments of forward, the parameters, states and float inputs being Tensors, returns the loss,
        the Tensors that have gradients by name, and what `nn.unroll` returned. `shapes` are those of the
        parameters in the letters B, D, H, V: {"W": ("2H", "D")}.
    cell: "rnn", "lstm" or "gru"; None for the one whose loss is that of forward.
    draws: under at least so many conditions it is tried, each with sizes and numbers of its own; under every
        combination of what forward and backward take, once or more. seed: for all of them.
    Raises UserError for functions that cannot be called so, for what they return, and for a forward whose
    loss is not that of the graph: a backward cannot be judged by another forward.

    >>> from tensorgrad.models.manual import rnn
    >>> check_backward(rnn.forward, rnn.backward).ok
    True
    """
    written = Handwritten(forward, backward)
    check = _Check(written, np.random.default_rng(seed))
    check.settle(candidates(written, graph, shapes, cell))
    return check.run(draws)


class _Check:
    """The conditions, one after another.

    inputs: the kinds of `INPUTS` that forward takes. group: the readings of the parameters it takes.
    readings: what it may be computing, by the options it is called with; fewer after every condition.
    counts_mask: whether its mask is of 0.0 and 1.0 instead of booleans. failures: so far.
    """

    def __init__(self, written: Handwritten, rng: np.random.Generator) -> None:
        self.written, self.rng = written, rng
        self.counts_mask = False
        self.inputs: list[str] = []
        self.group: list[Reading] = []
        self.readings: dict[Any, list[Reading]] = {}
        self.failures = 0

    def settle(self, groups: list[list[Reading]]) -> None:
        """Find the parameters that forward works with, and the kinds of inputs it takes."""
        raised: list[dict[str, UserError]] = []
        other: list[UserError] = []
        options = tuple((name, OPTIONS[name][0]) for name in self.written.options)
        for self.group in groups:
            raised.append({})
            for condition in conditions(self.rng, INPUTS, [False], [False]):
                if condition.inputs == INPUTS[2] and self.inputs:
                    continue
                try:
                    problem, loss, _ = self._ran(replace(condition, options=options))
                except UserError as error:
                    raised[-1][condition.inputs] = error
                    continue
                try:
                    matching(self.group, problem, self.written.states, loss)
                except UserError as error:
                    other.append(error)
                else:
                    self.inputs.append(condition.inputs)
            if self.inputs:
                return
        raise other[0] if other else _never_ran(groups, raised)

    def run(self, draws: int) -> BackwardReport:
        """All conditions, again and again until there were so many."""
        written = self.written
        ragged = [False, True] if written.padding else [False]
        last = [False, True] if written.last else [False]
        outcomes: list[Outcome] = []
        while not outcomes or len(outcomes) < draws:
            for condition in conditions(self.rng, self.inputs, ragged, last, written.options):
                outcomes.append(self._outcome(condition))
        stopped = [outcome for outcome in outcomes if outcome.problem]
        if stopped and all(outcome.problem or outcome.ok for outcome in outcomes):
            raise UserError(f"{stopped[0].problem} (with {stopped[0].condition})")
        network = described(readings[0] for readings in self.readings.values())
        return BackwardReport(network, outcomes, self._untried())

    def _untried(self) -> list[str]:
        written = self.written
        words = {
            "an initial state (forward takes no h0)": written.states,
            "ragged lengths (forward takes no mask or lengths)": written.padding,
            "a loss on the final state (backward takes no dh_last)": written.last,
        }
        return [what for what, there in words.items() if not there]

    def _outcome(self, condition: Condition) -> Outcome:
        problem, loss, cache = self._ran(condition)
        left = self.readings.get(condition.options, self.group)
        left = matching(left, problem, self.written.states, loss)
        self.readings[condition.options] = left
        recorded, last = self._with_last(left[0].record(problem, self.written.states), condition.last)
        try:
            gradients, changed = self._twice(problem, cache, last)
            gradients = _unstacked(left[0], gradients)
            matched(gradients, problem.params, _shapes(recorded))
        except UserError as error:
            return Outcome(condition, None, problem=str(error))
        return Outcome(condition, self._compared(gradients, recorded), changed)

    def _ran(self, condition: Condition) -> tuple[Problem, float, Any]:
        problem = draw(self.rng, condition, self.group[0].shapes, self.written)
        masked = self.written.padding == "mask"
        # Some calculate with the mask, which booleans do not always allow.
        numbers = {"mask": problem.live.astype(np.float64)} if masked else {}
        counted = problem._replace(arguments={**problem.arguments, **numbers})
        if masked and self.counts_mask:
            return (counted, *self._forward(counted))
        try:
            return (problem, *self._forward(problem))
        except UserError as error:
            first = error
        if masked:
            with suppress(UserError):
                loss, cache = self._forward(counted)
                self.counts_mask = True
                return counted, loss, cache
        raise first

    def _forward(self, problem: Problem) -> tuple[float, Any]:
        before = Snapshot(params=problem.params, **problem.arguments)
        loss, cache = self.written.forward(problem.params, problem.arguments)
        if names := before.changed():
            raise UserError(f"forward changes {', '.join(names)}, which it was given; let it work on a copy")
        return loss, cache

    def _with_last(self, recorded: Recorded, wanted: bool) -> tuple[Recorded, Arrays]:
        """The loss, with what reaches the last states from outside; and what backward is told of it."""
        loss, last = recorded.loss, {}
        parts = {part.name: part.after[-1] for part in state_parts("check_backward", recorded.run)}
        for state in self.written.last:
            if state not in parts:
                raise UserError(
                    f"backward takes d{state}_last, but the state of the network is {', '.join(parts)}"
                )
            if wanted:
                g = self.rng.standard_normal(parts[state].shape)
                loss = loss + (g.copy() * parts[state]).sum()
                last[f"d{state}_last"] = g
            elif self.written.needs(state):
                last[f"d{state}_last"] = np.zeros(parts[state].shape)
        return recorded._replace(loss=loss), last

    def _twice(self, problem: Problem, cache: Any, last: Arrays) -> tuple[Arrays, str]:
        """The gradients, and in words what is not the same after the backward or in a second one."""
        before = Snapshot(params=problem.params, cache=cache, **problem.arguments, **last)
        first = self.written.backward(problem.params, cache, problem.arguments, last)
        names = before.changed()
        changed = f"the backward changes {_some(names)}" if names else ""
        second = self.written.backward(problem.params, cache, problem.arguments, last)
        differ = [k for k, g in first.items() if k not in second or not np.array_equal(g, second[k])]
        if differ:
            why = changed or "something is kept from one call to the next"
            changed = f"{why}, and run a second time it gives another {_some(differ)}"
        return first, changed

    def _compared(self, gradients: Arrays, recorded: Recorded) -> Report:
        diagnosis = self.failures < DIAGNOSED
        report = compare(recorded.loss, gradients, recorded.leaves, recorded.run, diagnosis=diagnosis)
        self.failures += not report.ok
        if report.ok or report.diagnosis or not diagnosis:
            return report
        # A record may hold something else than its name says, and yet the gradients tell what is wrong.
        leaves = recorded.leaves
        alone = {
            name: g for name, g in gradients.items() if name in leaves or name.removeprefix("d") in leaves
        }
        return replace(report, diagnosis=compare(recorded.loss, alone, leaves, recorded.run).diagnosis)


def _never_ran(groups: list[list[Reading]], raised: list[dict[str, UserError]]) -> UserError:
    """Of the parameters tried, those are told of that hold all that forward looked up in them."""
    lacks = [isinstance(errors["ids"].__cause__, KeyError) for errors in raised]
    k = lacks.index(False) if False in lacks else 0
    shapes = groups[k][0].shapes.items()
    params = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in shapes)
    ids, floats = str(raised[k]["ids"]), str(raised[k]["floats"])
    also = "" if floats == ids else f"; and with floats xs (T, B, D): {floats}"
    return UserError(f"with ids xs (T, B) and params {params}: {ids}{also}")


def _some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _unstacked(reading: Reading, gradients: Arrays) -> Arrays:
    """Records of gates side by side, cut into those of each gate."""
    stacked = reading.graph.stacked if isinstance(reading.graph, Network) else {}
    found: Arrays = {}
    for name, g in gradients.items():
        labels = stacked.get(name, ())
        if labels and g.ndim and g.shape[-1] % len(labels) == 0:
            parts = np.split(g, len(labels), axis=-1)
            found |= {f"d{gate}": part for gate, part in zip(labels, parts, strict=True)}
        else:
            found[name] = g
    return found


def _shapes(recorded: Recorded) -> Mapping[str, tuple[int, ...]]:
    """Of what has a gradient: the tensors of every timestep, (T, ...), and those behind the graph."""
    run = recorded.run
    shapes = {
        name: (len(run), *x.shape)
        for name, x in run.steps[0].items()
        if name != "output"
        and all(isinstance(step.get(name), Tensor) for step in run.steps)
        and x.requires_grad
    }
    return {**shapes, **{name: x.shape for name, x in recorded.leaves.items()}}
