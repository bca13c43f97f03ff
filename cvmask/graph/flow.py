"""Follows data back through a frozen graph, past its loops, branches and relays.

The Object Detection API maps over the pictures of a batch with while loops and tensor arrays. For a
batch of one, a tensor array holds one tensor, and a loop runs once: a read gives the tensor that was
written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cvmask.errors import ModelError
from cvmask.graph.nodes import Graph, Node

Ref = tuple[str, int]  # a node's name and the number of its output

RELAYS = (
    "Identity",
    "IdentityN",
    "StopGradient",
    "Enter",
    "RefEnter",
    "Switch",
    "RefSwitch",
    "NextIteration",
    "CheckNumerics",
    "PreventGradient",
    "Snapshot",
    "PlaceholderWithDefault",
    "LoopCond",
)
# A tensor array is a tensor list in TensorFlow 2.
STACKS = ("TensorArrayGather", "TensorArrayPack", "TensorListStack", "TensorListGather")
READS = ("TensorArrayRead", "TensorListGetItem")
WRITES = ("TensorArrayWrite", "TensorListSetItem")
UNSTACKS = ("TensorArrayScatter", "TensorArrayUnpack", "TensorListFromTensor", "TensorListScatter")
ARRAYS = ("TensorArray", "TensorList")
_MAX_RELAYS = 1000


def parse_ref(text: str) -> Ref:
    """Parse `name:1` as `("name", 1)` and `name` as `("name", 0)`."""
    name, _, number = text.partition(":")
    return name, int(number) if number.isdigit() else 0


class Flow:
    """A graph, and which node really feeds which."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.consumers
        sources = [node.name for node in graph if node.op == "Placeholder"]
        self._varying = self.descendants(sources)
        self._origins: dict[Ref, Ref] = {}

    def node(self, ref: Ref) -> Node:
        """Return the node of a reference."""
        return self.graph[ref[0]]

    def refs(self, node: Node) -> list[Ref]:
        """Return the data inputs of a node as the graph states them."""
        return [parse_ref(text) for text in node.inputs if not text.startswith("^")]

    def origin(self, ref: Ref) -> Ref:
        """Return the output where the data that `ref` relays were made.

        Raises
        ------
        ModelError
            If the relays form a cycle.
        """
        return self.follow(ref, self.step, self._origins, _MAX_RELAYS)

    def follow(
        self,
        ref: Ref,
        step: Callable[[Ref], Ref | None],
        known: dict[Ref, Ref] | None = None,
        at_most: int | None = None,
    ) -> Ref:
        """Call `step` repeatedly, starting at `ref`, until it gives None; return the last reference.

        `known` caches where each reference leads. Pass the same dict to all calls with the same `step`, so that
        each path is walked once.

        Raises
        ------
        ModelError
            If it takes more than `at_most` steps, or more than the graph has nodes: there is a cycle.
        """
        known = {} if known is None else known
        way: list[Ref] = []
        for _ in range(len(self.graph) + 1 if at_most is None else at_most):
            way.append(ref)
            before = None if ref in known else step(ref)
            if before is None:
                end = known.get(ref, ref)
                known.update(dict.fromkeys(way, end))
                return end
            ref = before
        raise ModelError(f"{self.graph.origin}: {ref[0]} is part of a cycle")

    def inputs(self, node: Node) -> list[Ref]:
        """Return the origins of a node's inputs."""
        return [self.origin(ref) for ref in self.refs(node)]

    def varies(self, ref: Ref) -> bool:
        """Return True if the value depends on the picture."""
        return ref[0] in self._varying

    def descendants(self, names: Iterable[str]) -> set[str]:
        """Return these nodes and all nodes that their data reach."""
        return self.graph.descendants(names)

    def order(self, targets: Iterable[Ref], needs: Callable[[Node], list[Ref]]) -> list[Node]:
        """Return the nodes that `targets` depend on, each after all that it needs."""
        done: dict[str, Node] = {}
        opened: set[str] = set()
        todo = [self.origin(ref)[0] for ref in targets]
        while todo:
            name = todo[-1]
            node = self.graph[name]
            missing = [ref[0] for ref in needs(node) if ref[0] not in done]
            if not missing or name in done:
                done.setdefault(name, node)
                todo.pop()
                continue
            if name in opened:
                raise ModelError(f"{self.graph.origin}: {name} is part of a cycle")
            opened.add(name)
            todo.extend(missing)
        return list(done.values())

    def step(self, ref: Ref) -> Ref | None:
        """Return the input that a relay passes on, None if this node is not a relay."""
        node = self.node(ref)
        refs = self.refs(node)
        if not refs:
            return None
        if node.op in RELAYS:
            return refs[ref[1] if node.op == "IdentityN" else 0]
        if node.op == "Merge":
            return self._merged(refs)
        if node.op == "Exit":
            return self._left_loop(refs[0])
        if node.op.startswith((*STACKS, *READS)):
            return self._stored(array_of(node, refs))
        return None

    def _merged(self, refs: list[Ref]) -> Ref:
        """Pick the input of a Merge: of a loop the one that enters it, of a branch the first."""
        enters = [ref for ref in refs if self.node(ref).op != "NextIteration"]
        return enters[0] if enters else refs[0]

    def _left_loop(self, ref: Ref) -> Ref:
        """Return what the loop's body passes to its next iteration: Exit <- Switch <- Merge <- NextIteration."""
        node = self.node(ref)
        for _ in range(3):
            for back in self.refs(node):
                if self.node(back).op == "NextIteration":
                    return back
            refs = self.refs(node)
            if not refs:
                break
            node = self.node(refs[0])
        return ref

    def _stored(self, array: Ref) -> Ref | None:
        """Return what was written to a tensor array or list."""
        node = self.node(self.origin(array))
        refs = self.refs(node)
        if node.op == "TensorListSetItem" and len(refs) > 2:
            return refs[2]
        if node.op.startswith("TensorList") and node.op.startswith(UNSTACKS):
            return refs[0]
        if node.op.startswith((*WRITES, *UNSTACKS)) and len(refs) > 1:
            return refs[-2]
        return None


def array_of(node: Node, refs: list[Ref]) -> Ref:
    """Return the input that leads to the content: the flow of a tensor array, the handle of a tensor list."""
    return refs[0] if node.op.startswith("TensorList") else refs[-1]
