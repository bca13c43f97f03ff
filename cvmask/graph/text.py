"""Reads and prints text graphs: the `.pbtxt` that OpenCV needs with a `.pb`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.nodes import BOOL, DOUBLE, DTYPE_NAMES, FLOAT, STRING, Attr, Graph, Node, Tensor
from cvmask.system.files import open_regular

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
    """A value that is not a message: `kind` is string, number or word; the text of a string has no quotes."""

    kind: str
    text: str
    line: int

    def raw(self) -> bytes:
        """Return the bytes of a string."""
        if self.kind != "string":
            raise ModelError(f"line {self.line}: expected a string in quotes, got {self.text!r}")
        return _ESCAPE.sub(_unescape, self.text.encode("utf-8", "surrogateescape"))

    def integer(self) -> int:
        """Return the value of an integer."""
        try:
            return int(self.text, 16 if "x" in self.text.lower() else 10)
        except ValueError:
            raise ModelError(f"line {self.line}: expected a whole number, got {self.text[:40]!r}") from None

    def real(self) -> float:
        """Return the value of a number, including `inf` and `nan`."""
        try:
            return float(self.text.rstrip("fF") if self.kind == "number" else self.text)
        except ValueError:
            raise ModelError(f"line {self.line}: expected a number, got {self.text[:40]!r}") from None

    def truth(self) -> bool:
        """Return the value of `true`, `false`, 1 or 0."""
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
    """Parse a text in protobuf's text format.

    Raises
    ------
    ModelError
        If the text is not in that format; the message names the line.
    """
    tokens = _Tokens(text)
    top = Message(1)
    _fill(tokens, top, "", 0)
    return top


class _Tokens:
    """The tokens of a text, with one token of lookahead."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._line = text, 0, 1
        self.kind, self.text, self.line = "", "", 1
        self.advance()

    def advance(self) -> None:
        while self._at < len(self._text):
            match = _TOKEN.match(self._text, self._at)
            if match is None:
                sample = self._text[self._at : self._at + 20].split("\n")[0]
                raise ModelError(f"line {self._line}: not protobuf's text format at {sample!r}")
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
    while tokens.kind == "string":  # adjacent strings are one string, as in C
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


# The field of TensorProto that lists the elements of each type.
_ELEMENT_FIELDS = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 7: "string_val",
    9: "int64_val", 10: "bool_val", 17: "int_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
_MAX_TENSOR_BYTES = 1 << 22  # weights belong in the .pb


def print_node(node: Node) -> Iterator[str]:
    """Yield the lines of one node."""
    yield "node {"
    yield f"  name: {_quote(node.name.encode('utf-8', 'surrogateescape'))}"
    yield f"  op: {_quote(node.op.encode('utf-8', 'surrogateescape'))}"
    for name in node.inputs:
        yield f"  input: {_quote(name.encode('utf-8', 'surrogateescape'))}"
    for key in sorted(node.attrs):
        yield "  attr {"
        yield f"    key: {_quote(key.encode('utf-8', 'surrogateescape'))}"
        yield from _block("value", _print_attr(node.attrs[key]), "    ")
        yield "  }"
    yield "}"


