import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from aerotask.domain.text_cleaning import MAX_LINE_CHARS, clean_json, clean_line

BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_escape_sequences_and_line_ends_become_spaces() -> None:
    assert clean_line("\x1b[31mred\r\nnext\x07") == " [31mred  next "


def test_bidirectional_controls_become_spaces() -> None:
    assert clean_line("wrote \u202egpj.exe") == "wrote  gpj.exe"
    controls = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    assert len(controls) == 9
    assert [clean_line(chr(code)) for code in controls] == [" "] * 9


def test_arabic_and_hebrew_with_their_marks_stay() -> None:
    text = "صورة\u200f 12 תצלום\u200e"
    assert clean_line(text) == text


@given(st.characters())
def test_exactly_controls_and_surrogates_and_bidirectional_controls_go(char: str) -> None:
    is_bidirectional = unicodedata.bidirectional(char) in BIDIRECTIONAL
    goes = char != "\t" and (unicodedata.category(char) in {"Cc", "Cs"} or is_bidirectional)
    assert clean_line(char) == (" " if goes else char)


def test_tabs_and_emoji_stay() -> None:
    assert clean_line("a\tb 🚁") == "a\tb 🚁"


def test_a_long_line_is_cut() -> None:
    cut = clean_line("x" * 10_000)
    assert len(cut) == MAX_LINE_CHARS
    assert cut.endswith("…")


def test_json_loses_what_postgres_cannot_store() -> None:
    assert clean_json({"a\0": ["b\0c", float("nan"), float("inf"), "\ud800d"], "n": 1.5}) == {
        "a": ["bc", None, None, "d"],
        "n": 1.5,
    }


@given(st.text())
def test_a_clean_line_is_always_encodable_and_one_line(text: str) -> None:
    clean = clean_line(text)
    clean.encode()
    assert "\n" not in clean
    assert "\x1b" not in clean
