"""Tokens of formulas, with the signs of keyboards, word processors and publications read as one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from aerotask.domain.errors import InvalidInput

MAX_CHARS = 512
QUOTES = {'"': '"', "“": "”", "„": "“", "”": "”"}
"""Opening quotation marks, each with the one that closes it."""

TokenKind = Literal["number", "name", "quoted", "sign", "end"]

# Signs that stand for others.
_MEANT = {
    "−": "-",  # minus sign, U+2212
    "–": "-",
    "‐": "-",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∙": "*",
    "∗": "*",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "**": "^",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "<>": "!=",
    "[": "(",
    "]": ")",
}
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:@[0-9]+)?)"
    r'|"(?P<quoted>[^"]+)"|“(?P<curled>[^”"]+)”|„(?P<low>[^“"]+)“|”(?P<right>[^”"]+)”'
    r"|(?P<sign>\*\*|<=|>=|==|!=|<>|[-+*/^()<>=,²³\[\]−–‐×·⋅∙∗÷∕⁄≤≥≠])"
)
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class FormulaToken:
    """One number, name or sign: what it means, as written, and where it begins (from 0)."""

    kind: TokenKind
    text: str
    written: str
    start: int

    @property
    def sign(self) -> str:
        """The sign, or an empty string for a token of another kind."""
        return self.text if self.kind == "sign" else ""


def tokenize(text: str) -> list[FormulaToken]:
    """The tokens of a formula, the last of kind `end`.

    Raises:
        InvalidInput: the text is too long or has a character that no formula has (`invalid-formula`).
    """
    if len(text) > MAX_CHARS:
        raise invalid(f"it is longer than {MAX_CHARS} characters")
    tokens: list[FormulaToken] = []
    position = _skip_spaces(text, 0)
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _not_allowed(text, position)
        tokens.extend(_tokens_of(found))
        position = _skip_spaces(text, found.end())
    return [*tokens, FormulaToken("end", "", "", len(text))]


def invalid(fault: str) -> InvalidInput:
    """The error for a text that is no formula."""
    return InvalidInput(
        f"The formula can't be read: {fault}. Write arithmetic over bands, such as '(N-R)/(N+R)' or 'b4/b1'.",
        code="invalid-formula",
    )


def _tokens_of(found: re.Match[str]) -> list[FormulaToken]:
    kind, written, start = str(found.lastgroup), found[0], found.start()
    if kind in {"number", "name"}:
        return [FormulaToken("number" if kind == "number" else "name", written, written, start)]
    if kind != "sign":
        return [FormulaToken("quoted", found[kind].strip(), written, start)]
    if written in "²³":
        power = FormulaToken("sign", "^", written, start)
        return [power, FormulaToken("number", "2" if written == "²" else "3", written, start)]
    return [FormulaToken("sign", _MEANT.get(written, written), written, start)]


def _skip_spaces(text: str, position: int) -> int:
    spaces = _SPACE.match(text, position)
    return spaces.end() if spaces else position


def _not_allowed(text: str, position: int) -> InvalidInput:
    character = text[position]
    if character in QUOTES:
        return invalid(f"the quotation mark at character {position + 1} is not closed")
    shown = f"'{character}'" if character.isprintable() else f"U+{ord(character):04X}"
    hints = {
        "%": "; write '/100' for a percentage",
        "&": "; multiply conditions instead: '(N>0.2)*(R<0.1)'",
        "|": "; write max(…, …) for one condition or the other",
        "!": "; '!=' compares, and '1-(…)' reverses a condition",
        "?": "; write where(condition, then, otherwise)",
        ":": "; write '/' to divide",
        ".": "; a decimal point stands beside a digit",
        "{": "; write '('",
        "}": "; write ')'",
        "√": "; write sqrt(…)",
        "'": '; write names in " marks',
        "@": '; a band of a file is written "file@4", or b4',
    }
    return invalid(f"{shown} is not allowed at character {position + 1}{hints.get(character, '')}")
