"""What a worker counts of each probe of a stream, request by request, while the stream goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slobench.generate.verdict import Rule, Seen, counted, judge, value_s
from slobench.names import NULL, Outcome
from slobench.records.probe_counts import BATCHES, MEANS, ProbeBlock

_NOT_FAILED = frozenset({Outcome.OK, Outcome.CANCELLED, Outcome.CUT})


@dataclass(frozen=True, slots=True)
class Share:
    """One share that is counted: of which classes, and when a request is good.

    what: "all" = the rule of its class, "ok" = it ended well, "rule" = `rule`.
    """

    name: str
    classes: tuple[str, ...]
    what: str
    rule: Rule = field(default_factory=Rule)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Share:
        """Read `dataclasses.asdict` back."""
        rule = raw["rule"]
        limits = tuple((str(metric), float(limit), float(grow)) for metric, limit, grow in rule["limits"])
        deadline = rule["deadline"]
        return cls(raw["name"], tuple(raw["classes"]), raw["what"], Rule(limits, deadline and tuple(deadline)))


class Shares:
    """The shares of a stream, sorted by the class that they are asked of."""

    def __init__(
        self, shares: Sequence[Share], class_names: Sequence[str], cancelled: Mapping[str, str] | None = None
    ) -> None:
        """cancelled: what requests of a class count as whose users disconnected, where not by the limits due."""
        self._cancelled = [(cancelled or {}).get(name, "judged") for name in class_names]
        self._by_class = [
            [(at, share) for at, share in enumerate(shares) if name in share.classes] for name in class_names
        ]

    def of(self, class_code: int) -> list[tuple[int, Share]]:
        """(position, share) of those that a class counts in."""
        return self._by_class[class_code]

    def needs_events(self, class_code: int) -> bool:
        """Whether a request of this class can be judged only by the times of its token events."""
        return any(share.rule.needs_events for _, share in self._by_class[class_code])

    def judge(self, class_code: int, seen: Seen, *, whole: bool | None) -> list[tuple[int, bool]]:
        """(position of the share, good) for each share that can be judged. whole: the verdict by its class's rule."""
        found = []
        for at, share in self._by_class[class_code]:
            match share.what:
                case "all":
                    good = whole
                case "ok":
                    good = judge(Rule(), seen)
                case _:
                    good = judge(share.rule, seen)
            good = counted(seen.outcome, self._cancelled[class_code], good=good)
            if good is not None:
                found.append((at, good))
        return found


class Tally:
    """One probe in one worker. Indices of the stream; rows before `counted_from` are settling and do not count."""

    __slots__ = ("_block", "_counted_from", "_n", "_shares", "end")

    def __init__(self, block: ProbeBlock, shares: Shares, *, counted_from: int, n: int) -> None:
        self._block = block
        self._shares = shares
        self._counted_from = counted_from
        self._n = n
        self.end = counted_from + n
        """The first index that is not the probe's any more."""

    def sent(self, index: int, scheduled_ns: int, started_ns: int, in_flight: int) -> None:
        """Count a send."""
        if index >= self._counted_from:
            self._block.sent(self._batch(index), in_flight, started_ns - scheduled_ns, scheduled_ns)

    def ended(self, index: int, class_code: int, seen: Seen, *, whole: bool | None) -> None:
        """Count an end."""
        if index < self._counted_from:
            return
        batch, outcome = self._batch(index), seen.outcome
        for at, good in self._shares.judge(class_code, seen, whole=whole):
            self._block.judged(at, batch, good=good)
        if outcome is Outcome.OK and seen.reply.last_token_ns != NULL:
            quantities = [_ns(value_s(name, seen)) for name in MEANS]
            self._block.took(seen.reply.last_token_ns - seen.exchange.scheduled_ns, quantities)
        self._block.ended(failed=outcome not in _NOT_FAILED)

    def dropped(self, index: int, class_code: int) -> None:
        """Count a request that was due and not sent: not good in any share."""
        if index >= self._counted_from:
            for at, _ in self._shares.of(class_code):
                self._block.judged(at, self._batch(index), good=False)
            self._block.ended(failed=True, dropped=True)

    def _batch(self, index: int) -> int:
        return (index - self._counted_from) * BATCHES // self._n


def _ns(value_s: float) -> int | None:
    return None if math.isnan(value_s) else round(value_s * 1e9)
