"""How the next token is chosen, explained, with what transformers' `generate` takes and its name here.

A test holds the table against transformers' own GenerationConfig, so that a new parameter there is noticed here.
Read next: infer/decoding.py, infer/searches.py, infer/proposers.py
"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula, Table

# Parameter of `generate` or field of GenerationConfig -> its name here, "" where there is none; what differs, or why.
# How long.
LENGTH = (
    ("max_new_tokens", "Decoding.max_tokens", ""),
    ("max_length", "Decoding.max_tokens", "there with the prompt, here without"),
    ("min_new_tokens", "Decoding.min_tokens", ""),
    ("min_length", "Decoding.min_tokens", "there with the prompt, here without"),
    ("stop_strings", "Decoding.stop", "found across tokens and characters"),
    ("max_time", "", "leave the loop over Language.stream; cutaway serve --seconds"),
    ("stopping_criteria", "", "leave the loop over Language.stream"),
    ("eos_token_id", "Request.ends", "Language takes the tokenizer's"),
    ("forced_eos_token_id", "Decoding.end_forced", ""),
    ("exponential_decay_length_penalty", "", "max_tokens and logit_bias end answers here"),
)
# Drawing.
DRAWING = (
    ("do_sample", "Decoding.temperature", "0 takes the likeliest, above it is drawn"),
    ("temperature", "Decoding.temperature", ""),
    ("top_k", "Decoding.top_k", ""),
    ("top_p", "Decoding.top_p", ""),
    ("min_p", "Decoding.min_p", ""),
    ("top_h", "", "cuts by entropy as eta does, which is here"),
    ("typical_p", "Decoding.typical_p", ""),
    ("epsilon_cutoff", "Decoding.epsilon", ""),
    ("eta_cutoff", "Decoding.eta", ""),
    ("num_return_sequences", "Ask.samples", "BestOf.count where the best of them is wanted"),
    ("renormalize_logits", "", "what is drawn from always sums to 1"),
    ("remove_invalid_values", "", "an answer with NaN among its logits ends, and says so"),
)
# Rules.
RULES = (
    ("repetition_penalty", "Decoding.repetition_penalty", ""),
    ("no_repeat_ngram_size", "Decoding.no_repeat_ngram", ""),
    ("bad_words_ids", "Decoding.banned", ""),
    ("suppress_tokens", "Decoding.banned", "sequences of one id"),
    ("begin_suppress_tokens", "", "min_tokens keeps ends from coming first"),
    ("forced_bos_token_id", "Decoding.forced", "as many ids as one likes"),
    ("sequence_bias", "Decoding.logit_bias", "of single tokens; longer ones can be banned"),
    ("prefix_allowed_tokens_fn", "Ask.constraint", "a schema, an expression, a list or a grammar"),
    ("constraints", "Ask.constraint", ""),
    ("force_words_ids", "Ask.constraint", "a regular expression with the words in it"),
    ("logits_processor", "Language.sampler", "any function of logits, Decoding, draw and text"),
    ("encoder_repetition_penalty", "", "logit_bias raises tokens of the source"),
    ("encoder_no_repeat_ngram_size", "", "banned takes the source's n-grams"),
    ("guidance_scale", "", "two passes a token (arXiv 2306.17806); nothing here needs it"),
    ("negative_prompt_ids", "", "goes with guidance_scale"),
    ("negative_prompt_attention_mask", "", "goes with guidance_scale"),
    ("dola_layers", "", "cutaway open --prompt shows what early layers say"),
    ("watermarking_config", "", "marks who wrote a text (arXiv 2301.10226): not a way to write it"),
    ("token_healing", "", "a prompt is read as its tokenizer cuts it"),
)
# Searching.
SEARCHING = (
    ("num_beams", "BeamSearch.width", ""),
    ("early_stopping", "BeamSearch.early", ""),
    ("length_penalty", "BeamSearch.length_penalty", ""),
    ("num_beam_groups", "BeamSearch.groups", ""),
    ("diversity_penalty", "BeamSearch.diversity", ""),
    ("penalty_alpha", "ContrastiveSearch.alpha", "with ContrastiveSearch.top_k"),
    ("low_memory", "", "candidates share the pages or rows that they agree on"),
    ("custom_generate", "", "a loop over Engine.step, or a Sampler of one's own"),
)
# Several tokens in one pass.
SPECULATING = (
    ("assistant_model", "Draft.language", ""),
    ("num_assistant_tokens", "Draft.count", ""),
    ("num_assistant_tokens_schedule", "Draft.adaptive", "by what guesses cost and save, off where they do not pay"),
    ("prompt_lookup_num_tokens", "PromptLookup.count", ""),
    ("max_matching_ngram_size", "PromptLookup.longest", ""),
    ("assistant_early_exit", "EarlyExit.blocks", ""),
    ("speculation_type", "", "the proposer's own type says it"),
    ("is_assistant", "", "any Language can be a Draft"),
    ("assistant_confidence_threshold", "", "how many are guessed follows from how many were right"),
    ("assistant_ensemble_weight", "", "draws from a mixture; here the target's distribution stays"),
    ("assistant_lookbehind", "", "a draft here has its target's tokenizer"),
    ("target_lookbehind", "", "a draft here has its target's tokenizer"),
    ("use_mtp", "", "no model here has heads that guess several tokens"),
)
# What is read, kept and told.
MACHINE = (
    ("inputs", "Request.prompt", ""),
    ("generation_config", "Decoding", "and a Search or a Proposer beside it"),
    ("streamer", "Language.stream", ""),
    ("output_scores", "Ask.logprobs", "the likeliest, of the model's own distribution"),
    ("output_logits", "Language.__call__", "cutaway logits shows them"),
    ("output_attentions", "Context.want", 'each head\'s entropy, by "attention"'),
    ("output_hidden_states", "Context.want", 'behind each block, by "residual"'),
    ("return_dict_in_generate", "Answer", "always"),
    ("use_cache", "Context.cache", "always while writing"),
    ("cache_implementation", "ContiguousCache", "of one answer; PagedCache of the engine's"),
    ("cache_config", "Limits.page", ""),
    ("max_cache_len", "Limits.tokens", ""),
    ("prefill_chunk_size", "Limits.budget", "with whoever writes meanwhile"),
    ("continuous_batching_config", "Limits.sequences", ""),
    ("decoder_start_token_id", "EncoderDecoder.start", ""),
    ("bos_token_id", "Tokenizer.bos_id", "an empty prompt begins with it"),
    ("pad_token_id", "", "nothing is padded: sequences lie end to end"),
    ("compile_config", "", "nothing is compiled by torch"),
    ("disable_compile", "", "nothing is compiled by torch"),
    ("synced_gpus", "", "a model writes on one device here"),
)
PARAMETERS = tuple(
    (there, here or "not here", why)
    for there, here, why in (*LENGTH, *DRAWING, *RULES, *SEARCHING, *SPECULATING, *MACHINE)
)


def _logits() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    return (
        Formula(what="logits to choose from, each token", symbols="V", result=SMOLLM2.vocab),
        Formula(what="continuations that a beam of 4 looks at, each token", symbols="4·V", result=4 * SMOLLM2.vocab),
    )


DECODING = (
    Explanation(
        name="decoding",
        title="Decoding",
        what=(
            "A model says how likely each token of its vocabulary is to come next; decoding makes a text of that. "
            "Rules come first, on the logits: what may not be said, must be said, or is said less gladly. Then a token "
            "is taken or drawn from what the cuts leave, or a search keeps several beginnings and compares them later. "
            "Speculation changes only how many tokens one pass of the model gives: guesses are kept as often as the "
            "model would have written them itself. `cutaway decode PROMPT --show greedy,top-p:0.9,beam:4` lays the "
            "ways side by side."
        ),
        equation=(
            "rules        z_i + bias_i - presence·[c_i > 0] - frequency·c_i\n"
            "repetition   z_i / r where z_i > 0, else z_i · r,   i seen before\n"
            "temperature  p = softmax(z / T)\n"
            "top-k        the k likeliest\n"
            "top-p        the likeliest whose sum first reaches p\n"
            "min-p        p_i >= m · max p\n"
            "typical      those of least |-ln p_i - H|, until their sum reaches t\n"
            "epsilon      p_i >= e\n"
            "eta          p_i >= min(n, sqrt(n) · e^-H)\n"
            "beam         max Σ ln p(y_t | y_<t) / |y|^a\n"
            "groups       ln p_i - d · (beginnings of earlier groups that took i)\n"
            "contrastive  (1 - a) · p_i - a · max_j cos(h_i, h_j),   i of the k likeliest\n"
            "speculation  keep guess x with min(1, p_x / q_x), or draw from max(0, p - q)"
        ),
        papers=(
            "Fan et al. 2018 (top-k), arXiv 1805.04833",
            "Holtzman et al. 2019 (top-p), arXiv 1904.09751",
            "Nguyen et al. 2024 (min-p), arXiv 2407.01082",
            "Meister et al. 2022 (typical), arXiv 2202.00666",
            "Hewitt et al. 2022 (epsilon, eta), arXiv 2210.15191",
            "Keskar et al. 2019, CTRL (repetition penalty), arXiv 1909.05858",
            "Paulus et al. 2017 (no n-gram twice), arXiv 1705.04304",
            "Wu et al. 2016 (beam search's length penalty), arXiv 1609.08144",
            "Vijayakumar et al. 2016 (diverse beams), arXiv 1610.02424",
            "Su et al. 2022 (contrastive search), arXiv 2202.06417",
            "Leviathan et al. 2022 (speculation), arXiv 2211.17192",
        ),
        files=(
            "infer/decoding.py",
            "infer/rules.py",
            "infer/sampler.py",
            "infer/searches.py",
            "infer/proposers.py",
        ),
        cost=_logits,
        read_next=("sampling", "logprob"),
        aliases=("generate", "generation", "search", "decode"),
        table=Table(
            title="what transformers' generate takes, and its name here",
            heads=("there", "here", "what differs, or why not"),
            rows=PARAMETERS,
        ),
    ),
)
