"""The `openai` client, unchanged, talks with a model."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from .small import bytes_of

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好, what is 2+2?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "北京"]}}, "required": ["city"]},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"yes": {"type": "boolean"}},
            "required": ["yes"],
            "additionalProperties": False,
        },
    },
}


def asked(**more):
    return {"model": "tiny", "messages": MESSAGES, "temperature": 0, "max_tokens": 12, **more}


def spoken(text, **more):
    """A request whose answer begins with `text`, whatever the model would say."""
    return asked(max_tokens=400, stop="\0", extra_body={"forced": [*bytes_of(text), 259]}, **more)


def test_an_answer_is_what_the_model_alone_says(client, tiny):
    made = client.chat.completions.create(**asked())
    expected = tiny.service.language.generate(MESSAGES, max_tokens=12)
    choice = made.choices[0]
    assert made.object == "chat.completion" and made.id.startswith("chatcmpl-")
    assert (choice.message.role, choice.message.content) == ("assistant", expected.text)
    assert choice.message.tool_calls is None and choice.logprobs is None
    assert choice.finish_reason == expected.finish_reason
    ids = tiny.tokenizer.chat(MESSAGES)
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (len(ids), len(expected.tokens))


def test_a_stream_says_the_same_and_tells_its_usage(client):
    whole = client.chat.completions.create(**asked(n=2, seed=1, temperature=1))
    texts, ends, roles, usage = ["", ""], {}, {}, []
    stream = client.chat.completions.create(
        stream=True, stream_options={"include_usage": True}, **asked(n=2, seed=1, temperature=1)
    )
    for chunk in stream:
        assert chunk.object == "chat.completion.chunk"
        usage += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            roles.setdefault(choice.index, choice.delta.role)
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert [ends[0], ends[1]] == [choice.finish_reason for choice in whole.choices]
    assert roles == {0: "assistant", 1: "assistant"}
    assert len(usage) == 1 and usage[0].total_tokens == whole.usage.total_tokens


def test_logprobs_name_tokens_and_their_bytes(client, tiny):
    made = client.chat.completions.create(**asked(logprobs=True, top_logprobs=3))
    content, answer = made.choices[0].logprobs.content, tiny.service.language.generate(MESSAGES, max_tokens=12)
    assert [one.logprob for one in content] == pytest.approx(answer.logprobs, abs=1e-4)  # another order of sums
    assert [one.token for one in content] == [tiny.tokenizer.token(id) for id in answer.tokens]
    text = b"".join(bytes(one.bytes) for one, id in zip(content, answer.tokens, strict=True) if id != 259)
    assert text.decode("utf-8", "replace").rstrip("\ufffd") == answer.text
    for one in content:
        assert len(one.top_logprobs) == 3
        assert (one.top_logprobs[0].token, one.top_logprobs[0].logprob) == (one.token, one.logprob)  # greedy
    none = client.chat.completions.create(**asked(logprobs=True))
    assert [one.top_logprobs for one in none.choices[0].logprobs.content] == [[] for _ in content]
    streamed = []
    for chunk in client.chat.completions.create(stream=True, **asked(logprobs=True, top_logprobs=3)):
        streamed += chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else []
    assert [one.token for one in streamed] == [one.token for one in content]


def test_the_async_client_streams_too(server, client):
    async def stream():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as asking:
            chunks = await asking.chat.completions.create(stream=True, **asked())
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    assert asyncio.run(stream()) == client.chat.completions.create(**asked()).choices[0].message.content


def test_stop_texts_of_any_script_and_content_in_parts(client):
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "你好, "}, {"type": "text", "text": "what is 2+2?"}]}
    ]
    made = client.chat.completions.create(**asked(messages=[{"role": "developer", "content": "Be brief."}, *parts]))
    assert made.choices[0].message.content == client.chat.completions.create(**asked()).choices[0].message.content
    made = client.chat.completions.create(**{**spoken("今天天气很好。明天"), "stop": ["。"]})
    assert (made.choices[0].message.content, made.choices[0].finish_reason) == ("今天天气很好", "stop")


def test_a_schema_is_kept(client):
    made = client.chat.completions.create(**asked(response_format=FORMAT, max_tokens=60, temperature=1, n=4, seed=5))
    for choice in made.choices:
        if choice.finish_reason == "stop":
            assert set(json.loads(choice.message.content)) == {"yes"}
        else:
            assert choice.finish_reason == "length"
    assert any(choice.finish_reason == "stop" for choice in made.choices)


@pytest.mark.parametrize("where", ["chat", "text"])
def test_choices_and_expressions_guide_an_answer(client, where):
    def make(**guide):
        if where == "chat":
            return client.chat.completions.create(**asked(extra_body=guide, temperature=1)).choices[0].message.content
        return client.completions.create(model="tiny", prompt="a", extra_body=guide).choices[0].text

    assert make(guided_choice=["对", "错"]) in ("对", "错")
    assert make(guided_regex="[0-9]{3}").isdigit()
    assert make(guided_grammar='start: "a" "b"') == "ab"
    assert json.loads(make(guided_json={"const": 7})) == 7


def test_calls_of_tools_come_as_calls(client):
    said = 'One moment.<tool_call>\n{"name": "weather", "arguments": {"city": "北京"}}\n</tool_call>'
    made = client.chat.completions.create(**spoken(said, tools=[TOOL]))
    choice = made.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "One moment."
    assert [call.function.name for call in choice.message.tool_calls] == ["weather"]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "北京"}
    told = {}
    for chunk in client.chat.completions.create(stream=True, **spoken(said, tools=[TOOL])):
        for call in chunk.choices[0].delta.tool_calls or []:
            told.setdefault("name", call.function.name)
            told["arguments"] = told.get("arguments", "") + call.function.arguments
        if chunk.choices[0].finish_reason:
            told["end"] = chunk.choices[0].finish_reason
    assert (told["name"], json.loads(told["arguments"]), told["end"]) == ("weather", {"city": "北京"}, "tool_calls")
    # The same text is a text where no tool was offered.
    plain = client.chat.completions.create(**spoken(said)).choices[0]
    assert (plain.message.content, plain.finish_reason) == (said, "stop")


def test_a_call_can_be_demanded(client):
    choice = {"type": "function", "function": {"name": "weather"}}
    more = {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 500}
    made = client.chat.completions.create(**asked(temperature=1, n=4, seed=2, **more))
    called = [one for one in made.choices if one.finish_reason == "tool_calls"]
    assert called and all(one.finish_reason == "length" for one in made.choices if one not in called)
    for one in called:
        assert json.loads(one.message.tool_calls[0].function.arguments)["city"] in ("Paris", "北京")


@pytest.mark.parametrize("demanded", [False, True])
def test_an_answer_beside_tools_is_a_call_or_json_of_the_schema(client, demanded):
    """As with OpenAI; a model that draws at random does both, and nothing else."""
    choice = {"tool_choice": "required"} if demanded else {}
    more = {"tools": [TOOL], "response_format": FORMAT, "max_tokens": 300, "n": 4, "temperature": 1, **choice}
    ends = {"tool_calls": 0, "stop": 0, "length": 0}
    for seed in range(4):
        for one in client.chat.completions.create(**asked(seed=seed, **more)).choices:
            ends[one.finish_reason] += 1
            if one.finish_reason == "stop":
                assert set(json.loads(one.message.content)) == {"yes"} and one.message.tool_calls is None
            elif one.finish_reason == "tool_calls":
                assert one.message.content is None
                for call in one.message.tool_calls:
                    assert json.loads(call.function.arguments)["city"] in ("Paris", "北京")
    assert ends["tool_calls"] and (ends["stop"] == 0 if demanded else ends["stop"]), ends


def test_an_answer_of_the_schema_is_no_call_whatever_it_looks_like(client):
    """Calls have their marks: JSON that is spelled as one is what the schema asked for."""
    told = {"name": {"const": "weather"}, "arguments": {"const": {"city": "London"}}}  # no city of the tool
    schema = {"type": "object", "properties": told, "required": [*told], "additionalProperties": False}
    shape = {"type": "json_schema", "json_schema": {"name": "odd", "schema": schema}}
    more = {"tools": [TOOL], "response_format": shape, "max_tokens": 300, "n": 4, "temperature": 1}
    ended = []
    for seed in range(4):
        ended += client.chat.completions.create(**asked(seed=seed, **more)).choices
    answers = [one.message for one in ended if one.finish_reason == "stop"]
    assert answers and all(one.tool_calls is None for one in answers)
    assert all(json.loads(one.content)["arguments"] == {"city": "London"} for one in answers)
    calls = [call for one in ended for call in one.message.tool_calls or ()]
    assert calls and not any("London" in call.function.arguments for call in calls)


def test_what_a_tool_returned_is_read(client, tiny):
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    returned = {"role": "tool", "tool_call_id": "1", "content": "sunny"}
    more = [*MESSAGES, {"role": "assistant", "tool_calls": [call]}, returned]
    made = client.chat.completions.create(**asked(messages=more, tools=[TOOL], tool_choice="none"))
    valued = {**call, "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    text = tiny.tokenizer.render([*MESSAGES, {"role": "assistant", "content": "", "tool_calls": [valued]}, returned])
    assert made.usage.prompt_tokens == len(tiny.tokenizer.encode(text, special=False))


def test_what_changes_nothing_is_taken(client):
    more = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "max_completion_tokens": 3}
    made = client.chat.completions.create(**asked(**more))
    assert made.usage.completion_tokens == 3  # before max_tokens


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": "a" * 5000}]}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 9, "logprobs": True}, "top_logprobs"),
        ({"n": 5}, "n"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [TOOL], "extra_body": {"guided_regex": "a"}}, "guided_regex"),
        ({"response_format": FORMAT, "extra_body": {"guided_regex": "a"}}, "guided_regex"),
        ({"tools": [TOOL], "response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"extra_body": {"guided_regex": "("}}, "guided_regex"),
        ({"extra_body": {"guided_regex": "a", "guided_choice": ["a"]}}, "guided_choice"),
        ({"extra_body": {"guided_regex": "a", "forced": [1]}}, "forced"),
        ({"modalities": ["audio"]}, "modalities.0"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(client, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked(**more))
    assert refused.value.param == param
