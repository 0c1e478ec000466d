"""The `openai` client, unchanged, gets texts continued, each as the model alone would."""

from __future__ import annotations

import asyncio

import openai
import pytest
import torch

from cutaway.infer.proposers import PromptLookup
from cutaway.serve.app import application
from cutaway.serve.bounds import Bounds
from cutaway.serve.roster import Roster
from cutaway.serve.run import Running

from .small import LENGTH, bytes_of, speaker

PROMPT = "hello, 世界"


def alone(tiny, prompt, count):
    return tiny.service.language.generate(prompt, max_tokens=count)


def test_a_text_goes_on_as_the_model_alone_goes_on(client, tiny):
    made = client.completions.create(model="tiny", prompt=PROMPT, temperature=0)
    expected = alone(tiny, PROMPT, 16)  # OpenAI's own default
    assert made.object == "text_completion" and made.model == "tiny" and made.id.startswith("cmpl-")
    assert [choice.text for choice in made.choices] == [expected.text]
    assert made.choices[0].finish_reason == expected.finish_reason
    assert made.choices[0].logprobs is None
    read = len(tiny.tokenizer.encode(PROMPT))
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (read, len(expected.tokens))
    assert made.usage.total_tokens == read + len(expected.tokens)


@pytest.mark.parametrize("kind", ["text", "texts", "ids", "lists"])
def test_prompts_come_in_four_kinds(client, tiny, kind):
    texts = ["hello", "the 中国"]
    ids = [tiny.tokenizer.encode(text) for text in texts]
    prompt = {"text": texts[0], "texts": texts, "ids": ids[0], "lists": ids}[kind]
    made = client.completions.create(model="tiny", prompt=prompt, temperature=0, max_tokens=7)
    expected = [alone(tiny, text, 7).text for text in (texts if kind in ("texts", "lists") else texts[:1])]
    assert [choice.text for choice in made.choices] == expected
    assert [choice.index for choice in made.choices] == list(range(len(expected)))


def test_samples_have_seeds_and_the_best_of_several_come_first(client):
    asked = {"model": "tiny", "prompt": ["a", "b"], "max_tokens": 6, "temperature": 1.0, "seed": 7, "logprobs": 0}
    made = client.completions.create(n=3, **asked)
    assert [choice.index for choice in made.choices] == list(range(6))
    assert len({choice.text for choice in made.choices[:3]}) > 1
    assert [choice.text for choice in client.completions.create(n=3, **asked).choices] == [
        choice.text for choice in made.choices
    ]
    best = client.completions.create(n=1, best_of=3, **asked)

    def mean(choice):
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    for place in range(2):
        drawn = made.choices[3 * place : 3 * place + 3]
        assert best.choices[place].text == max(drawn, key=mean).text


def test_echo_tells_the_prompt_with_its_logprobs(client, tiny):
    """Oracle: one pass over the whole text, and its log softmax."""
    made = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=2, echo=True, logprobs=2, temperature=0)
    choice, ids = made.choices[0], tiny.tokenizer.encode(PROMPT)
    answer = alone(tiny, PROMPT, 2)
    assert choice.text == PROMPT + answer.text
    told = choice.logprobs
    whole = [*ids, *answer.tokens]
    assert told.tokens == [tiny.tokenizer.token(id) for id in whole]
    logprobs_TV = tiny.service.language(torch.tensor([whole]))[0].detach().log_softmax(-1)
    assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
    for place in range(1, len(whole)):
        exact = float(logprobs_TV[place - 1, whole[place]])
        assert told.token_logprobs[place] == pytest.approx(exact, abs=1e-4)  # float32, another order of sums
        values, best = logprobs_TV[place - 1].topk(2)
        expected = {tiny.tokenizer.token(int(id)): float(value) for value, id in zip(values, best, strict=True)}
        expected |= {tiny.tokenizer.token(whole[place]): exact}
        assert told.top_logprobs[place] == pytest.approx(expected, abs=1e-4)
    # Where a character has several bytes, all of them stand where it does.
    assert [PROMPT[at:].startswith(token) for at, token in zip(told.text_offset[:5], told.tokens[:5], strict=True)]
    assert told.text_offset == sorted(told.text_offset) and told.text_offset[len(ids)] == len(PROMPT)


