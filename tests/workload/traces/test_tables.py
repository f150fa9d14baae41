"""CSV traces: what the documented columns mean, and that a hostile file ends in one error with its line."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slobench.errors import ConfigError
from slobench.names import NULL
from slobench.workload.traces.read import read_trace
from tests.workload.traces.writing import AZURE, BURSTGPT_1, BURSTGPT_3, SPLITWISE, VIDUR, VIDUR_TIMED, put


def rows(path: Path, *names: str, **options: object) -> list[list[int]]:
    trace = read_trace(path, **options)
    return [trace.numbers(name).tolist() for name in names]


def test_azure_times_are_read_to_the_tick(tmp_path: Path) -> None:
    """7 digits of a second are 100 ns each; the first row is at 0."""
    path = put(tmp_path / "azure.csv", AZURE)
    assert rows(path, "arrival_ns", "input_tokens", "output_tokens") == [
        [0, 4_314_579_000, 4_541_977_000, 4_541_977_100],
        [374, 396, 879, 91],
        [44, 109, 55, 16],
    ]
    trace = read_trace(path)
    assert (trace.format, trace.bin_ns, trace.timed) == ("azure", 0, True)
    assert not trace.numbers("failed").any()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n",
        lambda text: text + "\n\n\n",
        lambda text: "\ufeff" + text,
        lambda text: "\n" + text,
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("374", "374.0"),
        lambda text: text.replace("2023-11-16 ", "2023-11-16T"),
        lambda text: "".join(line + ("Z\n" if i else "\n") for i, line in enumerate(_stamped(text))),
        lambda text: text.replace("TIMESTAMP,ContextTokens,GeneratedTokens\n", "TIMESTAMP,ContextTokens,GeneratedTokens,x\n")
        .replace(",44", ",44,9").replace(",109", ",109,").replace(",55", ",55,a").replace(",16", ",16,b"),
    ],
    ids=["crlf", "newline", "blank-lines", "bom", "blank-first", "spaces", "whole-floats", "iso-t", "zone", "more"],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_harmless_variants_read_alike(tmp_path: Path, change, packed) -> None:
    """Line ends, byte order marks, gzip, zones in every row and columns not asked for change nothing."""
    wanted = read_trace(put(tmp_path / "azure.csv", AZURE))
    trace = read_trace(put(tmp_path / "other.csv", change(AZURE), packed=packed))
    assert trace.table.equals(wanted.table)


def _stamped(text: str) -> list[str]:
    """Lines whose time ends the line's first field, put last so that a zone can follow it."""
    head, *lines = text.splitlines()
    names = head.split(",")
    return [",".join([*names[1:], names[0]]), *(",".join([*line.split(",")[1:], line.split(",")[0]]) for line in lines)]


def test_unsorted_rows_come_in_order_of_arrival(tmp_path: Path) -> None:
    """Rows of a shuffled file stand by time; at equal times by their place in the file."""
    head, *lines = AZURE.splitlines()
    lines.append("2023-11-16 18:15:46.6805900,1,1")
    shuffled = put(tmp_path / "s.csv", "\n".join([head, *reversed(lines)]))
    assert rows(shuffled, "arrival_ns", "input_tokens") == [
        [0, 0, 4_314_579_000, 4_541_977_000, 4_541_977_100],
        [1, 374, 396, 879, 91],
    ]


def test_a_header_in_the_middle_is_no_row(tmp_path: Path) -> None:
    """Files put together with `cat` keep their headers; they are passed over, and lines still count."""
    head, *lines = AZURE.splitlines()
    path = put(tmp_path / "two.csv", "\n".join([head, *lines, head, *lines]))
    assert len(read_trace(path)) == 8
    bad = put(tmp_path / "bad.csv", "\n".join([head, *lines, head, *lines[:3], lines[3].replace("91", "-91")]))
    with pytest.raises(ConfigError, match=r"bad\.csv:10: ContextTokens is '-91'"):
        read_trace(bad)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("374", "", r"a\.csv:2: ContextTokens is ''"),
        ("374", "NaN", r"a\.csv:2: ContextTokens is 'NaN'"),
        ("396", "-396", r"a\.csv:3: ContextTokens is '-396'"),
        ("396", "39.6", r"a\.csv:3: ContextTokens is '39\.6'"),
        ("396", "inf", r"a\.csv:3: ContextTokens is 'inf'"),
        ("396", "1e300", r"a\.csv:3: ContextTokens is '1e300'"),
        ("396", "4OO", r"a\.csv:3: ContextTokens is '4OO'"),
        ("396", "1_000", r"a\.csv:3: ContextTokens is '1_000'"),
        (",16", "", r"a\.csv:5: 2 values in this line"),
        (",44", ",44,1", r"a\.csv:2: 4 values in this line"),
        ("18:15:50.9951690", "18:65:50", r"a\.csv:3: TIMESTAMP is '2023-11-16 18:65:50'"),
        ("18:15:50.9951690", "18:15:50Z", r"a\.csv:3: TIMESTAMP is '2023-11-16 18:15:50Z'"),
        ("2023-11-16 18:15:50.9951690", "", r"a\.csv:3: TIMESTAMP is ''"),
        ("2023-11-16 18:15:50.9951690", "2023", r"a\.csv:3: TIMESTAMP is '2023'"),
        ("GeneratedTokens", "ContextTokens", r"a\.csv:1: column 'ContextTokens' is there twice"),
        ("GeneratedTokens", "Generated", r"a\.csv:1: no column GeneratedTokens"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    """One error, with the line and the value, and what was expected."""
    path = put(tmp_path / "a.csv", AZURE.replace(old, new, 1) + "\n")
    with pytest.raises(ConfigError, match=told) as error:
        read_trace(path, "azure")
    assert "\n  expected  " in str(error.value)


def test_lines_count_blank_ones(tmp_path: Path) -> None:
    """The line told is that of the file, with the blank lines before it."""
    path = put(tmp_path / "a.csv", "\n\n" + AZURE.replace("\n", "\n\n").replace("91,16", "91,x"))
    with pytest.raises(ConfigError, match=r"a\.csv:11: GeneratedTokens is 'x'"):
        read_trace(path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no known trace format"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n", "a header and no rows"),
        (AZURE.encode().replace(b"374", b"3\xff4"), "not UTF-8 text"),
        (AZURE.encode("utf-16"), "no known trace format"),
        (bytes(range(256)) * 100, "no known trace format"),
    ],
)
def test_no_text_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    """Empty files, headers alone and bytes that are no text end in an error of one sentence."""
    with pytest.raises(ConfigError, match=told):
        read_trace(put(tmp_path / "a.csv", data))


