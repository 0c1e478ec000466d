from __future__ import annotations

import subprocess
import sys

import pytest

from cutaway.base.errors import BadInput
from cutaway.lab.explain.chinese import CHINESE
from cutaway.lab.explain.table import EXPLANATIONS, FAMILIES, KINDS, NAMES, find

ASKED_FOR = """
rope grouped-query rmsnorm layernorm batchnorm gated plain activations embedding kv-cache context sampling logprob
quantisation q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k k-quants gguf chat-template tokenizer block decoder
mla absorbed nsa block-sparse streamingllm sinks alibi moe experts routers balancing flash-attention online-softmax
sgd adamw muon lion adafactor schedules z-loss span-corruption mlm bpe wordpiece unigram zero fsdp tensor-parallel
pipeline-parallel ring-all-reduce gradient-checkpointing mixed-precision loss-scaling speculative
prompt-lookup early-exit roofline bandwidth cpu-kernels simd int8-activations
"""


@pytest.mark.parametrize("name", ASKED_FOR.split())
def test_what_a_reader_asks_for_is_there(name):
    assert find(name).title


@pytest.mark.parametrize("name", ["RoPE", " Grouped Query", "grouped_query", "GQA", "Q4_K", " 注意力 ", "KV缓存"])
def test_case_and_separators_do_not_matter(name):
    assert find(name) in EXPLANATIONS.values()


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(BadInput, match='nothing here is called "rmsnrom"; did you mean "rmsnorm"'):
        find("rmsnrom")
    with pytest.raises(BadInput, match="`cutaway explain` lists all"):
        find("zzzzzz")


def test_no_name_stands_for_two():
    names = [*CHINESE, *(name for one in EXPLANATIONS.values() for name in (one.name, *one.aliases))]
    assert len(names) == len(set(names)) == len(NAMES)
    assert sum(map(len, FAMILIES.values())) == len(EXPLANATIONS)


def test_the_table_needs_no_torch():
    code = "import sys, cutaway.lab.explain.table; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_kind_of_module_is_explained(root):
    source = "".join(path.read_text(encoding="utf-8") for path in (root / "src/cutaway").rglob("*.py"))
    for kind, name in KINDS.items():
        assert f"class {kind}(" in source and name in EXPLANATIONS
