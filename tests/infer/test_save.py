"""A saved folder is what transformers and vLLM serve: their files, their names, the same tokens."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

import cutaway

from ..serve.small import TEMPLATE, language

# What both look for in a folder. vLLM takes the class from `architectures`, weights from *.safetensors, and the chat
# template from the tokenizer's files (https://docs.vllm.ai/en/latest/models/supported_models.html).
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
CHAT = [{"role": "user", "content": "hello, 世界"}]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    made = language(folder / "tokenizer")
    cutaway.save(made, folder / "model")
    return made, folder / "model"


def test_the_files_have_the_names_that_servers_look_for(saved):
    _, folder = saved
    assert {path.name for path in folder.iterdir()} >= FILES
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["architectures"], config["model_type"]) == (["LlamaForCausalLM"], "llama")
    assert config["vocab_size"] == 260 and config["max_position_embeddings"] == 1024
    tokens = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokens["chat_template"] == TEMPLATE
    assert json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] in (259, [259])


def test_transformers_serves_the_same(saved):
    """Its own classes, from the folder alone, nothing said of the kind of model."""
    made, folder = saved
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    assert ids == made.tokenizer.chat(CHAT)
    with torch.inference_mode():
        written = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    assert written == list(made.generate(CHAT, max_tokens=12).tokens)