@pytest.mark.parametrize("echo", [False, True])
def test_offsets_of_an_answer_count_characters(client, tiny, echo):
    """A token may be three characters ("hel"), or a third of one: then all thirds stand where the character does."""
    said = [257, *bytes_of("lo 世界!")]
    places = [0, 3, 4, 5, *[6] * 3, *[7] * 3, 8]
    asked = {"model": "tiny", "prompt": PROMPT, "max_tokens": len(said), "temperature": 0, "logprobs": 0, "echo": echo}
    asked |= {"extra_body": {"forced": said}}
    made, before = client.completions.create(**asked).choices[0], len(PROMPT) if echo else 0
    assert made.text[before:] == "hello 世界!"
    assert made.logprobs.text_offset[-len(said) :] == [before + place for place in places]
    chunks = [chunk.choices[0].logprobs for chunk in client.completions.create(stream=True, **asked)]
    streamed = [place for told in chunks if told for place in told.text_offset]
    assert streamed == made.logprobs.text_offset


def test_the_prompt_alone_can_be_scored(client, tiny):
    made = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=0, echo=True, logprobs=1)
    assert made.choices[0].text == PROMPT
    assert len(made.choices[0].logprobs.tokens) == len(tiny.tokenizer.encode(PROMPT))
    assert made.usage.completion_tokens == 0


def test_echo_of_ids_is_their_text(client, tiny):
    ids = [258, *tiny.tokenizer.encode("hi")]
    made = client.completions.create(model="tiny", prompt=ids, max_tokens=1, echo=True, temperature=0, n=2)
    assert all(choice.text.startswith("<|im_start|>hi") for choice in made.choices)


@pytest.mark.parametrize("stop", ["世界", ["再见", "界，"]])
def test_a_stop_text_ends_an_answer_wherever_tokens_and_characters_meet(client, stop):
    said = "你好世界，再见"
    asked = {"model": "tiny", "prompt": "x", "max_tokens": 40, "stop": stop, "temperature": 0}
    made = client.completions.create(extra_body={"forced": bytes_of(said)}, **asked)
    cut = min(said.index(one) for one in ([stop] if isinstance(stop, str) else stop))
    assert (made.choices[0].text, made.choices[0].finish_reason) == (said[:cut], "stop")
    stream = client.completions.create(extra_body={"forced": bytes_of(said)}, stream=True, **asked)
    chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(chunk.text for chunk in chunks) == said[:cut]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert all("\ufffd" not in chunk.text for chunk in chunks)


def test_a_stream_says_the_same_as_a_whole_answer(client):
    asked = {"model": "tiny", "prompt": ["ab", "世界"], "max_tokens": 9, "n": 2, "seed": 3, "logprobs": 2, "echo": True}
    whole = client.completions.create(**asked)
    texts, tokens, ends, usage = {}, {}, {}, None
    for chunk in client.completions.create(stream=True, stream_options={"include_usage": True}, **asked):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.logprobs:
                tokens.setdefault(choice.index, []).extend(choice.logprobs.tokens)
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert [texts[index] for index in range(4)] == [choice.text for choice in whole.choices]
    assert [tokens[index] for index in range(4)] == [choice.logprobs.tokens for choice in whole.choices]
    assert [ends[index] for index in range(4)] == [choice.finish_reason for choice in whole.choices]
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)


def test_what_came_of_guesses_is_told_with_the_usage(language, client):
    """OpenAI's own two fields, and the rates beside them; nothing of it where nobody guesses."""
    asked = {"model": "tiny", "prompt": ["abab" * 8, "xyxy" * 8], "max_tokens": 40, "temperature": 0}
    plain = client.completions.create(**asked)
    assert plain.usage.completion_tokens_details is None and not hasattr(plain.usage, "speculation")
    guess = PromptLookup(shortest=1, adaptive=False)
    with Running(application(Roster([speaker(language, proposer=guess)]), Bounds(grace=0))) as server:
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as guessing:
            made = guessing.completions.create(**asked)
            told = {"stream": True, "stream_options": {"include_usage": True}}
            *_, last = guessing.completions.create(**asked, **told)
        stats = server.server.desk.roster.speakers[0].service.stats()
    assert [choice.text for choice in made.choices] == [choice.text for choice in plain.choices]
    for usage in (made.usage, last.usage):
        details, figures = usage.completion_tokens_details, usage.speculation
        assert details.accepted_prediction_tokens == figures["accepted"] > 0
        assert details.rejected_prediction_tokens == figures["proposed"] - figures["accepted"] > 0
        rate, expected = figures["acceptance_rate"], figures["expected_tokens_per_pass"]
        assert 0 < rate < 1 < expected and figures["tokens_per_pass"] > 1
    assert stats.proposed == made.usage.speculation["proposed"] + last.usage.speculation["proposed"]