def _block(name: str, lines: Iterator[str], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{"
    for line in lines:
        yield f"{indent}  {line}"
    yield indent + "}"


def _print_attr(attr: Attr) -> Iterator[str]:
    if attr.kind == "list":
        items = attr.value
        yield from _block("list", (x for v in items.value for x in _print_attr(Attr(items.kind, v))), "")
    elif attr.kind == "shape":
        yield from _block("shape", _print_shape(attr.value), "")
    elif attr.kind == "tensor":
        yield from _block("tensor", _print_tensor(attr.value), "")
    elif attr.kind not in ("none", "func"):
        yield f"{attr.kind}: {_scalar(attr.kind, attr.value)}"


def _scalar(kind: str, value: Any) -> str:
    if kind == "s":
        return _quote(bytes(value))
    if kind == "b":
        return "true" if value else "false"
    if kind == "type":
        return DTYPE_NAMES.get(value, str(value))
    return _real(value) if kind == "f" else str(int(value))


def _real(value: float) -> str:
    """Return the shortest decimal that reads back as the same 32-bit float."""
    with np.errstate(over="ignore"):
        return str(np.float32(value))


def _print_shape(shape: tuple[int, ...] | None) -> Iterator[str]:
    if shape is None:
        yield "unknown_rank: true"
        return
    for size in shape:
        yield from _block("dim", iter([f"size: {size}"]), "")


def _print_tensor(tensor: Tensor) -> Iterator[str]:
    yield f"dtype: {DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype))}"
    yield from _block("tensor_shape", _print_shape(tensor.shape), "")
    if tensor.dtype == STRING:
        for value in tensor.values:
            if not isinstance(value, bytes):
                raise ModelError(f"a constant of strings holds {value!r}")
            yield f"string_val: {_quote(value)}"
        return
    if len(tensor.content) > _MAX_TENSOR_BYTES:
        raise ModelError(f"a constant of {len(tensor.content)} bytes is too large for a text graph")
    if len(tensor.content):
        yield f"tensor_content: {_quote(bytes(tensor.content))}"
    try:
        for value in tensor.values if tensor.dtype in _ELEMENT_FIELDS else ():
            yield f"{_ELEMENT_FIELDS[tensor.dtype]}: {_element(tensor.dtype, value)}"
    except (TypeError, ValueError, OverflowError):
        raise ModelError(f"a constant of type {tensor.dtype} holds {value!r}") from None


def _element(dtype: int, value: Any) -> str:
    if dtype == BOOL:
        return _scalar("b", value)
    if dtype == FLOAT:
        return _real(value)
    return repr(float(value)) if dtype == DOUBLE else str(int(value))


def _quote(raw: bytes) -> str:
    return '"' + "".join(_ESCAPED[byte] for byte in raw) + '"'


_ESCAPED = [chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in range(256)]
_ESCAPED[ord('"')], _ESCAPED[ord("\\")], _ESCAPED[10] = '\\"', "\\\\", "\\n"


_MAX_BYTES = 64 << 20  # a text graph has no weights: the largest known is under 1 MB
_DTYPES = {name: number for number, name in DTYPE_NAMES.items()}
_IGNORED = ("library", "versions", "version", "debug_info")


def read_text(path: str | os.PathLike[str]) -> Graph:
    """Read the graph in a `.pbtxt` file.

    Raises
    ------
    ModelError
        If the file cannot be opened, or is not a text graph.
    """
    with open_regular(path) as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ModelError(f"{path}: too large for a text graph (more than {_MAX_BYTES >> 20} MB)")
    return parse_text(raw.decode("utf-8", "surrogateescape"), Path(path).name)


def parse_text(text: str, origin: str = "text graph") -> Graph:
    """Parse a text graph.

    Raises
    ------
    ModelError
        If the text is not a graph, or has no nodes; the message names the line.
    """
    nodes = []
    try:
        for name, value, line in parse_fields(text).fields:
            if name == "node":
                nodes.append(_node(_message(value, line), line))
            elif name not in _IGNORED:
                raise ModelError(f"line {line}: a graph has no field {name!r}")
    except ModelError as error:
        raise ModelError(f"{origin}: {error}") from None
    if not nodes:
        raise ModelError(f"{origin}: a text graph without a single node")
    return Graph(nodes, origin)


def print_text(nodes: Iterable[Node]) -> str:
    """Return the canonical text form: indented by two spaces, attributes sorted by name."""
    return "".join(line + "\n" for node in nodes for line in print_node(node))


def _message(value: Word | Message, line: int) -> Message:
    if not isinstance(value, Message):
        raise ModelError(f"line {line}: expected {{ ... }}, got {value.text[:40]!r}")
    return value


def _word(value: Word | Message, line: int) -> Word:
    if not isinstance(value, Word):
        raise ModelError(f"line {line}: expected a value, got {{ ... }}")
    return value


def _name(value: Word | Message, line: int) -> str:
    return _word(value, line).raw().decode("utf-8", "surrogateescape")


def _node(message: Message, line: int) -> Node:
    node = Node("", "", [], {})
    attrs: dict[str, Attr] = {}
    for name, value, at in message.fields:
        if name == "name":
            node.name = _name(value, at)
        elif name == "op":
            node.op = _name(value, at)
        elif name == "input":
            node.inputs.append(_name(value, at))
        elif name == "attr":
            key, attr = _entry(_message(value, at))
            attrs[key] = attr
        elif name not in ("device", "experimental_debug_info"):
            raise ModelError(f"line {at}: a node has no field {name!r}")
    if not node.name or not node.op:
        raise ModelError(f"line {line}: a node without a name or an op")
    node.attrs = attrs
    return node


def _entry(message: Message) -> tuple[str, Attr]:
    key, attr = "", Attr("none", None)
    for name, value, line in message.fields:
        if name == "key":
            key = _name(value, line)
        elif name == "value":
            attr = _attr(_message(value, line))
        else:
            raise ModelError(f"line {line}: an attribute has no field {name!r}")
    return key, attr


def _attr(message: Message) -> Attr:
    attr = Attr("none", None)
    for name, value, line in message.fields:
        if name == "list":
            attr = Attr("list", _list(_message(value, line)))
        elif name in _SCALARS:
            attr = Attr(name, _SCALARS[name](value, line))
        elif name not in ("placeholder", "func"):
            raise ModelError(f"line {line}: an attribute value has no field {name!r}")
    return attr


def _list(message: Message) -> Attr:
    kind, items = "none", []
    for name, value, line in message.fields:
        if name not in _SCALARS:
            raise ModelError(f"line {line}: a list has no field {name!r}")
        kind = name
        items.append(_SCALARS[name](value, line))
    return Attr(kind, tuple(items))


def _shape(value: Word | Message, line: int) -> tuple[int, ...] | None:
    dims = []
    for name, inner, at in _message(value, line).fields:
        if name == "unknown_rank":
            if _word(inner, at).truth():
                return None
        elif name == "dim":
            sizes = [_word(v, n).integer() for k, v, n in _message(inner, at).fields if k == "size"]
            dims.append(sizes[-1] if sizes else 0)
        else:
            raise ModelError(f"line {at}: a shape has no field {name!r}")
    return tuple(dims)


def _dtype(value: Word | Message, line: int) -> int:
    word = _word(value, line)
    if word.text in _DTYPES:
        return _DTYPES[word.text]
    return word.integer()


def _tensor(value: Word | Message, line: int) -> Tensor:
    dtype, content = 0, b""
    shape: tuple[int, ...] = ()
    values: list[Any] = []
    for name, inner, at in _message(value, line).fields:
        if name == "dtype":
            dtype = _dtype(inner, at)
        elif name == "tensor_shape":
            shape = _shape(inner, at) or ()
        elif name == "tensor_content":
            content = _word(inner, at).raw()
        elif name in _ELEMENTS:
            values.append(_ELEMENTS[name](_word(inner, at)))
        elif name != "version_number":
            raise ModelError(f"line {at}: a tensor has no field {name!r}")
    return Tensor(dtype, shape, content, values)


_ELEMENTS: dict[str, Callable[[Word], Any]] = {
    "float_val": Word.real, "double_val": Word.real, "int_val": Word.integer, "int64_val": Word.integer,
    "bool_val": Word.truth, "string_val": Word.raw, "uint32_val": Word.integer, "uint64_val": Word.integer,
}  # fmt: skip
_SCALARS: dict[str, Callable[[Word | Message, int], Any]] = {
    "s": lambda value, line: _word(value, line).raw(),
    "i": lambda value, line: _word(value, line).integer(),
    "f": lambda value, line: _word(value, line).real(),
    "b": lambda value, line: _word(value, line).truth(),
    "type": _dtype,
    "shape": _shape,
    "tensor": _tensor,
}
