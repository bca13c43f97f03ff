"""The outermost layer of protobuf's text form: a message is a row of named fields.

Follows https://protobuf.dev/reference/protobuf/textformat-spec/ without extensions and Any.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cvmask.errors import ModelError

_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*)+
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?\s*(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)[fF]?\b|-?\s*0[xX][0-9a-fA-F]+\b)
      | (?P<word>-?[A-Za-z_]\w*)
      | (?P<mark>[{}<>\[\]:;,])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_CLOSING = {"{": "}", "<": ">"}
_MAX_DEPTH = 32


class Word(NamedTuple):
    """A value that is no message: `kind` is string, number or word; a string's text has its quotes off."""

    kind: str
    text: str
    line: int

    def raw(self) -> bytes:
        """The bytes of a string."""
        if self.kind != "string":
            raise ModelError(f"line {self.line}: expected a string in quotes, got {self.text!r}")
        return _ESCAPE.sub(_unescape, self.text.encode("utf-8", "surrogateescape"))

    def integer(self) -> int:
        """The value of a whole number."""
        try:
            return int(self.text, 16 if "x" in self.text.lower() else 10)
        except ValueError:
            raise ModelError(f"line {self.line}: expected a whole number, got {self.text[:40]!r}") from None

    def real(self) -> float:
        """The value of any number, `inf` and `nan` among them."""
        try:
            return float(self.text.rstrip("fF") if self.kind == "number" else self.text)
        except ValueError:
            raise ModelError(f"line {self.line}: expected a number, got {self.text[:40]!r}") from None

    def truth(self) -> bool:
        """The value of `true`, `false`, 1 or 0."""
        known = {"true": True, "t": True, "1": True, "True": True}
        known.update({"false": False, "f": False, "0": False, "False": False})
        if self.text not in known:
            raise ModelError(f"line {self.line}: expected true or false, got {self.text[:40]!r}")
        return known[self.text]


class Message:
    """Fields in the order of the text: (name, value, line)."""

    __slots__ = ("fields", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.fields: list[tuple[str, Word | Message, int]] = []


def parse_fields(text: str) -> Message:
    """The outermost message of a text.

    Raises
    ------
    ModelError
        If the text is not protobuf's text form; the message names the line.
    """
    tokens = _Tokens(text)
    top = Message(1)
    _fill(tokens, top, "", 0)
    return top


class _Tokens:
    """The words of a text, one ahead."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1
        self.kind, self.text, self.line = "", "", 1
        self.advance()

    def advance(self) -> None:
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                sample = self._text[self._at : self._at + 20].split("\n")[0]
                raise ModelError(f"line {self._line}: not the text form of a graph at {sample!r}")
            self.line, self._at = self._line, match.end()
            if match.lastgroup:
                self.kind, self.text = match.lastgroup, match.group()
                return
            self._line += match.group().count("\n")
        self.kind, self.text, self.line = "end", "the end of the file", self._line

    def expected(self, what: str) -> ModelError:
        return ModelError(f"line {self.line}: expected {what}, got {self.text[:40]!r}")

    def take(self, mark: str) -> bool:
        if self.kind != "mark" or self.text != mark:
            return False
        self.advance()
        return True


def _fill(tokens: _Tokens, message: Message, closing: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ModelError(f"line {tokens.line}: messages nested more than {_MAX_DEPTH} deep")
    while not (tokens.kind == "end" and not closing):
        if closing and tokens.take(closing):
            return
        if tokens.kind != "word":
            raise tokens.expected(f"a field name or {closing!r}" if closing else "a field name")
        name, line = tokens.text, tokens.line
        tokens.advance()
        colon = tokens.take(":")
        if tokens.take("["):
            _fill_list(tokens, message, name, depth)
        else:
            message.fields.append((name, _value(tokens, colon, depth), line))
        if not tokens.take(","):
            tokens.take(";")


def _fill_list(tokens: _Tokens, message: Message, name: str, depth: int) -> None:
    while not tokens.take("]"):
        message.fields.append((name, _value(tokens, True, depth), tokens.line))
        if not tokens.take(",") and tokens.text != "]":
            raise tokens.expected("',' or ']'")


def _value(tokens: _Tokens, colon: bool, depth: int) -> Word | Message:
    if tokens.kind == "mark" and tokens.text in _CLOSING:
        closing, inner = _CLOSING[tokens.text], Message(tokens.line)
        tokens.advance()
        _fill(tokens, inner, closing, depth + 1)
        return inner
    if not colon or tokens.kind in ("mark", "end"):
        raise tokens.expected("a value" if colon else "':' or '{'")
    text = tokens.text.replace(" ", "") if tokens.kind == "number" else tokens.text
    word = Word(tokens.kind, text, tokens.line)
    tokens.advance()
    if word.kind != "string":
        return word
    parts = [word.text[1:-1]]
    while tokens.kind == "string":  # neighbours are one string, as in C
        parts.append(tokens.text[1:-1])
        tokens.advance()
    return Word("string", "".join(parts), word.line)


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    if code[:1].isdigit():
        return bytes([int(code, 8) & 0xFF]) if code[0] < 0x38 else code
    if code[:1] in b"xX" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[:1] in b"uU" and len(code) > 1:
        return chr(min(int(code[1:], 16), 0x10FFFF)).encode("utf-8", "replace")
    return _LETTERS.get(code, code)
