"""Templates that try to leave, to run for ever or to fill the memory: each is stopped, early, by a clear line.

Every attack is stopped at a step that depends on the template alone, so that no test here looks at a clock; a test that
lost its fence would hang or run out of memory.
"""

from __future__ import annotations

import tracemalloc

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.chat import render

MESSAGES = [{"role": "user", "content": "hello"}]
GROW = "{% set ns = namespace(x=X) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}"


def stopped(template: str, words: str = "") -> str:
    with pytest.raises(BadInput, match="chat template: ") as caught:
        render(template, MESSAGES, names={})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__ }}",
        "{{ messages['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ [messages]|map(attribute='__class__')|list }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ '{x.__init__}'.format_map({'x': cycler}) }}",
        "{{ 'x'.format.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__.os }}",
        "{{ raise_exception.__globals__ }}",
        "{{ joiner.__call__() }}",
        "{% macro m() %}{% endmacro %}{{ m._func.__code__ }}",
        "{% macro m() %}{{ caller.__init__ }}{% endmacro %}{% call m() %}{% endcall %}",
        "{% for x in messages %}{{ loop._iterator }}{% endfor %}",
        "{{ namespace(_x=1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ (1).to_bytes(10, 'big') }}",
        "{{ 'a'.encode() }}",
        "{{ 'a'.translate({97: 'b' * 9}) }}",
        "{{ [1]|map('budget ')|list }}",
        "{{ [1]|map('step')|list }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% from 'x' import y %}",
        "{% extends 'x' %}",
        "{% block x %}{% endblock %}",
        "{{ 'a b'|pprint }}",
        "{{ lipsum(1000) }}",
    ],
)
def test_nothing_is_reached_outside(template):
    stopped(template)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if j < 0 %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = range(99999)|map('string')|list %}{% endfor %}",
        "{% for i in range(99999) %}{% if range(99999)|select('odd')|list %}{% endif %}{% endfor %}",
        "{% for i in range(99999) %}{% if 'b' in 'a' * 9999 %}{% endif %}{% endfor %}",
        "{% for i in range(2) recursive %}{{ loop(range(2)) }}{% endfor %}",
        "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% macro m(n) %}{% if n %}{% call m(n - 1) %}{% endcall %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{{ 9 ** 9999999 }}",
        "{{ 1|round(10**9) }}",
        GROW.replace("X", "9").replace("STEP", "ns.x * ns.x"),
        "{{ ('a' * 100000).rfind('b' + 'a' * 50000) }}",
        "{{ ('a' * 1000000).strip('b' * 1000000) }}",
        "{% set x = ([[1] * 1000] * 1000)|sum(start=[]) %}",
        "{% set x = range(99999)|list %}{% for i in range(99999) %}{% if 0.5 in x %}{% endif %}{% endfor %}",
        "{% set x = range(99999)|list %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
        "{% set x = range(99999)|list %}{% for i in range(99999) %}{% set y = x|sort %}{% endfor %}",
    ],
)
def test_nothing_runs_for_ever(template):
    stopped(template)


BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{% set x = [1] * 10**9 %}",
    "{% set x = 10**9 * (1, 2) %}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a'|center(10**9) }}",
    "{{ 'a'.expandtabs(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 10**9) }}",
    "{{ ('%s' * 9999) % (('a' * 9999,) * 9999) }}",
    "{{ [1]|slice(10**9)|list }}",
    "{{ [1]|slice(slices=10**9)|list }}",
    "{{ [1]|batch(10**9, 'x')|list }}",
    "{{ [1]|batch(linecount=10**9, fill_with='x')|list }}",
    "{{ 'a'|indent(10**9) }}",
    "{{ 'a'|indent('x' * 10**9) }}",
    "{{ [1]|tojson(indent=10**9) }}",
    "{{ ([1] * 99999)|tojson(separators=('x' * 99999, 'y')) }}",
    "{{ ('a' * 10000).replace('', 'b' * 100000) }}",
    "{{ ('a' * 10000)|replace('a', 'b' * 100000) }}",
    "{{ ('b' * 10000).join('a' * 10000) }}",
    "{{ ('a' * 10000)|join('b' * 10000) }}",
    "{{ ('a,' * 1000000).split(',')|length }}",
    "{{ ('a ' * 1000000).split()|length }}",
    "{{ ('a\n' * 1000000).splitlines()|length }}",
    "{{ ('字' * 1000000)|list|length }}",
    "{{ ('字 ' * 1000000)|title|length }}",
    "{{ ('字' * 5000000)|urlencode|length }}",
    "{{ strftime_now('%9999999Y') }}",
    "{{ strftime_now('%Y' * 9999) }}",
    GROW.replace("X", "'a'").replace("STEP", "ns.x ~ ns.x"),
    GROW.replace("X", "'a'").replace("STEP", "ns.x + ns.x"),
    GROW.replace("X", "[1]").replace("STEP", "ns.x + ns.x"),
    GROW.replace("X", "[1]").replace("STEP", "[ns.x, ns.x]") + "{{ ns.x }}",
    GROW.replace("X", "[1]").replace("STEP", "[ns.x, ns.x]") + "{{ ns.x|tojson }}",
    GROW.replace("X", "[1]").replace("STEP", "[ns.x, ns.x]") + "{{ ns.x ~ '' }}",
    GROW.replace("X", "[1]").replace("STEP", "[ns.x, ns.x]") + "{{ '%s' % [ns.x] }}",
    GROW.replace("X", "[1]").replace("STEP", "{1: ns.x, 2: ns.x}") + "{{ ns.x|string }}",
    GROW.replace("X", "(1,)").replace("STEP", "(ns.x, ns.x)") + "{{ {}[ns.x] }}",
    GROW.replace("X", "(1,)").replace("STEP", "(ns.x, ns.x)") + "{{ {ns.x: 1} }}",
    GROW.replace("X", "[1]").replace("STEP", "[ns.x, ns.x]") + "{% if ns.x == [ns.x[0], ns.x[1]] %}{% endif %}",
    GROW.replace("X", "[1]").replace("STEP", "dict(a=ns.x, b=ns.x)") + "{{ ns.x }}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% for i in range(99999) %}" + "x" * 9999 + "{% endfor %}",
    "{% macro m() %}" + "x" * 9999 + "{% endmacro %}{% for i in range(99999) %}{{ m() }}{% endfor %}",
]


@pytest.mark.parametrize("template", BOMBS)
def test_nothing_fills_the_memory(template):
    tracemalloc.start()
    try:
        stopped(template)
        assert tracemalloc.get_traced_memory()[1] < 150e6  # the budget: 16 million units of at most a few bytes
    finally:
        tracemalloc.stop()


def test_what_stops_it_is_said():
    assert "does it loop without end?" in stopped("{{ 'a' * 10**9 }}")
    stopped("{{ messages.__class__ }}", "it reaches for '__class__' of a list, which is outside its sandbox")
    stopped("{{ 'a'.encode() }}", "encode of str may not be called from a chat template")
    stopped("\n{% include 'x' %}", "line 2: include is not allowed in a chat template")


def test_loops_nested_in_one_expression_are_paid_for_by_the_size_of_their_body():
    """What a body costs is its size, so that a long body cannot hide behind few turns."""
    heavy = "{% for i in range(99999) %}" + "{{ i }}" * 20000 + "{% endfor %}"
    stopped(heavy, "more steps or memory")
    silent = "{% if 0 %}{% endif %}" * 5000
    macro = "{% macro m() %}" + silent + "{% endmacro %}"
    stopped(macro + "{% for i in range(99999) %}{% set x = m() %}{% endfor %}", "more steps or memory")
    block = "{% macro m() %}{{ caller() }}{% endmacro %}{% for i in range(99999) %}{% call m() %}"
    stopped(block + silent + "{% endcall %}{% endfor %}", "more steps or memory")


def test_a_namespace_that_holds_itself_prints():
    assert render("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", MESSAGES, names={}) == "<Namespace>"


def test_each_rendering_has_a_budget_of_its_own():
    template = "{% for i in range(50000) %}{% endfor %}ok"
    assert [render(template, MESSAGES, names={}) for _ in range(12)] == ["ok"] * 12
