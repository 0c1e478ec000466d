"""Beam search behind a prompt of a decoder: against every text there is, a plain loop for groups, and transformers."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

import cutaway
from cutaway.infer.beams import Beams
from cutaway.infer.decoding import Decoding
from cutaway.infer.rules import ruled
from cutaway.infer.search import beam_search
from cutaway.infer.searches import BeamSearch

from .tiny import END, VOCAB, following, prompted, tiny

PROMPT = [3, 1, 4]


def searched(language, most=4, of=(0,), rule=None, sources=(PROMPT,), groups=1, diversity=0.0, **told):
    told = {"width": 3, "ends": frozenset({END}), "penalty": 1.0, "early": False} | told
    made = []
    for source in of:
        first = len(made)
        for _ in range(groups):
            made.append((source, Beams(most=most, after=[one for _, one in made[first:]], diversity=diversity, **told)))
    beam_search(prompted(language), sources, [one for _, one in made], of=[source for source, _ in made], rule=rule)
    return [one for _, one in made]


@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("seed", range(3))
def test_wide_enough_it_finds_the_best_text_there_is(seed, penalty):
    language, most = tiny(seed), 3
    scored = []
    inner = range(1, VOCAB)
    whole = [(*begun, END) for length in range(most) for begun in itertools.product(inner, repeat=length)]
    for tokens in [*whole, *itertools.product(inner, repeat=most)]:
        total = sum(following(language, [*PROMPT, *tokens[:at]])[token] for at, token in enumerate(tokens))
        scored.append((total / len(tokens) ** penalty, tokens))
    (search,) = searched(language, most, width=400, penalty=penalty, early="never")
    assert search.best.tokens == max(scored)[1]
    assert search.found[0][0] == pytest.approx(max(scored)[0])


@pytest.mark.parametrize("window", [None, 3])
def test_searches_side_by_side_are_those_alone(window):
    language, sources = tiny(4, window), ([3, 1, 4], [2], [5, 5, 5, 5, 1])
    together = searched(language, 6, of=(0, 1, 2), sources=sources)
    for source, search in zip(sources, together, strict=True):
        (alone,) = searched(language, 6, sources=(source,))
        assert search.best.tokens == alone.best.tokens
        assert search.found[0][0] == pytest.approx(alone.found[0][0])


def in_groups(language, most, width, groups, diversity):
    """Diverse beam search as its algorithm reads, without a cache; no text ends."""
    running = [[((), 0.0)] for _ in range(groups)]
    for _ in range(most):
        taken = Counter()
        for group, beams in enumerate(running):
            grown = []
            for tokens, total in beams:
                logprobs = following(language, [*PROMPT, *tokens])
                grown += [((*tokens, token), total + logprob) for token, logprob in enumerate(logprobs)]
            grown.sort(key=lambda one: -(one[1] - diversity * taken[one[0][-1]]))
            running[group] = grown[:width]
            taken.update(tokens[-1] for tokens, _ in running[group])
    return running


@pytest.mark.parametrize("diversity", [0.0, 0.7, 50.0])
@pytest.mark.parametrize("seed", range(2))
def test_groups_are_those_of_the_algorithm(seed, diversity):
    language = tiny(seed)
    made = searched(language, 4, groups=3, diversity=diversity, width=2, ends=frozenset())
    expected = in_groups(language, 4, 2, 3, diversity)
    for search, group in zip(made, expected, strict=True):
        found = [(beam.tokens, pytest.approx(beam.total)) for _, beam in search.found]
        assert sorted(found) == sorted(group)
    firsts = [search.best.tokens[0] for search in made]
    assert len(set(firsts)) == (1 if diversity == 0.0 else 3 if diversity == 50.0 else len(set(firsts)))


def test_a_rule_holds_in_every_beginning():
    decoding = Decoding(no_repeat_ngram=1, min_tokens=3, max_tokens=3)

    def rule(logprobs_V, written):
        return ruled(logprobs_V, decoding, [*PROMPT, *written], len(PROMPT), {END})

    (search,) = searched(tiny(), 3, rule=rule, width=50)
    assert search.found
    for _, beam in search.found:
        assert not set(PROMPT) & set(beam.tokens) and END not in beam.tokens[:2]
        assert len(set(beam.tokens)) == len(beam.tokens)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The same small Llama in transformers and here."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    shape = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    theirs = LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.3, bos_token_id=1, eos_token_id=2)).eval()
    folder = tmp_path_factory.mktemp("twin")
    theirs.save_pretrained(folder)
    return theirs, cutaway.load(str(folder), dtype="float32", device="cpu")


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize("rules", [{}, {"no_repeat_ngram": 2}, {"min_tokens": 6}, {"repetition_penalty": 1.3}])
def test_results_are_those_of_transformers(twins, penalty, early, rules):
    theirs, ours = twins
    names = {"no_repeat_ngram": "no_repeat_ngram_size", "min_tokens": "min_new_tokens"}
    for prompt in ([1, 5, 9], [1, 30], [7, 8, 8, 8, 20, 3]):
        told = {names.get(name, name): value for name, value in rules.items()}
        told |= {"num_beams": 3, "length_penalty": penalty, "early_stopping": early, "pad_token_id": 0}
        ids = torch.tensor([prompt])
        expected = theirs.generate(ids, attention_mask=ids > 0, max_new_tokens=9, do_sample=False, **told)[0]
        decoding = Decoding(max_tokens=9, **rules)

        def rule(logprobs_V, written, prompt=prompt, decoding=decoding):
            from cutaway.infer.sampler import penalise

            text = [*prompt, *written]
            logprobs_V = penalise(logprobs_V, text, decoding.repetition_penalty)
            return ruled(logprobs_V, decoding, text, len(prompt), {2})

        search = Beams(width=3, ends=frozenset({2}), most=9, penalty=penalty, early=early)
        beam_search(prompted(ours), [prompt], [search], rule=rule)
        assert [*prompt, *search.best.tokens] == expected.tolist()


def test_the_value_runs_what_the_functions_run():
    language = tiny()
    answers = language.search(PROMPT, BeamSearch(width=4, groups=2, diversity=1.0), max_tokens=4)
    made = searched(language, 4, width=2, groups=2, diversity=1.0, ends=frozenset())
    found = sorted((pair for search in made for pair in search.found), key=lambda pair: -pair[0])
    assert [answer.tokens for answer in answers] == [beam.tokens for _, beam in found]
