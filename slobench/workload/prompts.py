"""Prompts of exact length that no server has met before, made at the speed of a memory copy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from slobench.errors import ConfigError
from slobench.workload.mixing import mixed, mixed_array
from slobench.workload.variates import IntArray, child, raw

_PERIOD = 1 << 16  # pieces after which the filler repeats; no cache of prefixes can tell
_STRIDE = (1 << 61) - 1  # prime, so that it has no factor in common with any number of pieces

# Most tokenizers make one token of each of these with the space before it; none needs an escape in JSON.
_WORDS = tuple(
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


class PromptMaker:
    """The prompts of one run, as JSON values: an array of token ids, or text with about a token a word.

    A prompt of n tokens is n pieces (ids from [low, high), or words). Unless its class shares a prefix it begins with
    a salt: first the request's index, in digits whose order the nonce and the seed decide and of which the fastest
    comes first, so that neighbours differ from their first token on; then the nonce itself. Both fit in 16 pieces,
    the size of a vLLM cache block. So prompts of one run differ from each other, and runs from each other, in their
    first block; a prompt shorter than the salt repeats none before all prompts of its length have been used.
    The filler after it comes from the seed, beginning at a place that the prompt's own reference decides.

    With a shared prefix the class's prefix (with a salt of its own, the nonce in it) comes first, then the request's
    salt. The prefix gives way where the length leaves no room for the index.
    """

    def __init__(
        self,
        *,
        seed: int,
        nonce: str,
        token_ids: tuple[int, int] | None,
        class_names: Sequence[str],
        shared_prefix_tokens: Mapping[str, int],
    ) -> None:
        if len(nonce) != 16 or not set(nonce) <= set("0123456789abcdef"):
            raise ConfigError(f"cannot use nonce {nonce!r}\n  expected  16 hexadecimal digits")
        rng = child(seed, "prompts")
        if token_ids is None:
            self._open, self._separator, self._close = b'"', b" ", b'"'
            self._base, pieces = len(_WORDS), [word.encode() for word in _WORDS]
        else:
            self._open, self._separator, self._close = b"[", b",", b"]"
            self._base, pieces = token_ids[1] - token_ids[0], []
        self._low, self._pieces = (token_ids or (0, 0))[0], pieces
        self._digits = math.ceil(64 / math.log2(self._base))
        self._moduli = [self._base**k for k in range(self._digits + 1)]
        # A permutation of the nonces that the seed picks: two nonces never meet, and no bit of the nonce is lost.
        number = mixed(int(nonce, 16) ^ int(raw(1, rng)[0]))
        self._shift = mixed(number + 1) | mixed(number + 2) << 64
        self._nonce = self._render(_digits_of(number, self._digits, self._base))
        self._filler = _Filler(self._render_array(rng), self._separator)
        self._keys = [_prompt_key(seed, name, shared_prefix_tokens.get(name, 0)) for name in class_names]
        self._prefixes = [
            self._prefix(code, shared_prefix_tokens.get(name, 0)) for code, name in enumerate(class_names)
        ]

    def json(self, index: int, class_code: int, n_tokens: int) -> bytes:
        """Make the prompt of one request: a JSON value of exactly `n_tokens` pieces."""
        parts: list[bytes | memoryview] = [self._open]
        left = n_tokens
        prefix = self._prefixes[class_code]
        if prefix is not None:
            shared = min(prefix.size, max(0, n_tokens - self._digits))
            parts += prefix.slices(0, shared)
            left -= shared
        self._add_unique(parts, index, mixed(index + self._keys[class_code]), left)
        parts[-1] = self._close  # in the place of the last separator
        return b"".join(parts)

    def _add_unique(self, parts: list[bytes | memoryview], index: int, place: int, n: int) -> None:
        """Append n pieces, each followed by a separator as a part of its own at the end."""
        salt = self._salt(index, n)
        take = min(max(0, n - len(salt)), self._digits)
        pieces = salt + self._nonce[:take]
        rest = n - len(pieces)
        parts += (self._separator.join(pieces), self._separator)
        if rest:
            parts += self._filler.slices(place % _PERIOD, rest)

    def _salt(self, index: int, n: int) -> list[bytes]:
        k = min(n, self._digits)
        number = (index * _STRIDE + self._shift) % self._moduli[k]
        return self._render(_digits_of(number, k, self._base))

    def _render(self, digits: Sequence[int]) -> list[bytes]:
        if self._pieces:
            return [self._pieces[digit] for digit in digits]
        return [b"%d" % (self._low + digit) for digit in digits]

    def _render_array(self, rng: np.random.Generator) -> list[bytes]:
        return self._render((raw(_PERIOD, rng) % np.uint64(self._base)).tolist())

    def _prefix(self, code: int, n: int) -> _Filler | None:
        if n == 0:
            return None
        parts: list[bytes | memoryview] = []
        # Negative: no request has this index.
        self._add_unique(parts, -1 - code, mixed(self._keys[code]), n)
        return _Filler(b"".join(parts[:-1]).split(self._separator), self._separator)


class _Filler:
    """Rendered pieces, of which any run can be taken without looking at them."""

    def __init__(self, pieces: list[bytes], separator: bytes) -> None:
        self.size = len(pieces)
        self._separator = separator
        self._text = memoryview(separator.join(pieces) + separator)
        starts = np.zeros(len(pieces) + 1, dtype=np.int64)
        np.cumsum([len(piece) + len(separator) for piece in pieces], out=starts[1:])
        self._starts = starts.tolist()

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


def prompt_refs(rows: IntArray, *, seed: int, name: str, shared_prefix_tokens: int) -> IntArray:
    """Name the prompts of one class by plan index: all different, and of another seed all others."""
    key = _prompt_key(seed, name, shared_prefix_tokens)
    return mixed_array(rows, key)


def _prompt_key(seed: int, name: str, shared_prefix_tokens: int) -> int:
    return int(raw(1, child(seed, f"prompts/{shared_prefix_tokens}", name))[0])


def _digits_of(number: int, k: int, base: int) -> list[int]:
    digits = []
    for _ in range(k):
        number, digit = divmod(number, base)
        digits.append(digit)
    return digits
