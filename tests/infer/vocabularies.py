"""Small vocabularies of every kind that is read, and somebody who writes at random within a constraint.

V vocabulary.
"""

from __future__ import annotations

import random
import weakref

import torch
from tokenizers import AddedToken, decoders
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from cutaway.infer.constrain import Constraint, Matcher
from cutaway.infer.decoding import Decoding
from cutaway.infer.sampler import choose
from cutaway.text import spm
from cutaway.text.detokenizer import alphabet
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.vocabulary import Vocabulary

# Tokens that end in the middle of what a grammar looks at: of a key, of a number, of two braces.
JSON = ['{"', '":', '": "', '", "', '"}', '"]', "[]", "{}", "}}", "]}", "[{", "true", "fal", "se", "null", "12", "0."]
WORDS = ["hello", " hello", " world", "tool", "name", "ab", "aab", "  ", " {", ' {"', " a", "\n  "]
WORDS += ["北京", "你好", "，世", "👍"]
SPECIAL = ["<end>", "<turn>", "<pad>", "[TOOL_CALLS]"]
KINDS = ("byte-level", "spm", "gemma", "metaspace", "characters")
CHARACTERS = [chr(code) for code in range(32, 127)] + ["\n", "\t", "é", "北", "京", "你", "好", "，", "世", "界"]


def tokenizer(kind: str, *, ends: bool = True, template: str | None = None) -> Tokenizer:
    """One of KINDS, with all bytes (or enough characters), JSON and WORDS as tokens, and SPECIAL behind them."""
    if kind == "byte-level":
        spelled = alphabet()
        tokens = [*spelled, *("".join(spelled[byte] for byte in text.encode("utf-8")) for text in (*JSON, *WORDS))]
        tokens += ["".join(spelled[byte] for byte in part) for part in (b"\xe5\x8c", b"\x97\xe4\xba", b"\xf0\x9f")]
    elif kind == "characters":
        tokens = CHARACTERS
    else:
        tokens = [
            "<unk>",
            *(f"<0x{byte:02X}>" for byte in range(256)),
            *(text.replace(" ", "▁") for text in CHARACTERS),
        ]
        tokens += [text.replace(" ", "▁") for text in (*JSON, *WORDS)]
    tokens = list(dict.fromkeys([*tokens, *SPECIAL]))
    vocab = {token: index for index, token in enumerate(tokens)}
    if kind in ("spm", "gemma"):
        backend = spm.build(vocab, [], unknown="<unk>", prefix=kind == "spm")
    else:
        backend = Backend(BPE(vocab=vocab, merges=[]))
        backend.decoder = {
            "byte-level": decoders.ByteLevel(),
            "metaspace": decoders.Metaspace(),
            "characters": decoders.Fuse(),
        }[kind]
    marked = [*SPECIAL, *(["<unk>"] if "<unk>" in vocab else [])]
    if kind == "metaspace":  # its decoder knows no bytes: `<0xE4>` is what it says
        marked += [f"<0x{byte:02X}>" for byte in range(256)]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in marked])
    return Tokenizer(
        Vocabulary(
            backend=backend,
            names={"eos_token": "<end>"} if ends else {},
            eos_ids=frozenset({vocab["<end>"], vocab["<turn>"]}) if ends else frozenset(),
            templates={"default": template} if template else {},
        )
    )


_written: weakref.WeakKeyDictionary[Tokenizer, torch.Tensor] = weakref.WeakKeyDictionary()


def closing(tokenizer: Tokenizer) -> torch.Tensor:
    """Logits (V,) that like what closes: a random writer would hardly ever end a string."""
    if tokenizer not in _written:
        words = [tokenizer.token(id) for id in range(tokenizer.vocab)]
        likes = [
            3.0 * sum(word.count(one) for one in '"}]') - 2.0 * word.count("[") - 2.0 * word.count("{")
            for word in words
        ]
        _written[tokenizer] = torch.tensor([one + 3.0 * (id in tokenizer.eos_ids) for id, one in enumerate(likes)])
    return _written[tokenizer]


def scribble(
    tokenizer: Tokenizer, constraint: Constraint, seed: int, *, most: int = 120, temperature: float = 1.0
) -> tuple[str, str, Matcher]:
    """A text by random logits within the constraint, why it ended, and its matcher."""
    matcher, text, draw = constraint.begin(tokenizer), tokenizer.detokenizer(), random.Random(seed)
    noise = torch.Generator().manual_seed(seed)
    decoding, said, reason = Decoding(temperature=temperature), "", "length"
    for _ in range(most):
        logits_V = torch.randn(tokenizer.vocab + 3, generator=noise)
        logits_V[: tokenizer.vocab] += closing(tokenizer)
        token = choose(matcher.mask(logits_V), decoding, draw)
        matcher.take(token)
        if token not in tokenizer.eos_ids:
            said += text.push(token)
        if token in tokenizer.eos_ids or matcher.done:
            reason = "stop"
            break
    return said + text.flush(), reason, matcher
