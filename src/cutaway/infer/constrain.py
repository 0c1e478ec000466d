"""Structured output: the next token is chosen among those after which the answer can still become what was asked for.

Willard and Louf 2023 (arXiv 2307.09702): a grammar over characters becomes, at each place of an answer, a mask over
the vocabulary; z[i] = -inf for every token i that leads out of the grammar. The grammars (JSON schemas, regular
expressions, context-free ones) are llguidance's: derivatives of expressions for the lexer, Earley's algorithm for the
parser, one walk over the trie of all tokens' bytes for a mask (Geng et al. 2025, arXiv 2501.10868, section 4.2).
An answer that ends with "stop" is whole, unless one of `Decoding.stop`'s texts cut it; one that ends with "length" may
be cut anywhere. An end of text is possible only where the grammar allows one; an answer that can only end, ends.
A constraint from a stranger costs bounded time and memory: what is too large is refused, and an answer whose masks cost
more than BURST seconds, and EACH for every one of them, ends.
V vocabulary.   Read next: text/token_bytes.py, infer/schema.py, infer/tool_calls.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cutaway.base.errors import BadInput, MissingExtra
from cutaway.infer.request import Stuck
from cutaway.infer.schema import LONGEST, compact
from cutaway.infer.spelled import Spelled

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.infer.decoding import Decoding
    from cutaway.text.tokenizer import Tokenizer

Kind = Literal["json_schema", "json_object", "regex", "choice", "grammar", "tools"]
BURST, EACH = 0.5, 0.01  # seconds of one thread; a usual mask takes 0.0003 of 49,152 tokens
JSON_STYLE = {
    # Endless blanks are what a small model likes best inside JSON: at most 16 in one place.
    "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,16}",
    # Without \u: an escape could spell half a character, or a key that stands in the schema under another rule.
    "json_allowed_escapes": 'nrbtf\\"',
}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """What an answer has to be. `body`, by `kind`:

    "json_schema": a schema, as a mapping or as JSON; "json_object": nothing, any JSON object is right; "regex": an
    expression that the whole answer matches (Rust's syntax: no looking around, no back references); "choice": texts,
    one of which is the answer; "grammar": Lark's EBNF with a rule `start`, or GBNF with a rule `root`; "tools": a
    grammar as infer/tool_calls.py makes it. Raises BadInput, its field the kind, for what can never be satisfied or is
    too large.
    """

    kind: Kind
    body: Any = None
    grammar: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in GRAMMARS:
            raise BadInput(f"is no kind of constraint; known: {', '.join(GRAMMARS)}", field=repr(self.kind))
        grammar = GRAMMARS[self.kind](self.body)
        object.__setattr__(self, "grammar", grammar)
        if self.kind not in ("grammar", "tools"):  # these may name a tokenizer's special tokens
            said = _llguidance().LLMatcher.validate_grammar(grammar, None, limits=_limits())
            if said and not said.startswith("WARNING"):
                raise BadInput(_line(said), field=self.kind)

    def __hash__(self) -> int:
        return hash((self.kind, self.grammar))

    def begin(self, tokenizer: Tokenizer | None) -> Matcher:
        """A matcher at the beginning of an answer. Raises BadInput where this tokenizer can write no such answer."""
        if tokenizer is None:
            raise BadInput("a model without a tokenizer cannot be held to one", field=self.kind)
        spelled = Spelled.of(tokenizer)
        made = spelled.matchers.get(self.grammar)
        if made is None:
            ll = _llguidance().LLMatcher(spelled.vocabulary, self.grammar, log_level=0, limits=_limits())
            made = Matcher(ll, spelled)
            try:
                if ll.is_error():
                    raise Stuck(_line(ll.get_error()))
                if not made.allowed().any():
                    raise Stuck("allows no text that this tokenizer can write")
            except Stuck as error:
                raise BadInput(str(error), field=self.kind) from None
            spelled.keep(self.grammar, made)
        return made.copy()

    def agrees(self, decoding: Decoding) -> None:
        """Raises BadInput where `decoding` says itself what must be written."""
        for name in ("forced", "end_forced"):
            if getattr(decoding, name):
                raise BadInput(f"says what must be written, and so does the constraint ({self.kind})", field=name)


class Matcher:
    """Follows one answer. `mask`, then `take` what was chosen; `back` undoes the last of them."""

    def __init__(self, ll: Any, spelled: Spelled, past: Sequence[bool] = ()):
        self._ll, self._spelled = ll, spelled
        self._past = list(past)  # of each token that was taken: whether it went into the parser
        self._spent, self._masks = 0.0, 0

    @property
    def done(self) -> bool:
        """Whether the answer is whole and nothing can follow."""
        return self._ll.is_stopped() and not self._ll.is_error()

    @property
    def accepts(self) -> bool:
        """Whether the answer is whole as it stands; more may follow."""
        return self._ll.is_accepting()

    def allowed(self) -> Any:
        """Which ids may come next, (V of the tokenizer,) numpy bool; ends among them. Raises Stuck."""
        start = time.thread_time()
        bits = self._ll.compute_bitmask()
        if self._ll.is_error():
            raise Stuck(_line(self._ll.get_error()))
        self._spent, self._masks = self._spent + time.thread_time() - start, self._masks + 1
        if self._spent > BURST + EACH * self._masks:
            raise Stuck(f"is too costly: {self._spent:.1f} seconds for {self._masks} tokens")
        return self._spelled.allowed(bits, first=not self._past)

    def mask(self, logits_V: Tensor) -> Tensor:
        """The same logits, with those of tokens that may not come at -inf. Raises Stuck where none is left."""
        import torch

        with torch.inference_mode():
            allowed = self.allowed()[: logits_V.shape[0]]
            open_V = torch.zeros(logits_V.shape[0], dtype=torch.bool)
            open_V[: allowed.shape[0]] = torch.from_numpy(allowed)
            masked_V = logits_V.masked_fill(~open_V.to(logits_V.device), -torch.inf)
            if bool(masked_V.max().isneginf()):
                raise Stuck("the other rules leave none of the tokens that the constraint allows")
        return masked_V

    def fits(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` may follow one another from here."""
        trial = self.copy()
        for count, token in enumerate(tokens):
            if not trial._takes(token):
                return count
        return len(tokens)

    def take(self, token: int) -> None:
        """The token that was chosen. Raises Stuck, and changes nothing, for one that may not come."""
        if not self._takes(token):
            raise Stuck(f"token {token} may not come here")

    def _takes(self, token: int) -> bool:
        if self.done:  # an end behind the end says nothing new
            if token not in self._spelled.ends:
                return False
            self._past.append(False)
            return True
        id = token if self._past else self._spelled.first(token)
        if id is not None and (id < 0 or self._ll.validate_tokens([id]) != 1 or not self._ll.consume_token(id)):
            return False
        self._past.append(id is not None)
        return True

    def back(self, count: int) -> None:
        """Undoes the last `count` tokens."""
        if not 0 <= count <= len(self._past):
            raise BadInput(f"only {len(self._past)} tokens were taken, not {count}", field="count")
        kept = len(self._past) - count
        parsed = sum(self._past[kept:])
        del self._past[kept:]
        if parsed and not self._ll.rollback(parsed):
            raise Stuck("this grammar cannot go back")

    def copy(self) -> Matcher:
        """Another one at the same place."""
        return Matcher(self._ll.deep_copy(), self._spelled, self._past)


def _json_schema(body: Any) -> str:
    return _llguidance().LLMatcher.grammar_from_json_schema(compact(body, "json_schema"), overrides=JSON_STYLE)


def _json_object(body: Any) -> str:
    if body is not None:
        raise BadInput("takes nothing: any JSON object is right", field="json_object")
    return _json_schema({"type": "object"})


def _regex(body: Any) -> str:
    return _llguidance().LLMatcher.grammar_from_regex(_text(body, "regex"))


def _choice(body: Any) -> str:
    texts = [body] if isinstance(body, str) else list(body) if isinstance(body, (list, tuple)) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise BadInput("must be texts that are not empty, at least one", field="choice")
    _text("".join(texts), "choice")
    return _llguidance().LLMatcher.grammar_from_regex("|".join(literal(text) for text in texts))


def _grammar(body: Any) -> str:
    text = _text(body, "grammar")
    if "::=" in text:
        _llguidance()
        from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

        try:
            text = gbnf_to_lark(text)
        except (GbnfToLarkError, RecursionError, ValueError) as error:
            raise BadInput(f"is no GBNF: {_line(str(error))}", field="grammar") from None
    return _llguidance().LLMatcher.grammar_from_lark(text)


def _tools(body: Any) -> str:
    return _llguidance().LLMatcher.grammar_from_lark(_text(body, "tools"))


GRAMMARS: Mapping[str, Callable[[Any], str]] = {
    "json_schema": _json_schema,
    "json_object": _json_object,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
    "tools": _tools,
}


def literal(text: str) -> str:
    """An expression that matches `text` alone."""
    return "".join(f"\\{one}" if one in r"\.+*?()|[]{}^$#&-~/" else one for one in text)


def lark_json(schema: Mapping[str, Any]) -> str:
    """A schema as it stands inside a Lark grammar."""
    return "%json " + json.dumps({**schema, "x-guidance": JSON_STYLE})


def _text(body: Any, name: str) -> str:
    if not isinstance(body, str) or not body.strip():
        raise BadInput(f"must be a text that is not empty, is a {type(body).__name__}", field=name)
    if len(body) > LONGEST:
        raise BadInput(f"{len(body)} characters long; at most {LONGEST}", field=name)
    try:
        body.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput("holds half a character (a lone surrogate)", field=name) from None
    return body


def _line(said: str) -> str:
    """The first of llguidance's lines that says something, without its state."""
    said = said.split("<state>")[0].split("<non-verbose/>")[0].replace("NoExtensionBias", "no text fits it")
    return " ".join(said.split())[:300] or "no text fits it"


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise MissingExtra("llguidance", "serve") from None
    return llguidance


def _limits() -> Any:
    return _llguidance().LLParserLimits(max_lexer_states=30_000, verbose_errors=False)  # a state takes 1 to 2 kB
