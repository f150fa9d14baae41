"""From records to an evaluation, and from that to the summary that every report prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slobench.config.slo import Slo
from slobench.metrics import load, objectives, tables, validity, window
from slobench.metrics.ask import Ask
from slobench.metrics.case import Case
from slobench.metrics.checks_instrument import machine_use
from slobench.metrics.columns import FAILED, OURS, BoolArray, is_ok, outcome_in, seconds
from slobench.metrics.estimate import Windows, split
from slobench.metrics.explain import statement
from slobench.metrics.fidelity import fidelity
from slobench.metrics.latency import derive
from slobench.metrics.server_side import server_side
from slobench.metrics.sessions import session_facts
from slobench.metrics.slo import Judged, has_limits, judge
from slobench.metrics.stopped import marked, result_widened, table_widened
from slobench.metrics.summary import (
    Fidelity,
    Finding,
    LatencyTable,
    MachineUse,
    SessionFacts,
    SloResult,
    Summary,
    WindowText,
)
from slobench.names import Exit, Outcome, TokensSource, first_exit
from slobench.records.schema import Columns, Records
from slobench.stats.quantiles import FloatArray


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run with everything that was worked out about it.

    derived: seconds per request (records.schema.DERIVED and more); phase, slo_met: one value per request,
    slo_met 1, 0 or NaN (not evaluable, or no limit was given).
    """

    records: Records
    slo: Slo
    ask: Ask
    derived: Mapping[str, FloatArray]
    window: window.Window
    phase: NDArray[np.str_]
    judged: Judged
    slo_met: FloatArray
    windows: Windows
    latency: Mapping[str, LatencyTable]
    latency_adjusted: Mapping[str, LatencyTable]
    latency_full_run: Mapping[str, LatencyTable]
    findings: tuple[Finding, ...]
    results: Mapping[str, SloResult]
    fidelity: Mapping[str, Fidelity]
    sessions: Mapping[str, SessionFacts]
    machine: MachineUse | None


def evaluate(records: Records, slo: Slo, ask: Ask, *, peers: Sequence[str] = ()) -> Evaluation:
    """Derive latencies, choose the window, judge every request, check validity.

    peers: names of other tools' definitions that are to stand among the latencies (metrics.peers).
    """
    requests = records.requests
    derived = derive(requests, records.chunks)
    chosen = window.choose(requests, derived["e2e_s"], ask)
    judged = judge(requests, derived, records.chunks, slo)
    case = Case.of(records, slo, ask, derived=derived, judged=judged, window=chosen)
    windows = split(chosen.batch(seconds(requests, "scheduled_ns")), chosen.lengths_of_e2e())
    source = tables.Source.of(case, windows)
    adjusted = tables.adjusted(source)
    found = validity.findings(case, adjusted)
    widen = partial(table_widened, ask=ask, end_s=chosen.end_s)
    return Evaluation(
        records=records,
        slo=slo,
        ask=ask,
        derived=derived,
        window=chosen,
        phase=window.phases(requests, chosen),
        judged=judged,
        slo_met=judged.met if has_limits(slo) else np.full(len(judged.met), np.nan),
        windows=windows,
        latency=marked(widen(tables.successful(source, steady=is_steady(found), peers=peers)), ask.stopped),
        latency_adjusted=marked(widen(adjusted), ask.stopped),
        latency_full_run=tables.full_run(source),
        findings=found,
        results=marked(
            result_widened(objectives.results(case, windows, adjusted, found), ask, chosen.end_s), ask.stopped
        ),
        fidelity=fidelity(case),
        sessions=session_facts(case),
        machine=machine_use(case),
    )


def is_steady(found: tuple[Finding, ...]) -> bool:
    """Whether the server was found neither overloaded nor restarted."""
    return not any(finding.code in {"V07", "V14"} and finding.level == "server" for finding in found)