def test_no_usage_comes_unasked(client):
    stream = client.completions.create(model="tiny", prompt="a", max_tokens=2, stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in stream)


def test_many_at_once_do_not_mix(server, tiny):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            prompts = [f"text {place} 号" for place in range(14)]
            made = [client.completions.create(model="tiny", prompt=one, temperature=0, max_tokens=8) for one in prompts]
            return prompts, await asyncio.gather(*made)

    prompts, made = asyncio.run(ask())
    assert [one.choices[0].text for one in made] == [alone(tiny, prompt, 8).text for prompt in prompts]


def test_our_own_fields_choose_tokens(client):
    asked = {"model": "tiny", "prompt": "abc", "max_tokens": 12, "temperature": 0}
    plain = client.completions.create(**asked).choices[0].text
    one = client.completions.create(extra_body={"top_k": 1}, **{**asked, "temperature": 1}).choices[0].text
    assert one == plain
    assert client.completions.create(**{**asked, "temperature": 1, "top_p": 0}).choices[0].text == plain
    less = client.completions.create(extra_body={"repetition_penalty": 9.0, "no_repeat_ngram": 1}, **asked).choices[0]
    assert less.text != plain
    id = bytes_of("q")[0]
    made = client.completions.create(logit_bias={str(id): 100.0}, **asked)
    assert made.choices[0].text == "q" * 12


def test_an_answer_is_cut_where_there_is_no_more_room(client, tiny):
    ids = [10] * (LENGTH - 3)
    made = client.completions.create(
        model="tiny", prompt=ids, max_tokens=100, temperature=0, extra_body={"banned": [[259]]}
    )
    assert (made.usage.completion_tokens, made.choices[0].finish_reason) == (4, "length")


def test_an_answer_ends_where_its_rules_leave_no_token(client, tiny):
    """What may be said was said already, or nothing may be: the answer so far, and why there is no more of it."""
    for asked in (
        {"guided_choice": ["aaaa", "aaab"], "no_repeat_ngram": 1},
        {"banned": [[id] for id in range(tiny.service.language.spec.vocab)]},
    ):
        made = client.completions.create(model="tiny", prompt="b", temperature=0, max_tokens=9, extra_body=asked)
        choice = made.choices[0]
        assert (choice.finish_reason, choice.model_extra["stop_reason"]) == ("length", "rules"), asked
        assert choice.text == ("a" if "guided_choice" in asked else "")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 9}, "prompt"),
        ({"prompt": [999_999]}, "prompt"),
        ({"prompt": [1] * (LENGTH + 2)}, "prompt"),
        ({"prompt": "a" * 6000}, "prompt"),
        ({"prompt": "a", "n": 5}, "n"),
        ({"prompt": "a", "best_of": 5}, "best_of"),
        ({"prompt": "a", "n": 2, "best_of": 1}, "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "stop": [""]}, "stop"),
        ({"prompt": "a", "stop": ["a"] * 17}, "stop"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias"),
        ({"prompt": "a", "logit_bias": {"100000": 1}}, "logit_bias"),
        ({"prompt": "a", "extra_body": {"banned": [[100_000]]}}, "banned"),
        ({"prompt": "a", "extra_body": {"forced": [100_000]}}, "forced"),
        ({"prompt": "a", "extra_body": {"min_tokens": 5}, "max_tokens": 2}, "min_tokens"),
        ({"prompt": "a", "extra_body": {"suffix": "b"}}, "suffix"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "extra_body": {"no_such_field": 1}}, "no_such_field"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(client, asked, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="tiny", **asked)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error" and refused.value.body["message"]