def test_half_a_gzip_file_is_refused(tmp_path: Path) -> None:
    """A download that was cut off is told as such, and not read as a shorter trace."""
    whole = put(tmp_path / "a.csv.gz", AZURE * 200, packed=True).read_bytes()
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        read_trace(put(tmp_path / "b.csv.gz", whole[: len(whole) // 2]), "azure")


@given(data=st.binary(max_size=400))
def test_no_bytes_make_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever follows the header: a trace, or a ConfigError."""
    path = put(tmp_path_factory.getbasetemp() / "fuzz.csv", AZURE.encode() + b"\n" + data)
    with suppress(ConfigError):
        assert len(read_trace(path, "azure")) >= 4


def test_images_of_2025(tmp_path: Path) -> None:
    """The multimodal trace has NumImages behind TIMESTAMP."""
    text = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15 11:00:00.1,2,1500,8\n2024-10-15 11:00:01,0,12,9\n"
    assert rows(put(tmp_path / "m.csv", text), "arrival_ns", "images", "input_tokens") == [
        [0, 900_000_000],
        [2, 0],
        [1500, 12],
    ]


def test_burstgpt_1(tmp_path: Path) -> None:
    """Whole seconds are bins; 0 tokens of response are a failure; the label is model and log type."""
    trace = read_trace(put(tmp_path / "b.csv", BURSTGPT_1))
    assert trace.numbers("arrival_ns").tolist() == [0, 40 * 10**9, 40 * 10**9, 113 * 10**9]
    assert trace.numbers("failed").tolist() == [0, 0, 1, 0]
    assert trace.table["class"].to_pylist()[1:3] == ["GPT-4/Conversation log", "ChatGPT/API log"]
    assert (trace.format, trace.bin_ns) == ("burstgpt", 10**9)
    assert not trace.has("session")


def test_burstgpt_3(tmp_path: Path) -> None:
    """Sessions have turns in their order; an empty session or elapsed time is nothing, and 0 s is 0 s."""
    trace = read_trace(put(tmp_path / "b.csv", BURSTGPT_3))
    assert trace.numbers("session").tolist() == [0, 1, NULL, 0]
    assert trace.numbers("turn").tolist() == [0, 0, NULL, 1]
    assert trace.numbers("elapsed_ns").tolist() == [43 * 10**9, 2 * 10**9, 0, NULL]
    assert trace.history == "cumulative"


def test_vidur_with_and_without_times(tmp_path: Path) -> None:
    """Lengths alone are no times of arrival."""
    bare, timed = read_trace(put(tmp_path / "v.csv", VIDUR)), read_trace(put(tmp_path / "t.csv", VIDUR_TIMED))
    assert (bare.timed, timed.timed) == (False, True)
    assert "no arrival times" in bare.notes[0]
    assert bare.numbers("input_tokens").tolist() == timed.numbers("input_tokens").tolist() == [1450, 99]
    assert timed.numbers("arrival_ns").tolist() == [0, 1_500_000_000]


def test_splitwise(tmp_path: Path) -> None:
    """Prompt and token sizes, at seconds."""
    path = put(tmp_path / "s.csv", SPLITWISE)
    assert rows(path, "arrival_ns", "input_tokens", "output_tokens") == [[0, 5 * 10**8], [512, 1024], [31, 7]]
    assert read_trace(path).format == "splitwise"
