"""Encodings of member names: before UTF-8, archives had names in the code page of the computer that packed them.

ZIP has a flag for UTF-8 only (PKWARE APPNOTE 6.3.10, appendix D), so an older code page can't be known, but often only
one of them turns the bytes into words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from aerotask.archives import errors
from aerotask.domain.paths import MAX_PATH_BYTES

AUTO: Final = "auto"
NameEncoding = Literal[
    "auto",
    "utf-8",
    "cp437",
    "cp850",
    "cp852",
    "cp866",
    "cp932",
    "cp936",
    "cp949",
    "cp950",
    "cp1250",
    "cp1251",
    "cp1252",
]
"""`auto`, or the encoding of the names that aren't marked as UTF-8."""

_COMMON_SHARE = 0.8
"""Share of the two-byte characters of a plausible name that must be common ones."""
_WORD = re.compile(r"[^\W\d_]+")
# Between small Latin letters, a letter of another script shows that the encoding is wrong.
_ENCLOSED = re.compile(r"[a-z][^\x00-\x7f]+[a-z]")
_JAPANESE_SIGNS = frozenset(b"@ABEQX[`ijuv|")
"""Second bytes of the signs that names have, behind the first byte 0x81: 、。・＿々ー〜（）「」－."""


def _common_japanese(lead: int, trail: int) -> bool:
    """Kana, full-width letters, some signs, and the kanji of level 1 (JIS X 0208)."""
    if lead == 0x81:
        return trail in _JAPANESE_SIGNS
    return lead in {0x82, 0x83} or 0x88 <= lead <= 0x97 or (lead == 0x98 and trail <= 0x72)


def _common_chinese(lead: int, trail: int) -> bool:
    """Punctuation, full-width letters and the characters of level 1 (GB 2312)."""
    return trail >= 0xA1 and (lead in {0xA1, 0xA3} or 0xB0 <= lead <= 0xD7)


def _common_korean(lead: int, trail: int) -> bool:
    """Punctuation and the syllables of KS X 1001."""
    return trail >= 0xA1 and (lead in {0xA1, 0xA3} or 0xB0 <= lead <= 0xC8)


def _common_traditional(lead: int, _trail: int) -> bool:
    """Punctuation and the characters of level 1 (Big5)."""
    return lead == 0xA1 or 0xA4 <= lead <= 0xC6


_TWO_BYTES: Mapping[str, Callable[[int, int], bool]] = {
    "cp932": _common_japanese,
    "cp936": _common_chinese,
    "cp949": _common_korean,
    "cp950": _common_traditional,
}
_LATIN, _CYRILLIC = "LATIN", "CYRILLIC"
_ONE_BYTE: Mapping[str, str] = {
    "cp437": _LATIN,
    "cp850": _LATIN,
    "cp852": _LATIN,
    "cp866": _CYRILLIC,
    "cp1251": _CYRILLIC,
    "cp1252": _LATIN,
    "cp1250": _LATIN,
}
"""The script of each encoding; those of DOS come first, since Windows' Explorer uses them."""


_ENCODINGS = (*_ONE_BYTE, *_TWO_BYTES)
_SAMPLE = 1000
"""Names by which the encoding is guessed."""


@dataclass(slots=True)
class NameDecoder:
    """Decoder of the names of one archive."""

    encoding: NameEncoding
    uncertain: int = 0
    """Number of names that several encodings, or none, turn into words."""
    used: set[str] = field(default_factory=set)
    """Encodings other than UTF-8 that were used."""

    def decode(self, raws: Sequence[bytes], *, last_resort: str) -> list[str]:
        """Names without a mark for UTF-8, all of which have the same encoding: `last_resort` if none is likelier.

        Raises:
            InvalidInput: a name isn't in the encoding that was asked for.
        """
        if self.encoding != AUTO:
            return [self._decode_as(raw, self.encoding) for raw in raws]
        legacy = [raw for raw in raws if not _is_utf_8(raw)]
        if not legacy:
            return [raw.decode() for raw in raws]
        encoding = self._guess(legacy, last_resort)
        decoded = [_forced(raw, encoding) for raw in legacy]
        self.used.add(encoding)
        by_raw = dict(zip(legacy, decoded, strict=True))
        return [by_raw[raw] if raw in by_raw else raw.decode() for raw in raws]

    def _guess(self, legacy: Sequence[bytes], last_resort: str) -> str:
        """The only encoding that turns the names into words, or the likeliest one, which is counted as uncertain."""
        sample = list(dict.fromkeys(raw for raw in legacy if len(raw) <= MAX_PATH_BYTES))[:_SAMPLE]
        # Encodings that give the same names are no doubt.
        candidates = {tuple(names): name for name in _ENCODINGS if (names := _plausible(sample, name))}
        encoding = next(iter(candidates.values()), last_resort)
        if len(candidates) != 1:
            self.uncertain += len(legacy)
        return encoding

    def warnings(self) -> list[str]:
        """A warning if names may have come out wrong."""
        if not self.uncertain:
            return []
        names = "1 name isn't" if self.uncertain == 1 else f"{self.uncertain} names aren't"
        used = ", ".join(sorted(self.used))
        warning = (
            f"{names} in UTF-8, and the bytes don't tell the encoding: read as {used}. If they look wrong, extract again "
            "with nameEncoding, e.g. cp932 (Japanese), cp936 (Chinese), cp866 (Russian), cp1252 (Western European)."
        )
        return [warning]

    def _decode_as(self, raw: bytes, encoding: str) -> str:
        try:
            decoded = raw.decode(encoding)
        except UnicodeDecodeError:
            raise errors.wrong_name_encoding(raw, encoding) from None
        if not raw.isascii() and encoding != "utf-8":
            self.used.add(encoding)
        return decoded


def _is_utf_8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _forced(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _plausible(raws: Iterable[bytes], encoding: str) -> list[str] | None:
    """The names in the encoding, if they then consist of words; else None."""
    try:
        names = [raw.decode(encoding) for raw in raws]
    except UnicodeDecodeError:
        return None
    if script := _ONE_BYTE.get(encoding):
        return names if all(_has_words_of(name, script) for name in names) else None
    common = _TWO_BYTES[encoding]
    characters = [character for name in names for character in name if not character.isascii()]
    coded = [character.encode(encoding) for character in characters]
    known = sum(len(code) == 2 and common(code[0], code[1]) for code in coded)
    is_plausible = known >= _COMMON_SHARE * len(coded) and not any(map(_ENCLOSED.search, names))
    return names if is_plausible else None


def _has_words_of(name: str, script: str) -> bool:
    """Whether the name has no letters of another script, no signs, and no words that nobody writes so."""
    others = [character for character in name if not character.isascii()]
    return all(_is_letter_of(character, script) for character in others) and all(
        _is_word_of(word, script) for word in _WORD.findall(name)
    )


def _is_letter_of(character: str, script: str) -> bool:
    is_letter = unicodedata.category(character) in {"Ll", "Lu"}
    return is_letter and unicodedata.name(character, "").startswith(script)


def _is_word_of(word: str, script: str) -> bool:
    own = [character for character in word if not character.isascii()]
    if not own:
        return True
    # A capital behind a small letter is usual in ASCII only ("IndexFile").
    if any(before.islower() and after.isupper() and not after.isascii() for before, after in pairwise(word)):
        return False
    if script == _CYRILLIC:
        return len(own) == len(word)
    return len(word) <= 2 or 4 * len(own) <= 3 * len(word)