def summarise(evaluation: Evaluation) -> Summary:
    """Put an evaluation into the one shape that reports print; decides the verdict and the exit code."""
    requests, chosen = evaluation.records.requests, evaluation.window
    valid, verdict = validity.verdict(evaluation.findings)
    flow = load.token_flow(requests, evaluation.records.chunks)
    loads = marked(load.loads(requests, evaluation.derived, flow, chosen, evaluation.windows), evaluation.ask.stopped)
    exits = _exits(evaluation, valid=valid)
    source = _tokens_source(requests)
    return Summary(
        verdict=verdict,
        valid=valid,
        exit=int(first_exit(exits)),
        exits=tuple(sorted(int(code) for code in exits)),
        findings=evaluation.findings,
        window=WindowText(
            start_s=chosen.start_s,
            end_s=chosen.end_s,
            mean_e2e_s=chosen.mean_e2e_s,
            p99_e2e_s=chosen.p99_e2e_s,
            whole_run=chosen.whole_run,
            steady=_steady(evaluation),
        ),
        load=loads,
        slo=evaluation.results,
        latency=evaluation.latency,
        latency_adjusted=evaluation.latency_adjusted,
        latency_full_run=evaluation.latency_full_run,
        errors=_errors(requests),
        outcomes=_outcomes(requests),
        statement=statement(
            evaluation.ask, chosen, loads["all"], evaluation.results["all"], verdict=verdict, tokens_source=source
        ),
        tokens_source=source,
        approximate_tokens=bool(source.get(TokensSource.CHUNKS.value)),
        fidelity=evaluation.fidelity,
        sessions=marked(evaluation.sessions, evaluation.ask.stopped),
        machine=evaluation.machine,
        server=server_side(
            evaluation.records.telemetry,
            chosen.start_s,
            chosen.end_s,
            loads["all"].output_tokens_per_s * chosen.length_s,
        ),
    )


def _exits(evaluation: Evaluation, *, valid: bool) -> set[Exit]:
    ask, outcome = evaluation.ask, evaluation.records.requests
    exits = {Exit.INTERRUPTED} if ask.interrupted else set()
    # What the end of the offer cut had no reply either; what the user's Ctrl-C cut says nothing of the server.
    unanswered = outcome_in(outcome, (FAILED - OURS) | (frozenset() if ask.interrupted else {Outcome.CUT}))
    if ask.target_died or (unanswered.any() and not is_ok(outcome).any()):
        exits.add(Exit.TARGET)
    if not valid:
        exits.add(Exit.INVALID)
    if any(result.met is False for result in evaluation.results.values()):
        exits.add(Exit.SLO)
    if ask.undecided:
        exits.add(Exit.UNDECIDED)
    return exits


def _steady(evaluation: Evaluation) -> bool | None:
    """None where the window was too poor to tell."""
    if evaluation.window.mean_e2e_s is None or (evaluation.window.whole_run and is_steady(evaluation.findings)):
        return None
    return not any(finding.code == "V07" for finding in evaluation.findings)


def _errors(requests: Columns) -> dict[str, dict[str, int]]:
    """Occurrences of each message of each outcome that is a failure, over the whole run."""
    table: dict[str, dict[str, int]] = {}
    bad: BoolArray = ~is_ok(requests) & ~outcome_in(requests, {Outcome.UNSENT, Outcome.CANCELLED})
    for outcome in np.unique(requests["outcome"][bad]):
        chosen = bad & (requests["outcome"] == outcome)
        messages = np.asarray(requests["error"][chosen], dtype=np.str_)
        words, counted = np.unique(messages, return_counts=True)
        order = np.argsort(-counted, kind="stable")
        table[str(outcome)] = {str(words[i]): int(counted[i]) for i in order}
    return table


def _outcomes(requests: Columns) -> dict[str, dict[str, int]]:
    table = {}
    every = np.ones(len(requests["index"]), dtype=np.bool_)
    classes = {str(name): requests["class"] == name for name in np.unique(requests["class"])}
    for name, chosen in {"all": every, **classes}.items():
        words, counted = np.unique(requests["outcome"][chosen], return_counts=True)
        table[name] = {str(word): int(count) for word, count in zip(words, counted, strict=True)}
    return table


def _tokens_source(requests: Columns) -> dict[str, int]:
    words, counted = np.unique(requests["tokens_source"][is_ok(requests)], return_counts=True)
    return {str(word): int(count) for word, count in zip(words, counted, strict=True) if word}
