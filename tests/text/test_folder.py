"""Folders against transformers' AutoTokenizer, and broken ones by file and field."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram, WordPiece

from cutaway.base.errors import BadInput, NotFound
from cutaway.text.presplit import presplit
from cutaway.text.tokenizer import Tokenizer


def write(folder, name: str, data) -> None:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    (folder / name).write_text(text, encoding="utf-8")


def twin_of(folder, **options):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **options)


def same(folder, texts, twin) -> Tokenizer:
    ours = Tokenizer.from_folder(folder)
    assert ours.vocab == len(twin)
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (twin.bos_token_id, twin.eos_token_id, twin.pad_token_id)
    for text in texts:
        ids = ours.encode(text)
        assert ids == twin.encode(text), text
        assert ours.encode(text, special=False) == twin.encode(text, add_special_tokens=False), text
        for special in (False, True):
            assert ours.decode(ids, special) == twin.decode(ids, skip_special_tokens=not special), text
    return ours


@pytest.fixture
def folder(tmp_path, byte_level):
    """A folder as a chat model of today has it."""
    byte_level("qwen2").save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": {"__type": "AddedToken", "content": "<|im_end|>", "special": True},
        "pad_token": "<|endoftext|>",
        "add_bos_token": True,
        "chat_template": "{{ messages[0].content }}",
    })  # fmt: skip
    return tmp_path


def test_a_tokenizer_json_is_taken_as_it_is(folder, texts):
    ours = same(folder, texts, twin_of(folder))
    assert ours.encode("a") == ours.encode("a", special=False), "what the configuration says of BOS is not asked"
    assert ours.template == "{{ messages[0].content }}"


def test_bos_comes_from_the_post_processor(folder, texts, byte_level):
    backend = Backend.from_str(byte_level("llama-bpe").to_str())
    start = backend.token_to_id("<|im_start|>")
    backend.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]),
    ])  # fmt: skip
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    backend.save(str(folder / "tokenizer.json"))
    ours = Tokenizer.from_folder(folder)
    twin = twin_of(folder)
    for text in texts:  # transformers lifts truncation and padding for each call, as we do at once
        assert ours.encode(text) == twin.encode(text)
        assert ours.encode(text)[0] == start


def test_tokens_that_only_the_configuration_knows(folder, texts):
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    size = Tokenizer.from_folder(folder).vocab
    config["added_tokens_decoder"] = {
        str(size): {"content": "<tool>", "special": False, "normalized": False},
        str(size + 1): {"content": "<turn>", "special": True},
    }
    config["additional_special_tokens"] = ["<turn>"]
    config["bos_token"] = "<begin>"
    write(folder, "tokenizer_config.json", config)
    ours = same(folder, [*texts, "a<tool>b<turn>c<begin>"], twin_of(folder))
    assert ours.vocab == size + 3
    assert ours.decode(ours.encode("a<tool>b<turn>c")) == "a<tool>bc"


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_the_older_files_are_read(folder, texts, name):
    size = Tokenizer.from_folder(folder).vocab
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    write(folder, "special_tokens_map.json", {"eos_token": "<|im_end|>", "unk_token": {"content": "<|endoftext|>"}})
    if name == "added_tokens.json":
        write(folder, name, {"<extra>": size})
    same(folder, [*texts, "a<extra>b"], twin_of(folder))


def test_vocab_and_merges_alone(tmp_path, byte_level, texts):
    from transformers import GPT2Tokenizer

    byte_level("gpt-2").model.save(str(tmp_path))
    twin = GPT2Tokenizer.from_pretrained(tmp_path)
    ours = same(tmp_path, texts, twin)
    assert ours.eos_ids == {twin.eos_token_id}
    write(tmp_path, "tokenizer_config.json", {"add_bos_token": True, "tokenizer_class": "GPT2Tokenizer"})
    same(tmp_path, texts, GPT2Tokenizer.from_pretrained(tmp_path))
    assert Tokenizer.from_folder(tmp_path).encode("a")[0] == twin.bos_token_id


def test_qwen2_without_tokenizer_json(tmp_path, byte_level, texts):
    from transformers import Qwen2Tokenizer

    byte_level("qwen2").model.save(str(tmp_path))
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"})
    ours, twin = Tokenizer.from_folder(tmp_path), Qwen2Tokenizer.from_pretrained(tmp_path)
    for text in texts:  # among them letters with marks set apart, which NFC puts together
        assert ours.encode(text) == twin.encode(text), text


def test_words_of_gpt1(tmp_path, corpus, texts):
    from transformers import OpenAIGPTTokenizer

    trained = Backend(BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=True)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=600, end_of_word_suffix="</w>", special_tokens=["<unk>"], show_progress=False
    )
    trained.train_from_iterator(corpus, trainer)
    trained.model.save(str(tmp_path))
    ours, twin = Tokenizer.from_folder(tmp_path), OpenAIGPTTokenizer.from_pretrained(tmp_path)
    for text in texts:
        ids = ours.encode(text)
        assert ids == twin.encode(text), text
        assert ours.decode(ids) == twin.decode(ids, skip_special_tokens=True)
    assert ours.decode(ours.encode("Hello World")) == "hello world"


@pytest.mark.parametrize("model", ["WordPiece", "Unigram"])
def test_other_models_in_a_tokenizer_json(tmp_path, model, texts):
    pieces = {"[UNK]": 0, "hello": 1, "world": 2, "##s": 3, ",": 4, "▁": 5}
    if model == "WordPiece":
        backend = Backend(WordPiece(vocab=pieces, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        backend = Backend(Unigram([(piece, -float(index)) for piece, index in pieces.items()], unk_id=0))
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"})
    same(tmp_path, texts, twin_of(tmp_path))


def test_all_ids_that_end_a_turn_are_found(folder):
    write(folder, "generation_config.json", {"eos_token_id": [1, 2]})
    write(folder, "config.json", {"eos_token_id": 3})
    ours = Tokenizer.from_folder(folder)
    assert ours.eos_ids == {1, 2, 3, ours.eos_id}
    write(folder, "generation_config.json", {"eos_token_id": "two"})
    with pytest.raises(BadInput, match=r"generation_config\.json: eos_token_id: must be a token's id"):
        Tokenizer.from_folder(folder)


def test_where_a_chat_template_may_stand(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    write(folder, "tokenizer_config.json", config)
    ours, twin = Tokenizer.from_folder(folder), twin_of(folder)
    message = [{"role": "user", "content": "x"}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert ours.vocabulary.templates == twin.chat_template
    assert ours.render(message) == "one"
    assert ours.render(message, tools=[tool]) == "two"
    write(folder, "chat_template.jinja", "from its own file 你好")
    assert Tokenizer.from_folder(folder).template == twin_of(folder).chat_template == "from its own file 你好"
    (folder / "chat_template.jinja").unlink()
    write(folder, "tokenizer_config.json", {**config, "chat_template": [{"name": "default"}]})
    with pytest.raises(BadInput, match=r"chat_template\[0\]: must have a name and a template"):
        Tokenizer.from_folder(folder)


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(NotFound, match=r"no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x0e\x0a\x05")
    with pytest.raises(BadInput, match=r"tokenizer\.model: only this; a tokenizer\.json is needed"):
        Tokenizer.from_folder(tmp_path)


# Two at which the Rust side does not return an error: the first ended the whole process, the second panics.
UNKNOWN_SPECIAL = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<nobody>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}


def whole(byte_level) -> dict:
    return json.loads(byte_level("qwen2").to_str())


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda data: data["model"]["merges"].insert(3, ["zz", "qq"]), "model.merges", "out of vocabulary"),
        (lambda data: data["model"]["merges"].insert(3, [1, 2, 3]), "model.merges", ""),
        (lambda data: data["model"]["vocab"].update(a=5), "model.vocab", "both have id 5"),
        (lambda data: data["model"]["vocab"].update(zzz=9000), "model.vocab", "no token has id 703"),
        (lambda data: data["model"]["vocab"].update(zzz=-1), "model", ""),
        (lambda data: data["model"]["vocab"].update(zzz=2**31), "model.vocab", "no token has id"),
        (lambda data: data["model"].update(vocab=[]), "model", ""),
        (
            lambda data: data["model"].update(continuing_subword_prefix="x" * 99),
            "model.merges[0]",
            "does not begin with",
        ),
        (lambda data: data.update(post_processor=UNKNOWN_SPECIAL), "post_processor", ""),
        (lambda data: data.update(model={"type": "Nobody"}), "model", ""),
        (lambda data: data.update(model=7), "model", "this is not a tokenizer"),
        (lambda data: data.pop("model"), "model", "this is not a tokenizer"),
        (lambda data: data.update(pre_tokenizer={"type": "Nobody"}), "pre_tokenizer", ""),
        (lambda data: data.update(added_tokens=[{"id": 1}]), "added_tokens", ""),
    ],
)
def test_a_broken_tokenizer_json_is_named(tmp_path, byte_level, change, field, words):
    data = whole(byte_level)
    change(data)
    write(tmp_path, "tokenizer.json", data)
    with pytest.raises(BadInput) as caught:
        Tokenizer.from_folder(tmp_path)
    assert caught.value.source == tmp_path / "tokenizer.json"
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.field.startswith(field)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00\x01GGUF", '{"version": "1.0"}', '{"model": {}}', "[" * 9000]
)
def test_a_file_that_is_no_tokenizer(tmp_path, text):
    write(tmp_path, "tokenizer.json", text)
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_short(tmp_path, byte_level, part):
    text = byte_level("qwen2").to_str()
    write(tmp_path, "tokenizer.json", text[: int(len(text) * part)])
    with pytest.raises(BadInput, match=r"tokenizer\.json: is not JSON"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("tokenizer_config.json", "{", "tokenizer_config.json: is not JSON"),
        ("tokenizer_config.json", [1], "must hold an object"),
        ("tokenizer_config.json", {"eos_token": 7}, "eos_token: must be a text"),
        ("tokenizer_config.json", {"chat_template": 7}, "chat_template: must be a text or a list"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": 1}}, "added_tokens_decoder.x: must be an id"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"9999": {"content": "<z>"}}},
            "has id 9999, and would get 703",
        ),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}, "added_tokens_decoder: must be"),
        ("tokenizer_config.json", {"extra_special_tokens": [7]}, "extra_special_tokens: must be a text"),
        ("added_tokens.json", {"<z>": "a"}, "added_tokens.json"),
        ("chat_template.jinja", b"\xff\xfe", "chat_template.jinja: is not UTF-8"),
        ("tokenizer_config.json", b"\xff\xfe", "tokenizer_config.json: is not"),
    ],
)
def test_other_broken_files_are_named(folder, name, data, words):
    if isinstance(data, bytes):
        (folder / name).write_bytes(data)
    else:
        write(folder, name, data)
    with pytest.raises(BadInput) as caught:
        Tokenizer.from_folder(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("vocab", "merges", "words"),
    [
        ({"a": 0, "b": 1, "ab": 2}, "#version: 0.2\na b\nb c\n", "line 3: 'c' is not in vocab.json"),
        ({"a": 0, "b": 1, "ab": 2}, "a b\nab\n", "line 2: '' is not in vocab.json"),
        ({"a": 0, "b": 0}, "", "both have id 0"),
        ({"a": 0, "b": 2}, "", "no token has id 1"),
        ({"a": 0, "b": "1"}, "", "'b': its id is '1'"),
        ({"a": 0, "b": 2**40}, "", "its id is 1099511627776"),
        ({}, "", "is empty"),
    ],
)
def test_a_broken_vocabulary_is_named(tmp_path, vocab, merges, words):
    write(tmp_path, "vocab.json", vocab)
    write(tmp_path, "merges.txt", merges)
    with pytest.raises(BadInput) as caught:
        Tokenizer.from_folder(tmp_path)
    assert words in str(caught.value)


def test_the_cuts_are_told_apart_by_their_class(tmp_path, byte_level):
    byte_level("gpt-2").model.save(str(tmp_path))
    gpt2 = Tokenizer.from_folder(tmp_path)
    write(tmp_path, "config.json", {"model_type": "qwen2"})
    qwen = Tokenizer.from_folder(tmp_path)
    assert gpt2.vocabulary.backend.pre_tokenizer.pre_tokenize_str("a 12") != (
        qwen.vocabulary.backend.pre_tokenizer.pre_tokenize_str("a 12")
    )
    assert presplit("qwen2").pre_tokenizer().pre_tokenize_str("a 12") == (
        qwen.vocabulary.backend.pre_tokenizer.pre_tokenize_str("a 12")
    )


def _places(value, place=()):
    yield place
    if isinstance(value, dict):
        for key in list(value)[:12]:
            yield from _places(value[key], (*place, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 4)):
            yield from _places(value[index], (*place, index))


@pytest.mark.proof
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_an_error_or_none(tmp_path, byte_level, data):
    tree = whole(byte_level)
    places = [place for place in _places(tree) if place]
    hostile = st.sampled_from(
        [None, 0, -1, 2**31, 2**70, True, "", "x", "\x00", [], {}, [None], {"type": "X"}, "a" * 999]
    )
    for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=2)):
        holder = tree
        try:
            for key in place[:-1]:
                holder = holder[key]
            if data.draw(st.booleans()):
                holder[place[-1]] = data.draw(hostile)
            else:
                del holder[place[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # the first change took the second one's place away
    write(tmp_path, "tokenizer.json", tree)
    try:
        tokenizer = Tokenizer.from_folder(tmp_path)
        assert isinstance(tokenizer.decode(tokenizer.encode("Hello <|im_end|> 你好 12")), str)
    except BadInput as error:
        assert "\n" not in str(error)
