"""WordPiece tokenization: each word is written with the longest pieces that fit, from the left.

Schuster and Nakajima 2012; BERT, Devlin et al. 2018, arXiv 1810.04805.   unaffable -> un ##aff ##able
A piece inside a word begins with `##`. A word that cannot be written to its end, or has more than 100 characters, is
one unknown token. Text is prepared and cut into words first (text/bert_normaliser.py), so `decode` gives words with
single spaces, not the text as it was. Two texts go in as [CLS] A [SEP] B [SEP], with token types 0 and 1.
Read next: text/bert_normaliser.py, text/wordpiece_training.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.paths import atomic
from cutaway.text import tokenizer_json
from cutaway.text.bert_normaliser import BertNormaliser, words
from cutaway.text.corpus import checked_text, checked_texts
from cutaway.text.tokenizer import Tokenizer
from cutaway.text.tokenizer_json import checked_ids
from cutaway.text.vocabulary import named_errors
from cutaway.text.wordpiece_training import learn

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN, BEGIN, END = "[UNK]", "[CLS]", "[SEP]"
LONGEST = 100  # characters of a word
_CACHED = 1 << 16  # words whose ids are remembered
# What BERT's decoder takes out of English again.
_TIDY = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")),
    *((" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


class WordPiece:
    """`tokens` in the order of their ids; `special` are those matched whole in a text, with their ids.

    `framed`: [CLS] before and [SEP] after every text. `tidy`: decoding takes the spaces before English punctuation out.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        special: Mapping[str, int] | None = None,
        normaliser: BertNormaliser | None = None,
        prefix: str = "##",
        longest: int = LONGEST,
        framed: bool = True,
        tidy: bool = True,
        source: Path | None = None,
    ):
        self.tokens, self.prefix, self.longest, self.source = list(tokens), prefix, longest, source
        self.normaliser, self.framed, self.tidy = normaliser or BertNormaliser(), framed, tidy
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise BadInput(f"{twice!r} is there more than once", source=source, field="vocabulary")
        found = {token: self._ids[token] for token in SPECIAL if token in self._ids} if special is None else special
        self._special = dict(sorted(found.items(), key=lambda item: item[1]))
        self._model = dict(self._ids)  # what words are written with; added tokens beyond it are only matched whole
        for token, index in self._special.items():
            if self._ids.setdefault(token, len(self.tokens)) != index:
                raise BadInput(f"{token!r} cannot have id {index}", source=source, field="special")
            if index == len(self.tokens):
                self.tokens.append(token)
        for token in (UNKNOWN, *((BEGIN, END) if framed else ())):
            if token not in self._ids:
                raise BadInput(f"{token} is missing", source=source, field="vocabulary")
        self._specials = tokenizer_json.Specials(self._special)
        self._longest_piece = max(map(len, self._model), default=1)
        self._known: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab: int,
        special: Sequence[str] = (),
        normaliser: BertNormaliser | None = None,
        coverage: float = 1.0,
    ) -> WordPiece:
        """Learn at most `vocab` tokens from `texts`: BERT's five special ones, `special`, the characters, pieces.

        With [UNK] among `special` those stand alone, in their order; without [CLS] and [SEP] nothing is put around a
        text. `coverage` is the share of the characters that the vocabulary must have. Raises BadInput for texts without
        words, and for a vocabulary that cannot hold the characters.
        """
        given = tokenizer_json.checked_special(special)
        if not 0 < coverage <= 1:
            raise BadInput(f"must be above 0 and at most 1, not {coverage}", field="coverage")
        front = given if UNKNOWN in given else (*SPECIAL, *(token for token in given if token not in SPECIAL))
        prepare = normaliser or BertNormaliser()
        finder = tokenizer_json.Specials({token: index for index, token in enumerate(front)})
        counted: Counter[str] = Counter()
        for text in checked_texts(texts):
            for stretch, token in finder.split(text):
                if token is None:
                    counted.update(words(prepare(stretch)))
        writable = {word: count for word, count in counted.items() if len(word) <= LONGEST}
        tokens = learn(writable, size=vocab, special=front, coverage=coverage)
        return cls(tokens, special=finder.ids, normaliser=prepare, framed=BEGIN in front and END in front)

    @property
    def vocab(self) -> int:
        """How many ids there are."""
        return len(self.tokens)

    @property
    def special(self) -> dict[str, int]:
        return dict(self._special)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of `text`, between [CLS] and [SEP] unless `special` is false."""
        ids = self._bare(text)
        return [self._ids[BEGIN], *ids, self._ids[END]] if special and self.framed else ids

    def encode_pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """The ids of [CLS] first [SEP] second [SEP], and their token types: 0 up to the first [SEP], then 1."""
        if not self.framed:
            raise BadInput("there is no [CLS] and [SEP] to put around two texts", source=self.source)
        left = self.encode(first)
        right = [*self._bare(second), self._ids[END]]
        return left + right, [0] * len(left) + [1] * len(right)

    def _bare(self, text: str) -> list[int]:
        ids: list[int] = []
        for stretch, token in self._specials.split(checked_text(text)):
            if token is not None:
                ids.append(token)
                continue
            for word in words(self.normaliser(stretch)):
                ids += self._remembered(word)
        return ids

    def _remembered(self, word: str) -> list[int]:
        found = self._known.get(word)
        if found is None:
            found = self._pieces(word)
            if len(self._known) < _CACHED:
                self._known[word] = found
        return found

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that begins the word, then the longest that continues it, to the end."""
        unknown = [self._ids[UNKNOWN]]
        if len(word) > self.longest:
            return unknown
        ids: list[int] = []
        start = 0
        while start < len(word):
            mark = self.prefix if start else ""
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                index = self._model.get(mark + word[start:end])
                if index is not None:
                    break
            else:
                return unknown
            ids.append(index)
            start = end
        return ids

    def decode(self, ids: Iterable[int], special: bool = False) -> str:
        """The words of `ids` with single spaces; `special` keeps special tokens. BadInput for what is no id."""
        skipped = frozenset() if special else frozenset(self._special.values())
        tokens = [self.tokens[index] for index in checked_ids(ids, self.vocab) if index not in skipped]
        return "".join(self._shown(token, first=place == 0) for place, token in enumerate(tokens))

    def _shown(self, token: str, first: bool) -> str:
        if not first:
            token = token.removeprefix(self.prefix) if token.startswith(self.prefix) else f" {token}"
        for old, new in _TIDY if self.tidy else ():
            token = token.replace(old, new)
        return token

    def backend(self) -> Backend:
        """The same tokenizer as a pipeline of the `tokenizers` library."""
        with named_errors(self.source):
            model = models.WordPiece(
                vocab=self._model,
                unk_token=UNKNOWN,
                max_input_chars_per_word=self.longest,
                continuing_subword_prefix=self.prefix,
            )
            backend: Any = Backend(model)
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=self.normaliser.clean,
            handle_chinese_chars=self.normaliser.chinese,
            strip_accents=self.normaliser.strip_accents,
            lowercase=self.normaliser.lowercase,
        )
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece(prefix=self.prefix, cleanup=self.tidy)
        tokenizer_json.add_special(backend, self._special)
        if self.framed:
            backend.post_processor = processors.TemplateProcessing(
                single=f"{BEGIN}:0 $A:0 {END}:0",
                pair=f"{BEGIN}:0 $A:0 {END}:0 $B:1 {END}:1",
                special_tokens=[(token, self._ids[token]) for token in (BEGIN, END)],
            )
        return backend

    def fast(self) -> Tokenizer:
        """The same vocabulary on the Rust engine."""
        return tokenizer_json.fast(self.backend(), self._special, self.source)

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json, which the `tokenizers` library loads with the same ids."""
        tokenizer_json.write(path, self.backend())

    def save_vocab(self, path: str | Path) -> None:
        """Writes vocab.txt: one token a line, in the order of the ids. It says nothing of how text is prepared."""
        broken = next((token for token in self.tokens if set(token) & set("\r\n") or token != token.strip()), None)
        if broken is not None:
            raise BadInput(f"{broken!r} cannot stand on one line", source=path)
        with atomic(path) as temporary:
            temporary.write_text("".join(f"{token}\n" for token in self.tokens), encoding="utf-8", newline="\n")

    @classmethod
    def from_vocab(cls, path: str | Path, *, normaliser: BertNormaliser | None = None) -> WordPiece:
        """From vocab.txt, the special tokens by BERT's names. Raises BadInput naming the line."""
        path = Path(path)
        if not path.is_file():
            raise NotFound(f"{path}: there is no such file")
        data = path.read_bytes()
        try:
            lines = data.decode("utf-8").removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise BadInput(f"not UTF-8 text (byte {error.start})", source=path) from error
        tokens = [line.rstrip("\r") for line in lines]
        first: dict[str, int] = {}
        for number, token in enumerate(tokens, start=1):
            if not token.strip():
                raise BadInput("holds no token", source=path, field=f"line {number}")
            if first.setdefault(token, number) != number:
                raise BadInput(f"{token!r} stands on line {first[token]} already", source=path, field=f"line {number}")
        return cls(tokens, normaliser=normaliser, framed=BEGIN in first and END in first, source=path)

    @classmethod
    def load(cls, path: str | Path) -> WordPiece:
        """From a tokenizer.json. Raises BadInput, naming the field, for a pipeline that is not BERT's."""
        from cutaway.text.wordpiece_json import settings

        tokens, options = settings(Path(path))
        return cls(tokens, **options, source=Path(path))
