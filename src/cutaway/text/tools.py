"""Tools in a conversation: what a model may call, told in its own template's way, or in plain words where it has none.

A tool is a function's name, description and JSON schema of arguments, as transformers' and OpenAI's `tools` hold it.
Which spelling of a call a model was trained on shows in its template:
  hermes    <tool_call>{"name": ..., "arguments": {...}}</tool_call>     Hermes 2 Pro, Qwen 2.5 and 3, SmolLM2
  mistral   [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]         Mistral 7B v0.3 to Nemo
  named     [TOOL_CALLS]NAME[ARGS]{...}                                  Mistral from Small 3.2 on
  llama     {"name": ..., "parameters": {...}}                           Llama 3.1 to 3.3
A template that knows no tools gets them as a system message that asks for the first spelling: most small open models
have seen it, and its two marks tell a call from any text around it. Where the template takes no system message, it
stands before the first user message; what tools returned comes as a user's <tool_response>. The alternative, a refusal,
would leave out every base model that somebody gave a chat template.
Read next: text/chat.py, infer/tool_calls.py, infer/call_reader.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cutaway.base.errors import BadInput
from cutaway.text.tokenizer import Tokenizer

Style = Literal["hermes", "mistral", "named", "llama"]
MOST = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ASKED = re.compile(r"\{[%{][^}]*\btools\b")

ASKING = """\
You can call functions. Each line between <tools> and </tools> describes one, its arguments by a JSON schema:
<tools>
{tools}
</tools>
To call a function, write its name and arguments as JSON between <tool_call> and </tool_call>:
<tool_call>
{{"name": "NAME", "arguments": {{"ARGUMENT": "VALUE"}}}}
</tool_call>
What it returns comes back between <tool_response> and </tool_response>. Call only what is described, and only if it \
helps; otherwise answer in words."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that a model may call; `parameters` is a JSON schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})

    def plain(self) -> dict[str, Any]:
        """As templates take it."""
        told = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": told}


def tools_of(value: Any) -> tuple[Tool, ...]:
    """The tools of a list of {"type": "function", "function": {"name", "description", "parameters"}}, or of the inner
    mappings alone. Raises BadInput naming the place."""
    if not isinstance(value, (list, tuple)) or not value:
        raise BadInput("must be a list of functions, at least one", field="tools")
    if len(value) > MOST:
        raise BadInput(f"there are {len(value)}; at most {MOST}", field="tools")
    tools = tuple(_tool(one, f"tools[{index}]") for index, one in enumerate(value))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise BadInput(f"{tool.name!r} is there twice", field=f"tools[{index}].function.name")
        seen.add(tool.name)
    return tools


def _tool(value: Any, place: str) -> Tool:
    if not isinstance(value, Mapping):
        raise BadInput(f"must be an object, is a {type(value).__name__}", field=place)
    if "function" in value or "type" in value:
        if value.get("type", "function") != "function":
            raise BadInput(f"only functions can be called, not {value['type']!r}", field=f"{place}.type")
        value, place = value.get("function"), f"{place}.function"
        if not isinstance(value, Mapping):
            raise BadInput("must be an object with a name", field=place)
    name, said, schema = value.get("name"), value.get("description"), value.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput("must be 1 to 64 letters, digits, dots, dashes and underscores", field=f"{place}.name")
    if said is not None and not isinstance(said, str):
        raise BadInput("must be a text", field=f"{place}.description")
    if schema is None:
        return Tool(name=name, description=said or "")
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise BadInput("must be the JSON schema of an object", field=f"{place}.parameters")
    return Tool(name=name, description=said or "", parameters=dict(schema))


def template_of(tokenizer: Tokenizer) -> str | None:
    """The template that speaks of tools, if there are several."""
    templates = tokenizer.vocabulary.templates
    return templates.get("tool_use") or templates.get("default")


