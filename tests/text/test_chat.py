"""Conversations rendered as transformers renders them, over templates written as real models' are."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.chat import LONGEST, render

# In the manner of Qwen: tools, reasoning, tool calls, the last question found by going backwards.
CHATML = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- "Tools:" }}
{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{{- "<|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set found = namespace(yet=false, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- if not found.yet and message.role == "user" and message.content is string
        and not (message.content.startswith('[') and message.content.endswith(']')) %}
        {%- set found.yet = true %}{%- set found.last = (messages|length - 1) - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if content is not string %}
        {%- set content = content|selectattr('type', 'equalto', 'text')|map(attribute='text')|join('|') %}
    {%- endif %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}{%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > found.last and (loop.last or thought) %}
            {{- '<think>' ~ thought.strip('\\n') ~ '</think>' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<call>{"name": "' ~ call.name ~ '", "arguments": ' ~ (call.arguments | tojson) ~ '}</call>' }}
        {%- endfor %}{{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}{{- '<|im_start|>user\\n[' ~ content ~ ']<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think></think>' }}{%- endif %}
{%- endif %}"""

# In the manner of Llama 3: BOS written by the template, the date, the system message taken off the list.
LLAMA3 = """{{- bos_token }}
{%- if date_string is not defined and strftime_now is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- set system = "" %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nDate: " + date_string + "\\n" + system + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' not in message %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- else %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one call at a time") }}{%- endif %}
        {%- for name, value in message.tool_calls[0].function.arguments | items %}
            {{- name + '="' + value + '"' }}{%- if not loop.last %}, {% endif %}
        {%- endfor %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""

# In the manner of Gemma: roles that must take turns, the system message put before the first question.
GEMMA = """{{ bos_token }}
{%- set before = "" -%}{%- set turns = messages -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- set before = messages[0]['content'] + '\\n\\n' -%}{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("User and assistant must take turns, beginning with the user") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (before if loop.first else "") }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\\n'}}{%- endif -%}
"""

# In the manner of SmolLM2: one line, with a system message of its own.
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n\u4f60\u597d, be kind<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# What no model's template does all at once.
ODDS = """{% macro turn(role, text='') %}
    [{{ role|upper }}{{ '%5.2f|%s' % (1.5, role) }}]{{ text|indent(2) }}{{ caller() if caller else '' }}
{% endmacro %}
{% for message in messages recursive %}
{% if loop.index > 3 %}{% break %}{% endif %}
{% if message.role == 'tool' %}{% continue %}{% endif %}
{% generation %}{{ turn(message.role, message.content|string) }}{% endgeneration %}
{% endfor %}
{% call turn('x') %}inner {{ [1, 2.5, none, true, 'é', {'k': (1,)}] }}{% endcall %}
{% set block %}{{ messages|map(attribute='role')|unique|sort|join(', ') }}{% endset %}{{ block }}
{% filter upper %}quiet 你好{% endfilter %}
{{ {'b': 1, 'a': "<é>'&"}|tojson(indent=2) }} {{ messages|groupby('role')|map('first')|list }}
{{ [3, 1, 2]|sort(reverse=true) }} {{ [1, 2, 3, 4]|batch(3, 0)|list }}
{{ 'abc'[::-1] ~ 1 ~ none }} {{ 7 // 2 ** 1 % 3 }}
{{ dict(a=1).items()|list }} {{ '{}-{:>4}'.format('a', 'b') }} {{ "a-b-c".rsplit('-', 1) }}
{{ 'x' in 'xyz' and 1 in [1] }}
{% for key, value in {'z': 1, 'y': 2}|dictsort %}
    {{ loop.cycle('o', 'e') }}{{ key }}={{ value }}{{ loop.nextitem }}
{% endfor %}
{{ missing }}{{ missing is defined }}{{ (messages|first).content|length }}{{ range(3)|list }}{{ ('<b>'|safe) + '<i>' }}
"""

SHORT = [{"role": "user", "content": "你好，世界！ <|im_end|> 👨‍👩‍👧‍👦 "}]
LONG = [
    {"role": "system", "content": " 你是一个助手。\nBe short. "},
    {"role": "user", "content": "What is 1 < 2 & 3?\n\n"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTrue."},
    {"role": "user", "content": 'Why? \'"é"'},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": " 看图 "}, {"type": "image"}]}]
CALLS = [
    {"role": "user", "content": "weather?"},
    {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"在": "北京"}}}],
    },
    {"role": "tool", "content": "晴 25°"},
    {"role": "assistant", "content": "Sunny.", "reasoning": "looked", "tool_calls": None},
]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "é<": "'&"}}}]
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "gemma": GEMMA, "smollm": SMOLLM, "odds": ODDS}


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("messages", [SHORT, LONG, PARTS, CALLS], ids=["short", "long", "parts", "calls"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_equals_transformers(name, messages, prompt, byte_level):
    from transformers import PreTrainedTokenizerFast

    twin = PreTrainedTokenizerFast(tokenizer_object=byte_level("qwen2"), **NAMES)
    template = TEMPLATES[name]
    for tools, extra in ((None, {}), (TOOLS, {"enable_thinking": False, "date_string": "1 Jan 2025"})):
        try:
            expected = twin.apply_chat_template(
                messages, tools, chat_template=template, add_generation_prompt=prompt, tokenize=False, **extra
            )
        except Exception as error:
            with pytest.raises(BadInput, match="chat template") as caught:
                render(template, messages, names=NAMES, generation_prompt=prompt, tools=tools, variables=extra)
            assert " ".join(str(error).split()) in str(caught.value)
        else:
            ours = render(template, messages, names=NAMES, generation_prompt=prompt, tools=tools, variables=extra)
            assert ours == expected


def test_what_a_template_refuses_is_said_in_its_words():
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    with pytest.raises(BadInput) as caught:
        render(GEMMA, twice, names=NAMES, source="some/tokenizer_config.json")
    words = "User and assistant must take turns, beginning with the user"
    assert str(caught.value) == f"some/tokenizer_config.json: chat template: {words}"


def test_the_date_is_todays():
    expected = datetime.now().year
    assert render("{{ strftime_now('%Y') }}", SHORT, names={}) in (str(expected), str(expected + 1))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for %}", "line 1: "),
        ("\n\n{{ 'abc' | nobody }}", "line 3: No filter named 'nobody'"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ nobody.something }}", "'nobody' is undefined"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ [1][messages] }}{{ messages[9].role }}", "has no element 9"),
        ("{" * 5000, "cannot be compiled"),
        ("{{" + "(" * 5000, "cannot be compiled"),
        ("{{ 1" + "+1" * 20000 + " }}", "cannot be compiled"),
        ("{% for i in x %}" * 50 + "{% endfor %}" * 50, "cannot be compiled"),
        ("a" * (LONGEST + 1), "at most 262144"),
    ],
)
def test_a_broken_template_is_one_line(template, words):
    with pytest.raises(BadInput, match="chat template: ") as caught:
        render(template, SHORT, names={})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_conversation_is_no_attack():
    """A thousand messages, and one of a million characters, through the largest template here."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": f"第{index}条 " * 40} for index in range(1000)]
    text = render(CHATML, messages, names=NAMES, tools=TOOLS)
    assert len(re.findall("第999条 ", text)) == 40
    assert render(GEMMA, [{"role": "user", "content": "字" * 10**6}], names=NAMES).count("字") == 10**6
