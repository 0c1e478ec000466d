"""What may come in, field by field: OpenAI's own fields, and those of `Decoding` beside them.

https://platform.openai.com/docs/api-reference/chat/create, .../completions/create, .../embeddings/create
A field that is unknown here is refused by its name, so that nothing that was asked for is silently left undone; those
that change no answer (`user`, `metadata`, ...) are taken and not used.
Read next: serve/wishes.py (to Decoding and Constraint), serve/chat.py
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cutaway.infer.decoding import MOST

Id = Annotated[int, Field(ge=0, lt=2**31)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Schema = dict[str, Any]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Wanted(Body):
    """Common to both ways of writing text."""

    model: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: Whole | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-MOST, le=MOST)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-MOST, le=MOST)] | None = None
    logit_bias: dict[str, float] | None = None
    # Beyond OpenAI's: what `Decoding` has besides.
    min_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    epsilon: Annotated[float, Field(ge=0, lt=1)] | None = None
    eta: Annotated[float, Field(ge=0, lt=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1 / MOST, le=MOST)] | None = None
    no_repeat_ngram: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    banned: list[list[Id]] | None = None
    forced: list[Id] | None = None
    end_forced: bool | None = None
    guided_json: Schema | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    # Taken, and of no effect on an answer.
    user: str | None = None


class CompletionBody(Wanted):
    prompt: str | list[str] | list[Id] | list[list[Id]]
    best_of: Annotated[int, Field(ge=1)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0)] | None = None


class Called(BaseModel):
    """A call that was made before; its arguments are JSON in a text."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    name: str
    arguments: str


class Call(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    id: str | None = None
    type: Literal["function"] = "function"
    function: Called


class Message(BaseModel):
    """What a template may want of a message besides is its own affair."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[Call] | None = None


class Function(Body):
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\-]+$")]
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class FunctionName(Body):
    name: str


class ToolChoice(Body):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Body):
    name: str
    description: str | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(Wanted):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    response_format: Format | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # Taken, and of no effect on an answer.
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class EmbeddingBody(Body):
    input: str | list[str]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
