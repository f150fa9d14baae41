"""Sessions: requests that follow one another, and how long anyone waits for a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from slobench.config.base import Model
from slobench.config.durations import ConstantTime, Durations
from slobench.config.lengths import ConstantLength, Lengths, Tokens

LOOK_BACK = 62
"""How many requests of its session before it one can wait for."""
StepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Step(Model):
    """One request of each turn of an agent's session."""

    name: StepName
    after: tuple[StepName, ...] = ()
    """Steps of the same turn that must have ended; none: it begins with the turn."""
    input_tokens: Lengths | None = None
    """New tokens of its prompt; null: those of the class."""
    output_tokens: Lengths | None = None
    """Null: those of the class."""
    delay: Durations = ConstantTime(value=0)
    """From the end of what it waits for to its own start: a tool that runs."""


class Session(Model):
    """Requests of one user or agent, each sent after the replies that it waits for; arrivals are those of sessions."""

    turns: Lengths = ConstantLength(value=1)
    """Turns of a session; of steps, how often all of them are gone through."""
    think_time: Durations = ConstantTime(value=0)
    """From the end of a turn to the start of the next."""
    history: Literal["cumulative", "none"] = "cumulative"
    """cumulative: a prompt begins with the prompts and the planned replies before it, and `input_tokens` come on top;
    none: every prompt is new."""
    max_tokens: Tokens | None = None
    """A session ends before the first request whose prompt and reply together would be longer; null: no bound."""
    on_failure: Literal["stop", "continue"] = "stop"
    """What follows a request that failed or was given up: nothing more of its session, or what was planned."""
    steps: tuple[Step, ...] = ()
    """Requests of each turn and what each waits for: fan-out and joins. None: one request a turn."""

    @model_validator(mode="after")
    def _sound(self) -> Session:
        furthest = max(waits_of(self.steps, more_turns=most_turns(self.turns) > 1), default=0).bit_length()
        if furthest > LOOK_BACK:
            raise ValueError(
                f"a step waits for the request {furthest} places before it; expected at most {LOOK_BACK} "
                "(fewer steps, or joins closer to what they join)"
            )
        return self


class Patience(Model):
    """How long a reply is waited for before the client disconnects: outcome `cancelled`."""

    wait: Durations
    """From the scheduled time of the request."""
    until: Literal["reply", "first-token"] = "reply"
    """What must have come by then: the whole reply, or its first token."""
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Part of the requests that are waited for so long; the others are waited for to the end."""


def most_turns(turns: Lengths) -> int:
    """The bound of a distribution of turns, as far as it says so."""
    return turns.value if isinstance(turns, ConstantLength) else 2


def ordered(steps: Sequence[Step]) -> list[Step]:
    """The steps in an order in which each comes after what it waits for; as listed where that is one.

    Raises ValueError for a name used twice, one that is not there, or a circle.
    """
    names = [step.name for step in steps]
    for step in steps:
        if names.count(step.name) > 1:
            raise ValueError(f"two steps named {step.name}; expected a name for each")
        for name in step.after:
            if name not in names:
                raise ValueError(f"step {step.name} waits for {name}, which is no step; expected one of {names}")
    found: list[Step] = []
    while len(found) < len(steps):
        placed = {step.name for step in found}
        ready = (step for step in steps if step.name not in placed and placed.issuperset(step.after))
        following = next(ready, None)
        if following is None:
            circle = _circle([step for step in steps if step.name not in placed])
            raise ValueError(f"steps wait for each other: {' after '.join(circle)}; expected steps without a circle")
        found.append(following)
    return found


def _circle(steps: Sequence[Step]) -> list[str]:
    """Names along one circle among steps that cannot be ordered, its first name again at the end."""
    waits = {step.name: next(name for name in step.after if any(name == each.name for each in steps)) for step in steps}
    path = [steps[0].name]
    while waits[path[-1]] not in path:
        path.append(waits[path[-1]])
    return [*path[path.index(waits[path[-1]]) :], waits[path[-1]]]


def waits_of(steps: Sequence[Step], *, more_turns: bool) -> list[int]:
    """What each request of a turn waits for, as bits: bit k = the request k + 1 places before it.

    more_turns: of a later turn, whose first steps wait for all of the turn before that nothing waits for.
    """
    if not steps:
        return [int(more_turns)]
    line = ordered(steps)
    place = {step.name: at for at, step in enumerate(line)}
    last = [at for at, step in enumerate(line) if not any(step.name in other.after for other in line)]
    waits = []
    for at, step in enumerate(line):
        back = [at - place[name] for name in step.after]
        if not back and more_turns:
            back = [at + len(line) - each for each in last]
        waits.append(sum(1 << (each - 1) for each in set(back)))
    return waits
