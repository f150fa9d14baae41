"""Events in forms that were seen before: what is read of them is what the JSON parser reads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.names import NULL
from slobench.wire.openai import CONTENT, NO_CHANNEL, Event, Usage, parse_event
from slobench.wire.usual import Forms
from tests.conformance.dialect import Dialect

COMPLETIONS, CHAT = Dialect("completions"), Dialect("chat")


def data_of(event: bytes) -> bytes:
    """What stands after `data: `."""
    return event.removeprefix(b"data: ").removesuffix(b"\n\n")


ENDS = {
    "last token": data_of(COMPLETIONS.text(" z", finish="length")),
    "last token with ids": data_of(COMPLETIONS.text(" z", finish="stop", token_ids=[7, 8])),
    "last token of a chat": data_of(CHAT.text(" z", finish="stop")),
    "finish reason": data_of(CHAT.event({"content": ""}, finish="stop")),
    "role": data_of(CHAT.role()),
    "totals": data_of(COMPLETIONS.usage(7, 20)),
    "totals of a chat": data_of(CHAT.usage(7, 20)),
    "totals with nulls": data_of(CHAT.usage(7, 20, prompt_tokens_details=None)),
}
NO_FORMS = {
    "a plain event": data_of(COMPLETIONS.text(" tok")),
    "no JSON": b"{",
    "an error": b'{"error":{"message":"died"}}',
    "totals with details": data_of(CHAT.usage(7, 20, prompt_tokens_details={"cached_tokens": 3})),
    "totals with a choice": data_of(
        CHAT.event({}, usage={"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2})
    ),
    "an error by its object": data_of(COMPLETIONS.usage(7, 20)).replace(b"text_completion", b"error"),
    "totals that are null after all": data_of(COMPLETIONS.usage(7, 20)).removesuffix(b"}") + b',"usage":null}',
    "totals that are given twice": data_of(COMPLETIONS.usage(7, 20)).replace(b"total_tokens", b"prompt_tokens"),
}


def forms_of(*events: bytes) -> Forms:
    """Forms learnt from these."""
    forms = Forms()
    for event in events:
        forms.learn(event)
    return forms


@pytest.mark.parametrize("name", ENDS)
def test_an_event_is_read_in_the_form_of_another(name: str) -> None:
    """Other ids, times and counts make no difference."""
    forms = forms_of(ENDS[name])
    other = ENDS[name].replace(b"cmpl-1", b"chatcmpl-77").replace(b"1795450309", b"1795450400").replace(b":20", b":333")
    assert forms.read(other) == parse_event(other)
    assert forms_of().read(other) is None


def test_what_is_read() -> None:
    """The channel, finish reason and count of a last token; the totals; the end."""
    forms = forms_of(*ENDS.values())
    text = data_of(COMPLETIONS.text(" \n é", finish="stop", token_ids=[1, 2, 3]))
    assert forms.read(text) == Event(CONTENT, 3, None, "stop")
    assert forms.read(data_of(COMPLETIONS.usage(12, 34))) == Event(usage=Usage(12, 34), choices=False)
    assert forms.read(ENDS["role"]) == Event(NO_CHANNEL, NULL)
    done = forms.read(b"[DONE]")
    assert done is not None
    assert done.ends


@pytest.mark.parametrize("name", NO_FORMS)
def test_other_events_are_no_forms(name: str) -> None:
    """They are left to the parser, however often they come."""
    forms = forms_of(NO_FORMS[name])
    assert forms.read(NO_FORMS[name]) is None


def test_so_many_forms_are_kept_and_no_more() -> None:
    """A server whose events all differ costs a bounded number of attempts."""
    events = [data_of(COMPLETIONS.text(" z", finish="a" * n)) for n in range(1, 40)]
    forms = forms_of(*events)
    assert [forms.read(event) is not None for event in events] == [n < 8 for n in range(len(events))]


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_whatever_comes_is_read_as_the_parser_reads_it(data: st.DataObject) -> None:
    """Any change of any event: no form, or what the parser says."""
    forms = forms_of(*ENDS.values())
    event = bytearray(data.draw(st.sampled_from(list(ENDS.values()))))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(event)))
        stop = min(start + data.draw(st.integers(0, 3)), len(event))
        event[start:stop] = data.draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from([b"0", b"00", b"12", b'"', b"\\", b"null", b"\n", b'","', b"-", b"."]),
            )
        )
    read = forms.read(bytes(event))
    if read is None:
        return
    assert read == parse_event(bytes(event))
