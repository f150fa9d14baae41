"""Prompts from a text: its words in order, as long as asked, and no two alike."""

import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.workload import corpus
from slobench.workload.corpus import words_of
from slobench.workload.prompts import PromptMaker

few = settings(deadline=None, max_examples=30)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=300)


def maker(path, *, nonce="0123456789abcdef", token_ids=None):
    """Make the prompts of two classes, of which the first has a text."""
    return PromptMaker(
        seed=1,
        nonce=nonce,
        token_ids=token_ids,
        class_names=("a", "b"),
        shared_prefix_tokens={},
        texts={"a": str(path)},
    )


def words(prompt):
    """The words of a prompt."""
    return json.loads(prompt).split(" ")


def file_of(folder, text, name="text.txt"):
    """A file with a text."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@few
@given(text=TEXT, n=st.integers(1, 400), part=st.integers(0, 60))
def test_a_prompt_has_as_many_words_as_asked(tmp_path_factory, text, n, part):
    """Whatever the text: a prompt is JSON with exactly n words, in the order in which they stand in the text."""
    path = file_of(tmp_path_factory.mktemp("text"), text)
    known = text.removeprefix("\ufeff").split()
    if not known or sum(map(len, known)) / len(known) > 24:
        with pytest.raises(ConfigError, match="expected"):
            maker(path)
        return
    made = words(maker(path).json(7, 0, n, [(5, part)] if part else []))
    assert len(made) == n
    filler = made[max(part, 0) + 14 :]  # behind the salt
    assert not filler or any((known * (2 + n // len(known)))[i : i + len(filler)] == filler for i in range(len(known)))


def test_no_two_prompts_of_a_tiny_text_are_the_same(tmp_path):
    """A text of two words is repeated, and prompts still differ in their first word, and runs in their first block."""
    path = file_of(tmp_path, "to be\n")
    made = maker(path)
    prompts = [made.json(index, 0, 40) for index in range(2000)]
    assert len({tuple(words(prompt)[:14]) for prompt in prompts}) == 2000
    assert all(words(one)[0] != words(two)[0] for one, two in pairwise(prompts))
    again = maker(path, nonce="0123456789abcdee")
    assert not {prompt[:60] for prompt in prompts} & {again.json(index, 0, 40)[:60] for index in range(2000)}
    assert words(prompts[0])[16:] in (["to", "be"] * 12, ["be", "to"] * 12)


def test_prompts_begin_at_places_of_their_own(tmp_path):
    """Neighbours come from other places of the text."""
    path = file_of(tmp_path, " ".join(f"w{k}" for k in range(50_000)))
    made = maker(path)
    places = [int(words(made.json(index, 0, 30))[20][1:]) for index in range(200)]
    assert len(set(places)) > 190
    assert max(places) - min(places) > 40_000


def test_only_the_class_with_a_text_has_it(tmp_path):
    """The other class, and prompts of token ids, are as without a text."""
    path = file_of(tmp_path, 'Straße «naïve» "quoted" back\\slash 東京 bell\x07 end')
    made = maker(path)
    assert "Straße" in json.loads(made.json(3, 0, 40))
    plain = PromptMaker(
        seed=1, nonce="0123456789abcdef", token_ids=None, class_names=("a", "b"), shared_prefix_tokens={}
    )
    assert made.json(3, 1, 40) == plain.json(3, 1, 40)
    assert all(0 <= token < 999 for token in json.loads(maker(path, token_ids=(0, 999)).json(3, 0, 40)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "is empty"),
        (b" \n\t\xe3\x80\x80 ", "is empty"),
        (b"\x7fELF\0\0\1", "NUL bytes"),
        (b"caf\xe9 au lait", "no text in UTF-8: byte 3 is 0xe9"),
        ("これは空白のない日本語の文章です。" * 20, "letters on average"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, text, told):
    """Empty, binary and other encodings are errors that name the file."""
    path = file_of(tmp_path, text)
    with pytest.raises(ConfigError, match=told) as told_of:
        maker(path)
    assert str(path) in str(told_of.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """A missing file and a folder are errors."""
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(ConfigError, match="cannot read"):
            maker(path)


def test_a_long_file_is_cut_after_a_word(tmp_path, monkeypatch):
    """Only the beginning is read, and no character is cut in two."""
    monkeypatch.setattr(corpus, "MOST_BYTES", 1000)
    path = file_of(tmp_path, "größer " * 1000)
    assert set(words(maker(path).json(0, 0, 400))[14:]) == {"größer"}


def test_memory_is_bounded(tmp_path, monkeypatch):
    """A text takes a few times its bytes while it is read, whatever its number of words."""
    monkeypatch.setattr(corpus, "MOST_BYTES", 2**20)
    path = file_of(tmp_path, b"a b\n" * 2**20)
    tracemalloc.start()
    found = words_of(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.words == found.filler.size == 2**19
    assert most < 24 * 2**20