def knows_tools(tokenizer: Tokenizer) -> bool:
    """Whether this model's template has a place for tools."""
    template = template_of(tokenizer)
    return template is not None and _ASKED.search(template) is not None


def style_of(tokenizer: Tokenizer) -> Style:
    """How this model spells a call. One that we do not know is asked for `hermes`, as one that knows none."""
    template = template_of(tokenizer) or ""
    if not knows_tools(tokenizer):
        return "hermes"
    if "[TOOL_CALLS]" in template:
        return "named" if "[ARGS]" in template else "mistral"
    if "<tool_call>" not in template and ("<|python_tag|>" in template or '"parameters"' in template):
        return "llama"
    return "hermes"


def render(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Tool],
    generation_prompt: bool = True,
    *,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The conversation with its tools as text. Calls in `messages` are OpenAI's or transformers'. Raises BadInput as
    `Tokenizer.render` does."""
    messages = [valued(message) for message in messages]
    if knows_tools(tokenizer):
        told = [tool.plain() for tool in tools] or None
        return tokenizer.render(messages, generation_prompt, tools=told, variables=variables)
    try:
        return tokenizer.render(spelled_out(messages, tools), generation_prompt, variables=variables)
    except BadInput:
        if not tools:
            raise
        # Gemma's template, and others: no system message. Whatever else was wrong is wrong again.
        told = spelled_out(messages, tools, system=False)
        return tokenizer.render(told, generation_prompt, variables=variables)


def valued(message: Mapping[str, Any]) -> dict[str, Any]:
    """The same message, the arguments of its calls as values: in OpenAI's API they are JSON in a text."""
    calls = message.get("tool_calls")
    if not isinstance(calls, (list, tuple)):
        return dict(message)
    return {**message, "tool_calls": [_valued(call) for call in calls]}


def _valued(call: Any) -> Any:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("arguments"), str):
        return call
    try:
        made = {**inner, "arguments": json.loads(inner["arguments"])}
    except (ValueError, RecursionError):  # cut off: it stays the text that it is
        return call
    return {**call, "function": made} if "function" in call else made


def spelled_out(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], *, system: bool = True
) -> list[dict[str, Any]]:
    """The conversation for a template that knows no tools: all of them in the words of the `hermes` spelling."""
    said: list[dict[str, Any]] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            text = f"<tool_response>\n{content}\n</tool_response>"
            if said and said[-1].get("role") == "user" and said[-1].get("told"):
                said[-1]["content"] += "\n" + text
            else:
                said.append({"role": "user", "content": text, "told": True})
        elif message.get("tool_calls"):
            calls = [_spelled(call) for call in message["tool_calls"]]
            said.append({"role": role, "content": "\n".join([*([content] if content else []), *calls])})
        else:
            said.append(dict(message))
    said = [{key: value for key, value in message.items() if key != "told"} for message in said]
    if not tools:
        return said
    lines = "\n".join(json.dumps(tool.plain(), ensure_ascii=False) for tool in tools)
    return _before(said, ASKING.format(tools=lines), system=system)


def _before(messages: list[dict[str, Any]], text: str, *, system: bool) -> list[dict[str, Any]]:
    """The same conversation with `text` in its system message, or before its first user's."""
    own = messages[0]["content"] + "\n\n" if messages and messages[0].get("role") == "system" else ""
    rest = messages[1:] if own else messages
    if system:
        return [{"role": "system", "content": own + text}, *rest]
    at = next((index for index, one in enumerate(rest) if one.get("role") == "user"), None)
    if at is None:
        raise BadInput("a conversation needs a user's message", field="messages")
    first = {**rest[at], "content": f"{own}{text}\n\n{rest[at]['content']}"}
    return [*rest[:at], first, *rest[at + 1 :]]


def _spelled(call: Any) -> str:
    inner = call.get("function", call)
    told = {"name": inner.get("name"), "arguments": inner.get("arguments")}
    return f"<tool_call>\n{json.dumps(told, ensure_ascii=False)}\n</tool_call>"
