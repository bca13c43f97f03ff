"""Works out the value of a small piece of a graph, with numbers put in its place for the picture.

Anchors, paddings and the size of the resized picture are computed at run time, and each release spells
that differently. Computing them is surer than recognising the spelling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.flow import ARRAYS, READS, RELAYS, STACKS, WRITES, Flow, Ref, array_of
from cvmask.graph.nodes import Node
from cvmask.graph.numeric_ops import OPS, Op

Array = npt.NDArray[Any]
_MAX_ELEMENTS = 1 << 25


class _NotTaken(Exception):
    """The branch that this value comes from is not taken."""


class Numeric:
    """Evaluates references.

    Parameters
    ----------
    flow
        The graph.
    given
        Arrays that stand for the outputs of nodes, by name.
    shape_of
        The shape of a node's output where nobody needs its values, None where that is not known.
    instead
        Functions to use instead of those of `OPS`.
    """

    def __init__(
        self,
        flow: Flow,
        given: Mapping[str, Array] | None = None,
        shape_of: Callable[[str], tuple[int, ...] | None] = lambda name: None,
        instead: Mapping[str, Op] | None = None,
    ) -> None:
        self._flow, self._given, self._shape_of = flow, given or {}, shape_of
        self._ops = {**OPS, **(instead or {})}
        self._known: dict[Ref, Array] = {}

    def value(self, ref: Ref) -> Array:
        """The array that an output holds.

        Raises
        ------
        ModelError
            If it depends on something that is not known, or on an op that is not known here.
        """
        try:
            return self._value(ref)
        except _NotTaken:
            raise ModelError(f"{ref[0]}: no branch of it is taken") from None
        except RecursionError:
            raise ModelError(f"{ref[0]}: nested too deep to be worked out") from None

    def flat(self, refs: Iterable[Ref]) -> list[Array]:
        """The values of several outputs, each in one row."""
        return [self.value(ref).reshape(-1) for ref in refs]

    def _value(self, ref: Ref) -> Array:
        if ref not in self._known:
            array: Array = self._compute(ref)
            if array.size > _MAX_ELEMENTS:
                raise ModelError(f"{ref[0]}: {array.size} elements are too many to be a constant")
            self._known[ref] = array
        return self._known[ref]

    def _compute(self, ref: Ref) -> Array:
        node = self._flow.node(ref)
        if ref[0] in self._given:
            return self._given[ref[0]]
        if node.op == "Const":
            return node.array()
        if node.op in ("Shape", "Size", "Rank"):
            shape = self._shape(self._flow.refs(node)[0])
            number = {"Size": math.prod(shape), "Rank": len(shape)}.get(node.op, shape)
            return np.asarray(number, np.int32)
        if node.op in RELAYS or node.op in ("Merge", "Exit") or node.op.startswith(ARRAYS):
            return self._relay(ref, node)
        return self._apply(ref, node)

    def _apply(self, ref: Ref, node: Node) -> Array:
        function = self._ops.get(node.op)
        if function is None:
            raise ModelError(f"{node.name}: the value of a {node.op} cannot be worked out")
        arrays = [self._value(other) for other in self._flow.refs(node)]
        try:
            with np.errstate(all="ignore"):
                results = function(node, *arrays)
        except (ValueError, IndexError, TypeError, MemoryError, OverflowError) as error:
            raise ModelError(f"{node.name}: {error}") from None
        outputs = results if isinstance(results, list) else [results]
        for index, array in enumerate(outputs):
            self._known[(node.name, index)] = np.asarray(array)
        if ref not in self._known:
            raise ModelError(f"{node.name}: a {node.op} without an output {ref[1]}")
        return self._known[ref]

    def _relay(self, ref: Ref, node: Node) -> Array:
        refs = self._flow.refs(node)
        if node.op == "Merge" and not any(self._flow.node(r).op == "NextIteration" for r in refs):
            return self._branch(refs)
        if node.op in ("Switch", "RefSwitch") and self._flow.node(refs[1]).op != "LoopCond":
            if bool(self._value(refs[1])) != bool(ref[1]):
                raise _NotTaken
            return self._value(refs[0])
        before = self._flow.step(ref)
        if before is None:
            raise ModelError(f"{node.name}: the value of a {node.op} cannot be worked out")
        array = self._value(before)
        if node.op.startswith(STACKS):
            return array[None]
        return array[0] if node.op.startswith(READS) and self._unpacked(node) else array

    def _unpacked(self, node: Node) -> bool:
        """True where the array was filled from the rows of one tensor."""
        array = self._flow.node(self._flow.origin(array_of(node, self._flow.refs(node))))
        return not array.op.startswith(WRITES)

    def _branch(self, refs: list[Ref]) -> Array:
        for ref in refs:
            try:
                return self._value(ref)
            except _NotTaken:
                continue
        raise _NotTaken

    def _shape(self, ref: Ref) -> tuple[int, ...]:
        """The shape of an output, without its values where that is possible."""
        node = self._flow.node(ref)
        if ref[0] in self._given:
            return self._given[ref[0]].shape
        if ref not in self._known and node.op != "Const":
            known = self._shape_of(ref[0])
            if known is not None:
                return known
            refs = self._flow.refs(node)
            if node.op in ("Cast", "Identity", "Enter"):
                return self._shape(refs[0])
            if node.op.startswith(READS):
                before = self._flow.step(ref)
                if before is not None and self._unpacked(node):
                    return self._shape(before)[1:]
        return self._value(ref).shape


def channels(flow: Flow, ref: Ref) -> int:
    """How many channels a layer with a bias gives."""
    node = flow.node(ref)
    if node.op in ("BiasAdd", "Add", "AddV2"):
        constants = [other for other in flow.inputs(node) if not flow.varies(other)]
        return int(Numeric(flow).value(constants[0]).size) if constants else 0
    weights = Numeric(flow).value(flow.inputs(node)[1])
    return int(weights.shape[-2] if node.op == "Conv2DBackpropInput" else weights.shape[-1])


def constant(flow: Flow, ref: Ref) -> float | None:
    """The number that a reference holds, None where it holds something else."""
    if flow.varies(ref):
        return None
    try:
        array = Numeric(flow).value(ref)
    except ModelError:
        return None
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iuf" else None


def factor(flow: Flow, node: Node) -> float:
    """By what a node multiplies the one input of it that is no constant."""
    values = [constant(flow, ref) for ref in flow.inputs(node)]
    known = [value for value in values if value is not None]
    if len(known) != 1 or len(values) != 2:
        return 1.0
    return known[0] if node.op == "Mul" else 1.0 / known[0]
