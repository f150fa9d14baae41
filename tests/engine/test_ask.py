"""What request bodies mean to the simulated server."""

import json
import struct
from base64 import b64encode
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.engine.ask import Ask, Limits, RefusedError, parse
from slobench.engine.prompts import Vocabulary, block_hashes, split_text
from slobench.names import Api
from slobench.workload.images import ImageMaker

PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
LIMITS = Limits(("sim", "lora"), 1000, 4096)


def ask(*, api: Api = "completions", **fields: object) -> Ask:
    """Parse a body."""
    return parse(json.dumps(fields).encode(), LIMITS, api)


def test_prompts_are_counted_as_ids_words_or_messages():
    """Ids count as they are, words one each (long ones one for each 8 characters), messages one more for each role."""
    assert len(ask(prompt=[5, 6, 7]).prompt) == 3
    assert len(ask(prompt=[[5, 6, 7]]).prompt) == 3
    assert len(ask(prompt="one two  three\nfour").prompt) == 4
    assert len(ask(prompt="internationalisation").prompt) == 3
    messages = [{"role": "user", "content": "one two"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}]
    assert len(ask(api="chat", messages=messages).prompt) == 2 + 1 + 2 + 1


def image(width: int, height: int, index: int = 0) -> dict[str, object]:
    """A message with a text of two words and an image."""
    made = ImageMaker(1, "0123456789abcdef", width, height).content(b'"two words"', index, 1)
    return {"role": "user", "content": json.loads(made)}


def test_images_are_tokens_by_their_size():
    """A token for each 28 by 28 pixels, begun ones too; the same for the same image only."""
    one, again, other = (ask(api="chat", messages=[image(57, 28, index)]).prompt for index in (1, 1, 2))
    assert len(one) == 1 + 2 + 3 + 1
    assert one == again
    assert not set(one[3:6]) & set(other[3:6])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/cat.png", "data: URL"),
        ("data:image/png;base64,", "no PNG"),
        ("data:image/png;base64,%%%%", "no PNG"),
        ("data:image/png;base64," + "QUJD" * 20, "no PNG"),
        ("data:image/png;base64," + b64encode(PNG_START + struct.pack(">II", 0, 9)).decode(), "0 tokens"),
        ("data:image/png;base64," + b64encode(PNG_START + struct.pack(">II", 2**31, 9)).decode(), "at most"),
        (5, "data: URL"),
    ],
)
def test_what_is_no_image_is_refused(url, says):
    """Links to elsewhere and data that is no PNG are the client's error."""
    with pytest.raises(RefusedError, match=says) as refused:
        ask(api="chat", messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    assert refused.value.status == 400


def test_ignore_eos_gives_the_length_asked_for():
    """With ignore_eos the reply has max_tokens tokens and ends for length, for completions and chat."""
    for fields in ({"prompt": "x"}, {"api": "chat", "messages": [{"role": "user", "content": "x"}]}):
        reply = ask(max_tokens=900, ignore_eos=True, **fields)
        assert (reply.output_tokens, reply.finish_reason) == (900, "length")
    chat = ask(api="chat", messages=[{"role": "user", "content": "x"}], max_completion_tokens=7, ignore_eos=True)
    assert chat.output_tokens == 7
    assert ask(prompt="x", ignore_eos=True).output_tokens == 16


def test_without_ignore_eos_a_reply_ends_where_it_would():
    """Some replies stop before max_tokens, never below min_tokens, the same each time for the same body."""
    replies = [ask(prompt=f"x{k}", max_tokens=500, min_tokens=20) for k in range(50)]
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    assert all(20 <= reply.output_tokens <= 500 for reply in replies)
    assert all(reply.output_tokens == 500 for reply in replies if reply.finish_reason == "length")
    assert replies[0] == ask(prompt="x0", max_tokens=500, min_tokens=20)


def test_prompt_and_reply_that_do_not_fit_together_give_a_shorter_reply():
    """As vLLM does, silently: the reply takes what the context leaves."""
    reply = ask(prompt=[1] * 990, max_tokens=50, ignore_eos=True)
    assert (reply.output_tokens, reply.finish_reason) == (10, "length")


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"prompt": [1, 4096]}, 400, "out of vocabulary"),
        ({"prompt": [1, -1]}, 400, "out of vocabulary"),
        ({"prompt": [True, False]}, 400, "token ids"),
        ({"prompt": [1.5]}, 400, "token ids"),
        ({"prompt": []}, 400, "not empty"),
        ({"prompt": "  "}, 400, "not empty"),
        ({"prompt": ["a", "b"]}, 400, "one text"),
        ({}, 400, "not empty"),
        ({"prompt": [1] * 1000}, 400, "maximum context length is 1000"),
        ({"prompt": "x", "max_tokens": 0}, 400, "at least 1"),
        ({"prompt": "x", "max_tokens": "9"}, 400, "an integer"),
        ({"prompt": "x", "max_tokens": True}, 400, "an integer"),
        ({"prompt": "x", "priority": 1.5}, 400, "an integer"),
        ({"prompt": "x", "n": 2}, 400, "one choice"),
        ({"prompt": "x", "stream_options": 7}, 400, "stream_options"),
        ({"prompt": "x", "model": "other"}, 404, "does not exist"),
        ({"api": "chat", "messages": []}, 400, "not empty"),
        ({"api": "chat", "messages": ["x"]}, 400, "a role"),
        ({"api": "chat", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "data: URL"),
        ({"api": "chat", "messages": [{"role": "user", "content": 5}]}, 400, "text and images"),
    ],
)
def test_what_cannot_be_served_is_refused(fields, status, says):
    """Each bad body has its status and a text that names the trouble."""
    with pytest.raises(RefusedError, match=says) as refused:
        ask(**fields)
    assert refused.value.status == status


@given(body=st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["prompt", "messages", "max_tokens", "stream_options", "role", "content", "n"]), inner),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode()), api=st.sampled_from(get_args(Api)))  # fmt: skip
def test_any_body_is_accepted_or_refused(body, api):
    """No body raises anything but a refusal."""
    with suppress(RefusedError):
        reply = parse(body, LIMITS, api)
        assert 1 <= reply.output_tokens <= LIMITS.max_model_len - len(reply.prompt)


def test_blocks_are_equal_only_after_equal_beginnings_and_salts():
    """A chain hash covers all tokens before, and the salt; partial blocks have none."""
    a, b = block_hashes([1, 2, 3, 4, 5], 2, None), block_hashes([9, 2, 3, 4], 2, None)
    assert len(a) == 2
    assert a == block_hashes([1, 2, 3, 4], 2, None)
    assert set(a).isdisjoint(b)
    assert set(a).isdisjoint(block_hashes([1, 2, 3, 4, 5], 2, "salt"))


@given(vocab=st.integers(256, 300_000), start=st.integers(0, 2**32))
def test_replies_are_made_of_ids_of_the_vocabulary_in_equal_width(vocab, start):
    """Every reply id is below the vocabulary's size and has as many digits as any other."""
    words = Vocabulary.below(vocab)
    ids = words.tokens(start, 300, ids=True)
    assert max(ids) < vocab
    assert len({len(token) for token in words.ids}) == 1
    # Sent back as text, a reply is the same tokens again.
    assert split_text(" " + " ".join(words.tokens(start, 300, ids=False))) == words.tokens(start, 300, ids=False)
