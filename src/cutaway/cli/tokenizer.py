"""`cutaway tokenizer train`: a vocabulary of one's own from text.

Read next: text/bpe.py, text/wordpiece.py, text/unigram.py, text/character.py, cli/compare/tokenizers.py
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.base.errors import BadInput
from cutaway.cli.console import results, say, show_json

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

HELP = {"help_option_names": ["-h", "--help"]}
END = "<|endoftext|>"
UNKNOWN = "<unk>"  # without it the fast engine drops characters that a vocabulary of characters lacks
NONE = "none"

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=HELP, help="Train a tokenizer.")


class Kind(StrEnum):
    BPE = "bpe"
    WORDPIECE = "wordpiece"
    UNIGRAM = "unigram"
    CHARACTER = "character"


@app.callback(invoke_without_command=True)
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        results().print(context.get_help(), markup=False, soft_wrap=True)


@app.command(context_settings=HELP)
def train(
    sources: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Files, folders, a corpus by name (shakespeare).")
    ],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the tokenizer is to stand.")],
    kind: Annotated[Kind, typer.Option(help="How text is cut into pieces.")] = Kind.BPE,
    vocab: Annotated[int, typer.Option(min=1, help="How many tokens to learn, all included.")] = 8192,
    special: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help=f"A special token, again for more; {NONE} for none. {END} if not said."),
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(help="unigram, wordpiece: the share of characters to know (0.9995, 1).")
    ] = None,
    byte_fallback: Annotated[
        bool, typer.Option("--bytes/--no-bytes", help="unigram: other characters become bytes.")
    ] = True,
    cased: Annotated[bool, typer.Option("--cased", help="wordpiece: keep capitals and accents.")] = False,
    cut: Annotated[str, typer.Option(help="bpe: whose way to cut text into words, gpt-2 or gpt-4.")] = "gpt-2",
    field: Annotated[str, typer.Option(help="The field of JSON lines, or the column, that holds the text.")] = "text",
    force: Annotated[bool, typer.Option("--force", help="Also where a tokenizer stands already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Learn a vocabulary from text, and save it where every command and transformers find it.

    bpe: bytes, the most frequent pairs joined (GPT). wordpiece: the longest known piece first (BERT). unigram: the most
    probable pieces (T5, SentencePiece). character: one token a character.
    """
    from cutaway.cli.data import located

    target = _free(to, force)
    places = [located(source) for source in sources]
    marks = _special(special, kind)
    started = time.perf_counter()
    trained = _trained(kind, _texts(places, field), vocab, marks, coverage, byte_fallback, cased, cut)
    seconds = time.perf_counter() - started
    tokenizer = trained.fast()
    _save(trained, tokenizer, target)
    tokens, size = _measure(tokenizer, places, field)
    if as_json:
        figures = {"bytes": size, "tokens": tokens, "bytes_per_token": size / max(1, tokens), "seconds": seconds}
        show_json({"folder": str(target), "kind": str(kind), "vocab": tokenizer.vocab, **figures})
        return
    if tokenizer.vocab < vocab and kind is not Kind.CHARACTER:
        say(f"this text has no more than {tokenizer.vocab:,} tokens to learn")
    results().print(
        f"{kind}: {tokenizer.vocab:,} tokens in {seconds:.1f} s; {size / max(1, tokens):.2f} bytes per token "
        f"({tokens:,} tokens for {size:,} bytes)\n{target}",
        soft_wrap=True,
    )


def _trained(
    kind: Kind,
    texts: Iterator[str],
    vocab: int,
    special: list[str],
    coverage: float | None,
    byte_fallback: bool,
    cased: bool,
    cut: str,
) -> Any:
    if kind is Kind.WORDPIECE:
        from cutaway.text.bert_normaliser import BertNormaliser
        from cutaway.text.wordpiece import WordPiece

        normaliser = BertNormaliser(lowercase=not cased)
        share = 1.0 if coverage is None else coverage
        return WordPiece.train(texts, vocab=vocab, special=special, normaliser=normaliser, coverage=share)
    if kind is Kind.UNIGRAM:
        from cutaway.text.unigram import Unigram

        share = 0.9995 if coverage is None else coverage
        return Unigram.train(texts, vocab=vocab, special=special, coverage=share, byte_fallback=byte_fallback)
    if kind is Kind.CHARACTER:
        from cutaway.text.character import Character

        unknown = next((token for token in special if "unk" in token.casefold()), None)
        return Character.train(texts, vocab=vocab, special=special, unknown=unknown)
    from cutaway.text.bpe import BytePair

    return BytePair.train(texts, vocab=vocab, special=special, cut=cut)


def _special(given: list[str] | None, kind: Kind) -> list[str]:
    if given is None:
        return {Kind.WORDPIECE: [], Kind.CHARACTER: [END, UNKNOWN]}.get(kind, [END])
    return [] if given == [NONE] else given


def _texts(places: list[str], field: str) -> Iterator[str]:
    from cutaway.data.readers.sources import read

    return (entry.text for entry in read(places, field=field))


def _free(to: Path, force: bool) -> Path:
    """The folder to write to. Raises BadInput where that is a file, or has a tokenizer that nobody gave up."""
    from cutaway.base.paths import expand

    target = expand(to)
    if target.exists() and not target.is_dir():
        raise BadInput("is a file; name a folder", source=target)
    if (target / "tokenizer.json").exists() and not force:
        raise BadInput("there is a tokenizer already; --force replaces it", source=target)
    return target


def _save(trained: Any, tokenizer: Tokenizer, target: Path) -> None:
    """All files or none into a new folder; into one that is there, each file by itself, and nothing else is touched."""
    from cutaway.base.paths import atomic

    if target.is_dir():
        _write(trained, tokenizer, target)
        return
    with atomic(target) as partial:
        partial.mkdir()
        _write(trained, tokenizer, partial)


def _write(trained: Any, tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.save(folder)
    if hasattr(trained, "save_vocab"):  # WordPiece's older file, which some programs still ask for
        trained.save_vocab(folder / "vocab.txt")


def _measure(tokenizer: Tokenizer, places: list[str], field: str) -> tuple[int, int]:
    """Tokens and bytes of the whole corpus."""
    from cutaway.base.progress import track

    tokens = size = 0
    for text in track(_texts(places, field), "measuring"):
        tokens += len(tokenizer.encode(text, special=False))
        size += len(text.encode("utf-8"))
    return tokens, size
