"""Runs a chat template that came with somebody's weights, in bounded time and memory.

Jinja2's immutable sandbox keeps a template away from Python's insides and from changing its inputs. Three more fences:
nothing may be called that text/costs.py does not list; every operation is paid for from a `Fuel` before it runs; and
what Jinja2 compiles to plain Python (loops, `~`, comparisons, literals, slices) is rewritten in the syntax tree to
pay as well. There is no clock, so the same template always stops at the same step.
Departure from transformers, which gives templates the same names and sets no bounds: `include`, `import`, `extends`,
`block` and the filters pprint, striptags, urlize, wordwrap and xmlattr are refused.
Read next: text/chat.py
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, is_internal_attribute
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup

from cutaway.text.costs import (
    CONSTANT_FILTERS,
    DEEP_TESTS,
    FILTER_PRICES,
    PLAIN_FILTERS,
    PLAIN_METHODS,
    SHALLOW_FILTERS,
    STRING_PRICES,
    modulo_price,
    moment,
    tojson,
)
from cutaway.text.fuel import CALL, ELEMENT, LARGEST_BITS, NODE, Exhausted, Fuel
from cutaway.text.tolls import Rewrite, Toll

BUDGET = "budget "  # where the fuel lies among a template's variables; no template can spell a name with a space
_REFUSED = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport, nodes.Block)


class TemplateNamespace(Namespace):
    """`namespace()`: refuses underscored names, as transformers' does, and prints without what it holds."""

    def __init__(*args: Any, **values: Any):
        given = dict(*args[1:], **values)
        for name in given:
            TemplateNamespace._check(name)
        Namespace.__init__(args[0], given)  # type: ignore[misc]

    def __setitem__(self, name: str, value: Any) -> None:
        TemplateNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace may not hold the underscored name {name!r}")

    def __repr__(self) -> str:
        return "<Namespace>"


class _Generation(Extension):
    """`{% generation %}`: marks what an assistant wrote, for training masks; here it only holds its body."""

    tags = {"generation"}  # noqa: RUF012 - the class attribute that Jinja2 asks for

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that chat templates are compiled in and run by."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # folding constants would run a template's sums while it is compiled
            extensions=[_Generation, LoopControlExtension],
            finalize=_printed,
        )
        allowed = PLAIN_FILTERS | FILTER_PRICES.keys()
        self.filters = {name: _priced(name, run) for name, run in self.filters.items() if name in allowed}
        self.filters["tojson"] = _tojson
        self.tests = {name: _watched(name, run) for name, run in self.tests.items()}
        self.globals.pop("lipsum", None)
        self.globals.update(
            namespace=TemplateNamespace, dict=_make_dict, raise_exception=_raise_exception, strftime_now=_now
        )
        self.callables = {id(value) for value in self.globals.values()}
        self.step = Toll(lambda fuel, units: fuel.spend(units) or True)
        self.joined = Toll(_joined)
        self.seen = Toll(Fuel.seen)
        self.made = Toll(Fuel.made)

    def compiled(self, source: str) -> Any:
        """A template whose every loop, operation and value is paid for. Raises jinja2.TemplateError."""
        tree = self.parse(source)
        for kind in _REFUSED:
            found = tree.find(kind)
            if found is not None:
                raise SecurityError(f"line {found.lineno}: {kind.__name__.lower()} is not allowed in a chat template")
        return self.from_string(Rewrite(self).visit(tree))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        fuel = _fuel(context)
        _pay_operator(fuel, operator, left, right)
        return fuel.made(super().call_binop(context, operator, left, right))

    def call(*arguments: Any, **named: Any) -> Any:
        """environment.call(context, function, *arguments, **named): every call that a template makes."""
        environment, context, function, *positional = arguments
        fuel = _fuel(context)
        if isinstance(function, Toll):
            return function.function(fuel, *positional)
        fuel.spend(CALL)
        if isinstance(function, (Macro, Undefined)) or id(function) in environment.callables:
            return ImmutableSandboxedEnvironment.call(environment, context, function, *positional, **named)
        if isinstance(function, (LoopContext, Cycler, Joiner)) or isinstance(
            getattr(function, "__self__", None), (LoopContext, Cycler, Joiner)
        ):
            for value in positional:
                fuel.seen(value)
            return ImmutableSandboxedEnvironment.call(environment, context, function, *positional, **named)
        named = {name: value for name, value in named.items() if name not in ("_loop_vars", "_block_vars")}
        return _call_method(fuel, function, positional, named)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Jinja2 prints an attribute that it hides as nothing; a template that asks for one is stopped instead."""
        if attribute.startswith("_") or is_internal_attribute(obj, attribute):
            raise SecurityError(f"it reaches for {attribute!r} of a {type(obj).__name__}, which is outside its sandbox")
        return super().unsafe_undefined(obj, attribute)

    def wrap_str_format(self, value: Any) -> Any:
        """`str.format` runs through Jinja2's sandboxed formatter; here it also says what it is, to be paid for."""
        inner = super().wrap_str_format(value)
        if inner is not None:
            inner.formatted = value.__self__  # type: ignore[attr-defined]
        return inner


