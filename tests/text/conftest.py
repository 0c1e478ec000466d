"""Small vocabularies, trained here, as files that both Cutaway and transformers can read."""

from __future__ import annotations

import io
import json
from pathlib import Path

import gguf
import pytest
import tokenizers
from tokenizers import decoders, trainers
from tokenizers.models import BPE

from cutaway.text.detokenizer import alphabet
from cutaway.text.presplit import PRESPLITS, presplit

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CODE = 'def f(x):\n    if x == 10:\n        return {"a": [1, 22, 333]}\n\n\nclass A:\n\tpass  # don\'t\n' * 4
EMOJI = "👨‍👩‍👧‍👦 👍🏽 🇨🇳 ❤️ 😀😀 👩🏿‍🚀 " * 4

TEXTS = (
    "",
    " ",
    "Hello world, it's the king's I'LL don't",
    "你好，世界！今天天气怎么样？北京2024年",
    CODE,
    EMOJI,
    "   a    b     \n\n \n   c\n\n\n",
    " leading and trailing ",
    "\t\ttabs\t \r\n\r\n\x00\x01\x1b[0m\x7f\x85\u200b\ufeff",
    "0 12 345 6789 3.14 1,000,000 ½ Ⅷ ① ٣",
    "x  1\n\n2\n   3\t 4",
    "<|im_start|>user\nhi<|im_end|>\n<s></s><unk><bos><eos><pad><start_of_turn>x<end_of_turn><0x0A>",
    "Привет мир مرحبا नमस्ते 日本語テスト 한국어 ไทย",
    "e\u0301 \u0301\u0302 a\u0323\u0307 ﷺ",
    "▁▁ a▁b ĠĊ",
    "=" * 70 + "-" * 33 + " " * 40 + "\n" * 50 + "a" * 50,
)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    """Texts on which tokenizers differ when they differ."""
    return TEXTS


@pytest.fixture(scope="session")
def corpus(root) -> list[str]:
    """What the small vocabularies are trained on."""
    lines = [*(root / "tests/data/english.txt").read_text(encoding="utf-8").split("\n")[:400]]
    lines += (root / "tests/data/chinese.txt").read_text(encoding="utf-8").split("\n")[:100]
    return [*lines, CODE, EMOJI, "=" * 64, " " * 32 + "x", "Hello world 12 345 " * 20]


@pytest.fixture(scope="session")
def byte_level(corpus):
    """`byte_level("qwen2")`: a byte-level BPE of 700 tokens, cut that way, with three special tokens at the end."""
    made: dict[str, tokenizers.Tokenizer] = {}

    def make(name: str) -> tokenizers.Tokenizer:
        if name not in made:
            trained = tokenizers.Tokenizer(BPE())
            trained.pre_tokenizer = presplit(name).pre_tokenizer()
            trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=sorted(alphabet()), show_progress=False)
            trained.train_from_iterator(corpus, trainer)
            vocab, merges = trained.get_vocab(), _merges(trained)
            vocab.update({token: len(vocab) + index for index, token in enumerate(SPECIAL)})
            backend = tokenizers.Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=PRESPLITS[name].whole))
            backend.pre_tokenizer = presplit(name).pre_tokenizer()
            backend.decoder = decoders.ByteLevel()
            backend.add_special_tokens(list(SPECIAL))
            made[name] = backend
        return made[name]

    return make


def _merges(backend: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]


@pytest.fixture(scope="session")
def byte_level_metadata(byte_level):
    """`byte_level_metadata("qwen2")`: the same vocabulary as a GGUF file has it."""

    def make(name: str) -> dict:
        backend = byte_level(name)
        tokens = sorted(backend.get_vocab(), key=backend.get_vocab().get)
        return {
            "general.architecture": "llama",
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": name,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
            "tokenizer.ggml.merges": [" ".join(pair) for pair in _merges(backend)],
            "tokenizer.ggml.bos_token_id": len(tokens) - 3,
            "tokenizer.ggml.eos_token_id": len(tokens) - 1,
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        }

    return make


@pytest.fixture(scope="session")
def sentencepiece_model(corpus):
    """A SentencePiece BPE of 900 pieces with bytes to fall back on, spaces kept as they are."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.98,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="session")
def sentencepiece_metadata(sentencepiece_model):
    """The same model as a GGUF file has it; `architecture` "gemma2" spells runs of spaces as Gemma's files do."""

    def make(architecture: str = "llama") -> dict:
        model = sentencepiece_model
        size = model.get_piece_size()
        tokens = [model.id_to_piece(index) for index in range(size)]
        kinds = [(model.is_unknown, 2), (model.is_control, 3), (model.is_unused, 5), (model.is_byte, 6)]
        types = [next((kind for test, kind in kinds if test(index)), 1) for index in range(size)]
        scores = [model.get_score(index) for index in range(size)]
        return {
            "general.architecture": architecture,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": scores,
            "tokenizer.ggml.token_type": types,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.add_space_prefix": architecture == "llama",
        }

    return make


@pytest.fixture(scope="session")
def gguf_twin(tmp_path_factory):
    """`gguf_twin(metadata)`: transformers' own reading of a GGUF file with that metadata."""

    def make(metadata: dict):
        from transformers import AutoTokenizer

        path = _write_gguf(tmp_path_factory.mktemp("gguf") / "twin.gguf", metadata)
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)

    return make


def _write_gguf(path: Path, metadata: dict) -> Path:
    """Writes `metadata` with the `gguf` package, and the few keys more that transformers needs to make a config."""
    architecture = metadata["general.architecture"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(4)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
