"""Rewrites a template's syntax tree so that what Jinja2 compiles to plain Python pays for itself too.

Loops and macros pay for each run of their body, `~` for the text it joins, comparisons and keys for what they read,
literals and slices for what they make. Each becomes a call of a `Toll`, an attribute of the environment that a template
can neither name nor reach.
Read next: text/sandbox.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

from cutaway.text.fuel import NODE


class Toll:
    """A function of ours that rewritten templates call, with the budget as its first argument."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function


class Rewrite(NodeTransformer):
    """Wants an environment with tolls named step, joined, seen and made."""

    def __init__(self, environment: Environment):
        self.environment = environment

    def _toll(self, name: str, arguments: list[nodes.Expr], line: int) -> nodes.Expr:
        call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
        call.set_lineno(line, override=True).set_environment(self.environment)
        return call

    def _step(self, body: list[nodes.Node], line: int) -> nodes.Expr:
        """Pays for one run of a body: its nodes, and the text it writes as it stands."""
        units = sum(_units(node) for node in body)
        return self._toll("step", [nodes.Const(NODE + units)], line)

    def visit_For(self, node: nodes.For) -> nodes.Node:
        step = self._step(node.body, node.lineno)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        if node.test is not None:
            tested = self._step([node.test], node.lineno)
            node.test = nodes.And(tested, node.test, lineno=node.lineno)
        return node

    def _visit_body(self, node: Any) -> nodes.Node:
        step = self._step(node.body, node.lineno)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node

    visit_Macro = visit_CallBlock = _visit_body

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._toll("joined", node.nodes, node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = self._seen(node.expr)
        for operand in node.ops:
            operand.expr = self._seen(operand.expr)
        return node

    def _seen(self, node: nodes.Expr) -> nodes.Expr:
        return node if isinstance(node, nodes.Const) else self._toll("seen", [node], node.lineno)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return self._toll("made", [node], node.lineno)
        node.arg = self._seen(node.arg)  # a long tuple as a key is hashed in full
        return node

    def _visit_literal(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        return node if getattr(node, "ctx", "load") != "load" else self._toll("made", [node], node.lineno)

    visit_List = visit_Tuple = _visit_literal

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        for pair in node.items:
            pair.key = self._seen(pair.key)
        return self._toll("made", [node], node.lineno)


def _units(node: nodes.Node) -> int:
    """What running a node once costs, by its size: its nodes, and the length of the text it writes as it stands."""
    waiting: list[nodes.Node] = [node]
    units = 0
    while waiting:
        node = waiting.pop()
        units += NODE + (len(node.data) if isinstance(node, nodes.TemplateData) else 0)
        waiting.extend(node.iter_child_nodes())
    return units