def _fuel(context: Context) -> Fuel:
    return context.parent[BUDGET]


@pass_context
def _printed(context: Context, value: Any) -> Any:
    """What `{{ value }}` writes."""
    fuel = _fuel(context)
    if isinstance(value, str):
        fuel.spend(NODE + len(value))
        return value
    fuel.spend(NODE + fuel.weigh(value))
    text = str(value)
    fuel.spend(len(text))
    return text


def _joined(fuel: Fuel, *values: Any) -> str:
    return fuel.made("".join([str(fuel.seen(value)) for value in values]))


def _make_dict(*arguments: Any, **named: Any) -> dict[Any, Any]:
    return dict(*arguments, **named)


@pass_context
def _now(context: Context, text: Any) -> str:
    _fuel(context).spend(8 * CALL)
    return moment(text)


def _raise_exception(message: Any = "") -> None:
    raise TemplateError(str(message))


@pass_context
def _tojson(context: Context, value: Any, **options: Any) -> str:
    fuel = _fuel(context)
    fuel.spend(FILTER_PRICES["tojson"](fuel, value, **options))
    return fuel.made(tojson(fuel, value, **options))


def _receiver(function: Callable[..., Any], context: Context) -> tuple[Any, ...]:
    """What a filter or test of Jinja2's own wants before its arguments."""
    wanted = getattr(getattr(function, "jinja_pass_arg", None), "name", "")
    return {"context": (context,), "eval_context": (context.eval_ctx,), "environment": (context.environment,)}.get(
        wanted, ()
    )


def _priced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for its arguments and its own price, then runs, then pays for its result."""
    price = FILTER_PRICES.get(name)

    @pass_context
    def paid(context: Context, value: Any, *arguments: Any, **named: Any) -> Any:
        fuel = _fuel(context)
        fuel.spend(CALL + sum(fuel.weigh(item) for item in (*arguments, *named.values())))
        if name in SHALLOW_FILTERS and isinstance(value, (list, tuple, dict)):
            fuel.spend(ELEMENT * len(value))
        elif name not in CONSTANT_FILTERS:
            fuel.seen(value)
        if price is not None and not isinstance(value, Undefined):
            fuel.spend(price(fuel, value, *arguments, **named))
        result = function(*_receiver(function, context), value, *arguments, **named)
        return result if name in CONSTANT_FILTERS else fuel.made(result)

    return paid


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A test that pays for reading its arguments, if it reads them."""

    @pass_context
    def paid(context: Context, *arguments: Any) -> Any:
        fuel = _fuel(context)
        fuel.spend(CALL)
        if name in DEEP_TESTS:
            for value in arguments:
                fuel.seen(value)
        return function(*_receiver(function, context), *arguments)

    return paid


def _pay_operator(fuel: Fuel, operator: str, left: Any, right: Any) -> None:
    both = fuel.weigh(left) + fuel.weigh(right)
    if operator == "*":
        for value, count in ((left, right), (right, left)):
            if isinstance(value, (str, list, tuple)) and isinstance(count, int):
                fuel.spend(max(0, count) * fuel.weigh(value))
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        if left.bit_length() * right > LARGEST_BITS:
            raise Exhausted(f"it raises to the power {right}")
    elif operator == "%" and isinstance(left, str):
        fuel.spend(modulo_price(fuel, left, right))
    elif operator == "+":
        long = isinstance(left, (list, tuple))  # of a list only the slots are copied, and `made` pays for those
        fuel.spend(NODE if long else both * (6 if isinstance(left, Markup) or isinstance(right, Markup) else 1))
    fuel.spend(NODE)


def _call_method(fuel: Fuel, function: Any, positional: list[Any], named: dict[str, Any]) -> Any:
    """A method of a string, list, dict, tuple or float, if it is listed; nothing else can be called."""
    if hasattr(function, "formatted"):
        name, owner = "format", function.formatted
    else:
        name, owner = getattr(function, "__name__", "?"), getattr(function, "__self__", None)
    kind = str if isinstance(owner, str) else type(owner)
    price = STRING_PRICES.get(name) if kind is str else None
    method = isinstance(function, (types.BuiltinMethodType, types.MethodType)) or hasattr(function, "formatted")
    if not method or (price is None and name not in PLAIN_METHODS.get(kind, ())):
        raise SecurityError(f"{name} of {kind.__name__} may not be called from a chat template")
    for value in (*positional, *named.values()):
        fuel.seen(value)
    if kind is str:
        fuel.seen(owner)
    else:
        fuel.spend(NODE + ELEMENT * len(owner) if isinstance(owner, (dict, list, tuple)) else NODE)
    if price is not None:
        fuel.spend(price(fuel, owner, *positional, **named))
    result = function(*positional, **named)
    return result if kind is dict and name == "get" else fuel.made(result)
