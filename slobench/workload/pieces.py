"""The pieces that prompts are made of: token ids or words, as they stand in a JSON value."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slobench.workload.variates import IntArray

# Most tokenizers make one token of each of these with the space before it; none needs an escape in JSON.
WORDS = tuple(
    """
    able above across act add after again age ago air all almost alone along also always am among an and animal answer
    any area arm art as ask at away baby back bad ball bank base be bear beat bed been before began behind being below
    best better between big bird bit black blood blue board boat body book born both bottom box boy bread break bring
    brother brown build built business but buy by call came can car care carry case catch cause cell cent center chair
    chance change check child church circle city class clean clear close cloth cloud coast cold color come common cook
    cool copy corn corner cost could count country course cover cross cry cut dance dark day dead deal dear death deep
    did die do doctor does dog dollar done door down draw dream dress drink drive drop dry during each ear early earth
    east easy eat edge effect egg eight either else end engine enough enter even evening event ever every eye face fact
    fair fall family far farm fast fat father fear feed feel feet felt few field fight fill final find fine finger fire
    first fish fit five flat floor flow fly follow food foot for force form forward found four free fresh friend from
    front fruit full fun game garden gas gave get girl give glad glass go gold gone good got govern grand grass gray
    great green grew ground group grow guess gun had hair half hand happy hard has hat have he head hear heard heart
    heat heavy help her here high hill him his history hit hold hole home hope horse hot hour house how huge human
    hundred hunt hurry ice idea if in inch into iron is island it job join jump just keep kept key kill kind king knew
    know lady lake land large last late laugh law lay lead learn least leave left leg less let letter level lie life
    lift light like line list listen little live long look lost lot loud love low machine made main make man many map
    mark market mass master matter may me mean meat meet men metal method middle might mile milk mind mine minute miss
    money month moon more morning most mother motion mountain mouth move much music must my name nation near neck need
    never new next night nine no noise noon nor north nose note nothing notice now number object ocean of off office
    often oil old on once one only open or order other our out over own page pain paint pair paper part party pass past
    path pay people perhaps period person phrase picture piece place plain plan plane plant play please point poor
    port pose possible post pound power press pretty print problem process produce proper protect prove provide pull
    push put question quick quiet quite race radio rail rain raise ran range rate rather reach read ready real reason
    record red region remember repeat reply rest result rich ride right ring rise river road rock roll room root rope
    rose round row rule run safe said sail salt same sand sat save saw say scale school science sea season seat second
    section see seed seem segment select self sell send sense sent serve set seven several shall shape share sharp she
    sheet ship shoe shop short should shoulder shout show side sight sign silent silver similar simple since sing
    single sister sit six size skill skin sky sleep slip slow small smell smile snow so soft soil soldier solution
    some son song soon sound south space speak special speech speed spell spend spoke spot spread spring square stand
    star start state station stay steam steel step stick still stone stood stop store story straight strange stream
    street string strong student study such sudden sugar suggest suit summer sun supply support sure surface surprise
    swim system table tail take talk tall teach team teeth tell ten term test than thank that the their them then
    there these they thick thin thing think third this those though thought thousand three through throw thus tie time
    tiny tire to together told tone too took tool top total touch toward town track trade train travel tree triangle
    trip trouble truck true try tube turn twenty two type under unit until up us use usual valley value various very
    view village visit voice wait walk wall want war warm was wash watch water wave way we wear weather week weight well
    went were west what wheel when where whether which while white who whole whose why wide wife wild will win wind
    window wing winter wire wish with without woman women wonder wood word work world would write wrong yard year
    yellow yes yet you young your
    """.split()  # noqa: SIM905 (792 quoted words would be eight times the lines)
)


@dataclass(frozen=True)
class Alphabet:
    """Pieces that digits of any number can be written in.

    open, separator, close: what stands before, between and after the pieces of a prompt. words: the pieces; none where
    they are the ids from `low` on. base: how many there are.
    """

    open: bytes
    separator: bytes
    close: bytes
    base: int
    low: int = 0
    words: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, token_ids: tuple[int, int] | None) -> Alphabet:
        """Ids of the range [low, high), or words where there is none."""
        if token_ids is None:
            return cls(b'"', b" ", b'"', len(WORDS), words=tuple(word.encode() for word in WORDS))
        return cls(b"[", b",", b"]", token_ids[1] - token_ids[0], low=token_ids[0])

    @cached_property
    def digits(self) -> int:
        """Pieces that hold any 64-bit number."""
        return math.ceil(64 / math.log2(self.base))

    def render(self, digits: Sequence[int]) -> list[bytes]:
        """Write digits as pieces."""
        if self.words:
            return [self.words[digit] for digit in digits]
        return [b"%d" % (self.low + digit) for digit in digits]

    def written(self, number: int, k: int) -> list[bytes]:
        """Write the last k digits of a number as pieces, the fastest first."""
        digits = []
        for _ in range(k):
            number, digit = divmod(number, self.base)
            digits.append(digit)
        return self.render(digits)


class Filler:
    """Rendered pieces, of which any run can be taken without looking at them.

    text: the pieces, with the separator after each. ends: where each ends with its separator.
    """

    def __init__(self, text: bytes, separator: bytes, ends: IntArray) -> None:
        self.size = len(ends)
        self._separator = separator
        self._text = memoryview(text)
        # Unboxed: a corpus has millions of words.
        self._starts = array("q", np.concatenate([np.zeros(1, np.int64), ends]).astype(np.int64).tobytes())

    @classmethod
    def of_pieces(cls, pieces: list[bytes], separator: bytes) -> Filler:
        """Join pieces."""
        ends = np.cumsum([len(piece) + len(separator) for piece in pieces])
        return cls(separator.join(pieces) + separator, separator, ends)

    @classmethod
    def of_text(cls, text: bytes, separator: bytes) -> Filler:
        """Split a text at a separator of one byte."""
        text += separator
        return cls(text, separator, np.flatnonzero(np.frombuffer(text, np.uint8) == separator[0]) + 1)

    def slices(self, start: int, n: int) -> list[bytes | memoryview]:
        """Return views of n pieces from `start` on, round and round; the last separator is a part of its own."""
        if n == 0:
            return []
        views: list[bytes | memoryview] = []
        while n > 0:
            end = min(start + n, self.size)
            views.append(self._text[self._starts[start] : self._starts[end]])
            n -= end - start
            start = 0
        views[-1] = views[-1][: -len(self._separator)]
        return [*views, self._separator]
