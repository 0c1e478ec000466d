"""What stands between a person's text and the model's numbers, explained.   Read next: text/tokenizer.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _tokenizer() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    return (
        Formula(what="ids", symbols="V", result=SMOLLM2.vocab),
        Formula(what="FLOPs of the model per token that the text becomes", symbols=_READING, result=_reading()),
    )


def _template() -> tuple[Formula, ...]:
    # The template puts "<|im_start|>user\n" before and "<|im_end|>\n<|im_start|>assistant\n" behind a message.
    return (
        Formula(
            what="FLOPs per token of the template's own, the same as any other's", symbols=_READING, result=_reading()
        ),
    )


_READING = "2·V·D + L·(4·D·H·K + 4·D·G·K + 6·D·F + 4·H·K)"


def _reading() -> int:
    from cutaway.lab.explain.example import SMOLLM2

    return SMOLLM2.cost(1, 1).flops


def _embedding() -> tuple[Formula, ...]:
    from dataclasses import replace

    from cutaway.lab.explain.example import SMOLLM2

    untied = replace(SMOLLM2, tied=False)
    table = untied.cost(1, 1).parameters - SMOLLM2.cost(1, 1).parameters
    blocks = sum(block.cost(SMOLLM2.dim, 1, 1).flops for block in SMOLLM2.blocks)
    return (
        Formula(what="parameters (a head of its own would be as many again)", symbols="V·D", result=table),
        Formula(what="FLOPs per token, as the head", symbols="2·V·D", result=SMOLLM2.cost(1, 1).flops - blocks),
    )


TOKENIZER = Explanation(
    name="tokenizer",
    title="Tokenizer",
    what=(
        "A model reads numbers, not letters. The tokenizer cuts a text into pieces from a fixed list, its vocabulary, "
        "and gives each its number. Common words become one token, rare ones several. How the list comes about and how "
        "a text is cut differ: bpe, wordpiece and unigram are the usual ways. A character may be cut across tokens, so "
        "whoever streams an answer has to wait for the rest of it. The list and the way of cutting belong to the "
        "model: with another tokenizer the same text is nonsense to it."
    ),
    equation="text → pieces → ids:     unaffable → un · aff · able → 403 · 2851 · 481",
    papers=(
        "Sennrich, Haddow and Birch 2016, Subword Units (BPE), arXiv 1508.07909",
        "Kudo and Richardson 2018, SentencePiece, arXiv 1808.06226",
    ),
    files=("text/tokenizer.py", "text/detokenizer.py"),
    cost=_tokenizer,
    read_next=("bpe", "embedding", "chat-template"),
    aliases=("token", "tokens", "vocabulary"),
)

BPE = Explanation(
    name="bpe",
    title="Byte pair encoding",
    what=(
        "The vocabulary starts with the 256 bytes. Training counts all pairs of neighbours in the text, joins the most "
        "frequent one everywhere into a new token, and does so again until there are enough. A new text is written as "
        "bytes, and the same joins are made in the same order. Nothing is ever unknown, Chinese and emoji included. "
        "GPT-2, Llama 3 and Qwen cut texts so; they differ in the pattern that first cuts a text into words."
    ),
    equation="join pairs in order of rank until none is left:\nh·e·l·l·o → he·l·l·o → he·ll·o → hell·o → hello",
    papers=("Sennrich, Haddow and Birch 2016, Subword Units, arXiv 1508.07909", "Radford et al. 2019, GPT-2"),
    files=("text/bpe.py", "text/pair_counts.py"),
    cost=_tokenizer,
    read_next=("wordpiece", "unigram", "tokenizer"),
    aliases=("byte-pair", "byte-level"),
)

WORDPIECE = Explanation(
    name="wordpiece",
    title="WordPiece",
    what=(
        "Each word is written with the longest piece of the vocabulary that begins it, then with the longest that goes "
        "on, marked with ##. A word that cannot be written to its end is one unknown token. The paper joins those "
        "pairs that make the text likeliest; what is in use joins the most frequent ones, as byte pair encoding does. "
        "BERT and the sentence encoders after it lower-case text first and set every Chinese character apart."
    ),
    equation="unaffable → una · ##ffa · ##ble\nthe paper joins the pair of largest count(ab) / (count(a) count(b))",
    papers=(
        "Schuster and Nakajima 2012, Japanese and Korean Voice Search",
        "Devlin et al. 2018, BERT, arXiv 1810.04805",
    ),
    files=("text/wordpiece.py", "text/wordpiece_training.py", "text/bert_normaliser.py"),
    cost=_tokenizer,
    read_next=("unigram", "bpe", "tokenizer"),
)

UNIGRAM = Explanation(
    name="unigram",
    title="Unigram",
    what=(
        "Every piece has a probability, and of all ways to write a text the most probable one is taken; Viterbi's "
        "algorithm finds it. Training starts from every stretch that occurs often, fits the probabilities by "
        "expectation and maximisation, and drops the pieces that the text misses least. Drawing other ways than the "
        "best while a model trains makes it sturdier: subword regularisation. T5, Albert and XLNet use it, through "
        "SentencePiece."
    ),
    equation="x* = argmax over cuts x of  Σ log p(xᵢ)\nL = Σ over texts of  log Σ over cuts x of  Π p(xᵢ)",
    papers=("Kudo 2018, Subword Regularization, arXiv 1804.10959",),
    files=("text/unigram.py", "text/viterbi.py", "text/unigram_training.py"),
    cost=_tokenizer,
    read_next=("wordpiece", "bpe", "tokenizer"),
    aliases=("sentencepiece", "viterbi"),
)

TEMPLATE = Explanation(
    name="chat-template",
    title="Chat template",
    what=(
        "To a model a conversation is one long text. The chat template is how that text is written: which special "
        "tokens open and close a turn, how the speaker is named, where the answer begins. A chat model was trained on "
        "one such form and answers badly in any other. The template travels with the checkpoint as a small Jinja "
        "program. It comes from a stranger, so it is run in a sandbox in which every step is paid for from a budget."
    ),
    equation="<|im_start|>user⏎ question <|im_end|>⏎\n<|im_start|>assistant⏎ … the answer … <|im_end|>",
    papers=("Jinja's template language: jinja.palletsprojects.com", "ChatML, the form above: OpenAI, 2023"),
    files=("text/chat.py", "text/sandbox.py"),
    cost=_template,
    read_next=("tokenizer", "sampling"),
    aliases=("chat", "template", "chatml"),
)

EMBEDDING = Explanation(
    name="embedding",
    title="Embedding and head",
    what=(
        "The embedding is a table with one row per token of the vocabulary: a token's number picks its row, and that "
        "vector starts its way through the blocks. At the other end the head compares the final vector with a row for "
        "every token; the products are the logits, the scores of what comes next. In tied models the two tables are "
        "one. Picking a row costs nothing, scoring all of them is a large product. In a small model with a large "
        "vocabulary the table is a fifth of all parameters or more."
    ),
    equation="x = E[token]     logits = norm(x) Eᵀ",
    papers=("Press and Wolf 2017, Using the Output Embedding, arXiv 1608.05859",),
    files=("nn/embedding.py", "models/decoder.py"),
    cost=_embedding,
    read_next=("tokenizer", "decoder", "logit-lens"),
    aliases=("head", "tied", "logits", "unembedding"),
)

TOKENS = (TOKENIZER, BPE, WORDPIECE, UNIGRAM, TEMPLATE, EMBEDDING)
