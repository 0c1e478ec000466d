"""The `openai` client, unchanged, has texts turned to vectors."""

from __future__ import annotations

import openai
import pytest
import torch

TEXTS = ["the cat sat.", "中国", ""]


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_vectors_are_those_of_the_model(client, embedder, form):
    """The client asks for base64 by itself, and unpacks it."""
    options = {} if form is None else {"encoding_format": form}
    made = client.embeddings.create(model="vectors", input=TEXTS, **options)
    expected = embedder.language.embed(TEXTS)
    assert [one.index for one in made.data] == [0, 1, 2]
    if form == "base64":
        assert isinstance(made.data[0].embedding, str)
    else:
        assert torch.equal(torch.tensor([one.embedding for one in made.data]), expected)
    read = sum(len(embedder.tokenizer.encode(text)) for text in TEXTS)
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (read, read)


def test_one_text_and_many_are_the_same(client):
    many = client.embeddings.create(model="vectors", input=["a b c", *["the cat"] * 30]).data
    one = client.embeddings.create(model="vectors", input="a b c", dimensions=24).data
    assert len(many) == 31
    assert one[0].embedding == pytest.approx(many[0].embedding, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["a"] * 41}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": "a", "dimensions": 7}, "dimensions"),
        ({"input": "a", "model": "tiny"}, "model"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(client, asked, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**{"model": "vectors", **asked})
    assert refused.value.param.split(".")[0] == param


def test_an_encoder_does_not_talk(client):
    with pytest.raises(openai.BadRequestError, match="writes no text"):
        client.completions.create(model="vectors", prompt="a")
