r"""How a text is cut before byte-pair merges: `tokenizer.ggml.pre` in GGUF names one of these cuts.

Merges were learned inside these pieces and never across them, so a wrong cut gives wrong ids without any error.
GPT-2's regular expression is the oldest (Radford et al. 2019, released code); each later model widened what may lead a
word, narrowed digits to groups of three or one, or kept punctuation and line ends together.
GGUF files store a name and not the expression; the names and expressions here are those that llama.cpp and the models'
own tokenizer.json agree on.
Read next: text/gguf_vocab.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, pre_tokenizers

from cutaway.base.errors import BadInput

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{{0}}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{{0}}"
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"

_LLAMA3 = _WORD + r"|\p{N}{1,3}" + _SYMBOLS + _SPACES
_QWEN2 = _WORD + r"|\p{N}" + _SYMBOLS + _SPACES
_QWEN35 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _SPACES
_GPT4O = _CASED.replace("{0}", _CONTRACTION + "?") + r"|\p{N}{1,3}" + _SLASHED + _SPACES
_TEKKEN = _CASED.replace("{0}", "") + r"|\p{N}" + _SLASHED + _SPACES
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    + _SPACES,
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")


@dataclass(frozen=True, kw_only=True)
class Presplit:
    """One way to cut: `patterns` are applied one after another inside the pieces so far; then GPT-2's if `gpt2`.

    `digits` first sets every digit apart. `whole` takes a piece that is itself a token without merging (the file's
    vocabulary was made for tiktoken, which looks there first). `bos` is whether such files begin texts with BOS when
    they do not say.
    """

    patterns: tuple[str, ...] = ()
    digits: bool = False
    gpt2: bool = False
    whole: bool = False
    bos: bool = False

    def pre_tokenizer(self) -> Any:
        cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in self.patterns]
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.gpt2)
        steps = [*([pre_tokenizers.Digits(individual_digits=True)] if self.digits else []), *cuts, byte_level]
        return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


_GPT2 = Presplit(gpt2=True)
_DIGITS = Presplit(gpt2=True, digits=True)
_THREES = Presplit(patterns=(_LLAMA3,))
_ONES = Presplit(patterns=(_QWEN2,))
_CASES = Presplit(patterns=(_GPT4O,))
_WHOLE = Presplit(patterns=(_LLAMA3,), whole=True, bos=True)

PRESPLITS: Mapping[str, Presplit] = {
    **dict.fromkeys(("gpt-2", "gpt2", "default", "phi-2"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"), _WHOLE),
    **dict.fromkeys(("smaug-bpe", "dbrx", "chatglm-bpe", "glm4"), _THREES),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan", "kormo"), _ONES),
    "qwen35": Presplit(patterns=(_QWEN35,)),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), _CASES),
    "tekken": Presplit(patterns=(_TEKKEN,), whole=True, bos=True),
    "deepseek-v3": Presplit(patterns=_DEEPSEEK3),
    "deepseek-coder": Presplit(patterns=_DEEPSEEK_CODER),
}


def presplit(name: str, source: Any = None) -> Presplit:
    """The cut of that name. Raises BadInput, with the names there are: any other cut would give wrong ids."""
    found = PRESPLITS.get(name)
    if found is None:
        known = ", ".join(sorted(PRESPLITS))
        raise BadInput(f"unknown way to cut text {name!r}; known: {known}", source=source, field="tokenizer.ggml.pre")
    return found


def name_of(backend: Tokenizer, *, whole: bool) -> str | None:
    """The GGUF name of how `backend` cuts, or None if none of ours does the same. The inverse of `presplit`."""
    wanted = _shape(backend.pre_tokenizer)
    same = [name for name, cut in PRESPLITS.items() if _shape(cut.pre_tokenizer()) == wanted]
    return next((name for name in same if PRESPLITS[name].whole == whole), same[0] if same else None)


def _shape(pre_tokenizer: Any) -> tuple[Any, ...] | None:
    """A pre-tokenizer as comparable data: its cuts in order, whatever way they are nested or written."""
    if pre_tokenizer is None:
        return None
    flat: list[Any] = []
    waiting = [json.loads(pre_tokenizer.__getstate__())]
    while waiting:
        step = waiting.pop(0)
        if step["type"] == "Sequence":
            waiting = [*step["pretokenizers"], *waiting]
        elif step["type"] == "Split" and step["behavior"] == "Isolated" and not step.get("invert"):
            flat.append(step["pattern"].get("Regex"))
        elif step["type"] == "Digits" and step["individual_digits"]:
            flat.append("digits")
        elif step["type"] == "ByteLevel" and not step["add_prefix_space"]:
            flat.append("gpt2" if step.get("use_regex", True) else "bytes")
        else:
            return None
    return tuple(flat)
