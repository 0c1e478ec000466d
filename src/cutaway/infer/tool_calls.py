"""An answer held to calls of tools: the constraint behind a `tool_choice`.

"none" and "auto" let a model write what it likes, but "auto" beside a schema leaves it calls or JSON of that schema;
"required" holds it to calls of any tool that was offered, the name of one to calls of that. The calls are spelled as
the model knows it (text/tools.py), their arguments by each tool's own JSON schema.
Read next: infer/call_reader.py, infer/constrain.py, text/tools.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cutaway.base.errors import BadInput
from cutaway.infer.constrain import Constraint, lark_json
from cutaway.infer.schema import compact, rooted
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.tools import Style, Tool

MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>")


def marks(tokenizer: Tokenizer) -> dict[int, str]:
    """The special tokens that spell a call: decoding leaves them out, so that a reader has to be told of them."""
    special = tokenizer.special
    return {special[text]: text for text in MARKS if text in special}


def held(
    tokenizer: Tokenizer,
    tools: Sequence[Tool],
    style: Style,
    choice: str | None = "auto",
    *,
    parallel: bool = True,
    answer: Mapping[str, Any] | None = None,
) -> Constraint | None:
    """What an answer has to be by a `tool_choice`: "none" and "auto" ask for nothing, "required" for calls, any other
    text for calls of that tool. `answer`: a JSON schema that "auto" leaves as the only other thing to say. Raises
    BadInput for a tool that is not there or whose schema cannot be kept."""
    if choice in (None, "none") or (choice == "auto" and answer is None):
        return None
    chosen = [tool for tool in tools if choice in ("required", "auto", tool.name)]
    if not chosen:
        raise BadInput(f"no tool is called {choice!r}" if tools else "there are no tools", field="tool_choice")
    for index, tool in enumerate(tools):
        if tool in chosen:
            place = f"tools[{index}].function.parameters"
            compact(tool.parameters, place)
            try:
                Constraint(kind="json_schema", body=tool.parameters)
            except BadInput as error:
                raise BadInput(error.message, field=place) from None
    special = {text: f"<[{id}]>" for id, text in marks(tokenizer).items()}
    calls = _grammar(chosen, style, special, parallel)
    if choice != "auto" or answer is None:
        return Constraint(kind="tools", body=f"start: calls\n{calls}")
    Constraint(kind="json_schema", body=answer)  # refused by itself where it cannot be kept
    return Constraint(kind="tools", body=f"start: calls | answer\nanswer: {lark_json(answer)}\n{calls}")


def _grammar(tools: Sequence[Tool], style: Style, special: Mapping[str, str], parallel: bool) -> str:
    """The rule `calls`, and those that it needs."""

    def mark(text: str) -> str:
        return special.get(text) or json.dumps(text)

    if style == "named":
        either = " | ".join(f"call{index}" for index in range(len(tools)))
        lines = ["calls: call+" if parallel else "calls: call", f"call: {either}"]
        for index, tool in enumerate(tools):
            schema = lark_json(_alone(tool.parameters, index))
            lines.append(f"call{index}: {mark('[TOOL_CALLS]')} {json.dumps(tool.name)} {mark('[ARGS]')} {schema}")
        return "\n".join(lines)
    schema = _any(tools, "parameters" if style == "llama" else "arguments")
    if style == "mistral":
        defs = schema.pop("$defs")
        most = {} if parallel else {"maxItems": 1}
        told = lark_json({"$defs": defs, "type": "array", "items": schema, "minItems": 1, **most})
        return f"calls: {mark('[TOOL_CALLS]')} {told}"
    if style == "llama":
        return f"calls: {lark_json(schema)}"
    begin, end = mark("<tool_call>"), mark("</tool_call>")
    calls = 'calls: call ( "\\n" call )*' if parallel else "calls: call"
    return f"{calls}\ncall: {begin} GAP body GAP {end}\nbody: {lark_json(schema)}\nGAP: /\\n?/"


def _alone(parameters: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A tool's schema with its own definitions, whatever stands around it."""
    return {"$defs": {f"tool{index}": _inner(parameters, index)}, "$ref": f"#/$defs/tool{index}"}


def _inner(parameters: Mapping[str, Any], index: int) -> Any:
    own = {key: value for key, value in parameters.items() if key not in ("$id", "$schema")}
    return rooted({"type": "object", **own}, f"#/$defs/tool{index}")


def _any(tools: Sequence[Tool], key: str) -> dict[str, Any]:
    """The schema of one call of any of the tools."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, key: {"$ref": f"#/$defs/tool{index}"}},
            "required": ["name", key],
            "additionalProperties": False,
        }
        for index, tool in enumerate(tools)
    ]
    defs = {f"tool{index}": _inner(tool.parameters, index) for index, tool in enumerate(tools)}
    return {"$defs": defs, "anyOf": calls}
