"""What the class adds to its parts: saving, chats, display, and errors for what is not text or no id."""

from __future__ import annotations

import json

import pytest

from cutaway.base.errors import BadInput
from cutaway.text.tokenizer import Tokenizer

ARCHITECTURES = ("openai-gpt", "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
MESSAGES = [{"role": "system", "content": "简短。"}, {"role": "user", "content": "你好 <|im_end|> 👍🏽"}]


@pytest.fixture(scope="module")
def some(byte_level_metadata, sentencepiece_metadata):
    llama = Tokenizer.from_gguf(byte_level_metadata("llama-bpe"))
    return [Tokenizer.from_gguf(byte_level_metadata("qwen2")), llama, Tokenizer.from_gguf(sentencepiece_metadata())]


def test_what_is_saved_transformers_loads_with_equal_ids(some, tmp_path, texts):
    from transformers import AutoTokenizer

    for index, tokenizer in enumerate(some):
        folder = tmp_path / str(index)
        tokenizer.save(folder)
        again, twin = Tokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
        assert again.vocab == tokenizer.vocab == len(twin)
        assert (again.bos_id, again.eos_id) == (twin.bos_token_id, twin.eos_token_id)
        assert again.eos_ids == tokenizer.eos_ids
        assert again.vocabulary.names == tokenizer.vocabulary.names
        assert again.template == tokenizer.template == twin.chat_template
        for text in texts:
            ids = tokenizer.encode(text)
            assert ids == again.encode(text) == twin.encode(text), text
            assert tokenizer.decode(ids) == again.decode(ids) == twin.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_beside_a_model_it_is_still_read_as_itself(some, tmp_path, texts, architecture):
    """transformers picks a tokenizer class by the model beside it, and some classes bring a cut of their own."""
    from transformers import AutoTokenizer

    tokenizer = some[0]
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture}), encoding="utf-8")
    twin = AutoTokenizer.from_pretrained(tmp_path)
    for text in texts:
        if architecture == "qwen2" and "\u0301" in text:
            continue  # its class brings Unicode to NFC, which a GGUF file does not say
        assert twin.encode(text) == tokenizer.encode(text), text


def test_saving_keeps_what_a_generation_config_says_and_lets_go_of_an_old_template(some, tmp_path):
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.5}', encoding="utf-8")
    (tmp_path / "chat_template.jinja").write_text("old", encoding="utf-8")
    some[2].save(tmp_path)
    generation = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    assert generation == {"temperature": 0.5, "bos_token_id": 1, "eos_token_id": [2]}
    assert Tokenizer.from_folder(tmp_path).template is None


def test_chats_are_those_of_transformers(byte_level_metadata, gguf_twin):
    metadata = byte_level_metadata("qwen2")
    ours, twin = Tokenizer.from_gguf(metadata), gguf_twin(metadata)
    for prompt in (True, False):
        expected = twin.apply_chat_template(MESSAGES, add_generation_prompt=prompt, return_dict=False)
        assert ours.chat(MESSAGES, generation_prompt=prompt) == expected
        text = twin.apply_chat_template(MESSAGES, add_generation_prompt=prompt, tokenize=False)
        assert ours.render(MESSAGES, prompt) == text


def test_a_special_token_in_a_message_is_that_token(some):
    tokenizer = some[0]
    end = tokenizer.special["<|im_end|>"]
    assert tokenizer.chat(MESSAGES).count(end) == 3, "two that end the messages and one that a user wrote"


def test_a_base_model_has_no_chat(some):
    with pytest.raises(BadInput, match="chat template: there is none: this is a base model"):
        some[2].chat(MESSAGES)


def test_bos_belongs_to_texts_and_not_to_chats(some):
    llama = some[1]
    with_bos = Tokenizer.from_gguf({**llama.to_gguf(), "tokenizer.ggml.add_bos_token": True})
    assert with_bos.encode("a")[0] == with_bos.bos_id
    rendered = with_bos.render(MESSAGES)
    assert with_bos.chat(MESSAGES) == with_bos.encode(rendered, special=False)


def test_tokens_as_a_person_reads_them(some):
    level, _, pieces = some
    assert "".join(level.token(index) for index in level.encode(" Hello\n")) == " Hello\n"
    assert level.token(level.special["<|im_end|>"]) == "<|im_end|>"
    assert "\\xf0" in "".join(level.token(index) for index in level.encode("🤖")), "bytes that are no character alone"
    assert "".join(pieces.token(index) for index in pieces.encode("Hello", special=False)) == " Hello"
    assert level.token(10**6) == "[1000000]"
    assert level.token(-1) == "[-1]"


def test_ids_that_are_none_and_texts_that_are_none(some):
    tokenizer = some[0]
    assert tokenizer.decode([tokenizer.vocab, 10**9]) == "", "rows that only pad an embedding"
    with pytest.raises(BadInput, match="-1 is not a token's id"):
        tokenizer.decode([5, -1])
    with pytest.raises(BadInput, match="only text can be encoded, not a bytes"):
        tokenizer.encode(b"abc")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="text: character 3 is half of a surrogate pair"):
        tokenizer.encode("ab \ud83d")


def test_no_torch_comes_with_it():
    import subprocess
    import sys

    code = "import sys, cutaway.text.tokenizer; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
