from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.lab.anatomy import PACKAGE, anatomy, architecture, source
from cutaway.models.classifier import SequenceClassifier
from cutaway.models.pooler import Pooler
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed


@pytest.mark.parametrize("kind", ["spec", "older"])
@pytest.mark.parametrize("length", [1, 3, None])
def test_the_root_is_what_the_value_says(kind, length, request):
    value = request.getfixturevalue(kind)
    root, cost = anatomy(value.build(), length=length), value.cost(1, length or value.length)
    assert (root.parameters, root.flops, root.kept_bytes) == (cost.parameters, cost.flops, cost.cache_bytes)
    assert root.share == 1.0 and root.path == "" and root.value == value


@pytest.mark.parametrize("kind", ["spec", "older"])
def test_every_part_agrees_with_its_own_value(kind, request):
    value = request.getfixturevalue(kind)
    root = anatomy(value.build(), length=9)
    for part in root.everything():
        if part.value is None or part is root:
            continue
        width = part.shape[0] if part.shape and len(part.shape) == 1 else value.dim
        cost = part.value.cost(width, 1, 9)
        assert (part.parameters, part.flops) == (cost.parameters, cost.flops), part.path
        if part.children:
            assert part.kept_bytes == cost.cache_bytes, part.path


@pytest.mark.parametrize("kind", ["spec", "older"])
def test_the_parts_add_up(kind, request):
    value = request.getfixturevalue(kind)
    root = anatomy(value.build(), length=9)
    assert sum(child.parameters for child in root.children) == root.parameters
    assert sum(child.flops for child in root.children) == root.flops
    for part in root.everything():
        assert part.own_flops >= 0
        is_attention = part.kind == "GroupedQueryAttention"
        assert (part.own_flops > 0) == (is_attention or (not part.children and part.flops > 0)), part.path
    attention = root.find("blocks.1.mixer")
    seen = min(9, attention.value.window or 9)
    assert attention.own_flops == 4 * 4 * 8 * seen


def test_paths_are_the_modules_own(spec):
    module = spec.build()
    for part in anatomy(module).everything():
        assert type(module.get_submodule(part.path)).__name__ == part.kind


def test_the_cache_under_a_window_stops_growing(spec):
    root = anatomy(spec.build(), length=64)
    near, far = root.find("blocks.0"), root.find("blocks.2")
    assert near.cache_bytes == far.cache_bytes == 2 * 2 * 8 * 4
    assert near.kept_bytes == 4 * near.cache_bytes and far.kept_bytes == 64 * far.cache_bytes
    assert anatomy(spec.build(), dtype=torch.bfloat16).kept_bytes * 2 == root.kept_bytes


def test_formats_and_bytes_are_those_in_memory(spec):
    module = spec.build()

    def pack(weight: torch.Tensor) -> Packed:
        return Packed(blocks=quantise(weight.detach(), FORMATS["q8_0"]), format=FORMATS["q8_0"])

    plain = anatomy(module)
    module.embedding = QuantisedEmbedding(pack(module.embedding.weight))
    module.blocks[1].mixer.query = QuantisedLinear(pack(module.blocks[1].mixer.query.weight))
    root = anatomy(module)
    assert (root.parameters, root.flops) == (plain.parameters, plain.flops)
    query = root.find("blocks.1.mixer.query")
    assert (query.format, query.shape, query.bytes) == ("q8_0", (32, 32), 32 * 34)
    assert (root.format, root.formats, root.find("blocks.1.feed").format) == ("mixed", ("f32", "q8_0"), "f32")
    assert plain.bytes - root.bytes == (96 * 32 + 32 * 32) * 4 - (96 + 32) * 34
    assert (root.find("embedding").flops, query.file) == (2 * 96 * 32, "nn/quantised.py")
    assert root.find("blocks.0").like(root.find("blocks.3")) and not root.find("blocks.0").like(root.find("blocks.1"))
    assert not root.find("blocks.0").like(root.find("blocks.2"))  # a window, and none


def test_an_encoder_adds_up_and_keeps_nothing(encoder):
    classifier = dataclasses.replace(encoder, head=SequenceClassifier(classes=3), pooler=Pooler())
    trunk = dataclasses.replace(encoder, head=None)
    for value in (encoder, classifier, trunk):
        root, cost = anatomy(value.build(), length=9), value.cost(1, 9)
        assert (root.parameters, root.flops) == (cost.parameters, cost.flops)
        assert sum(child.flops for child in root.children) == root.flops
        assert all((part.cache_bytes, part.kept_bytes) == (0, 0) for part in root.everything())
    scores, looked_up = 2 * 96 * 32, 0
    assert [anatomy(value.build()).find("embedding").flops for value in (encoder, trunk)] == [scores, looked_up]
    assert anatomy(encoder.build()).find("kinds").flops == 0
    assert anatomy(encoder.build()).find("head").flops == 2 * 32 * 32


def test_every_source_is_where_it_says(spec):
    for part in anatomy(spec.build()).everything():
        if part.file:
            line = (PACKAGE / part.file).read_text(encoding="utf-8").splitlines()[part.line - 1]
            assert line.startswith(f"class {part.kind}("), part
        else:
            assert part.kind == "ModuleList"  # torch's own
    assert source(nn.Linear) == ("", 0)
    assert not Path(source(Packed)[0]).is_absolute()


def test_an_unknown_path_gets_the_nearest(spec):
    root = anatomy(spec.build())
    assert root.find("blocks.3.mixer").name == "mixer"
    with pytest.raises(BadInput, match=r'part: no part is called "blocks.1.mixr"; did you mean "blocks.1.mixer"'):
        root.find("blocks.1.mixr")


def test_a_length_beyond_the_model_is_refused(spec):
    for length in (0, 65):
        with pytest.raises(BadInput, match="from 1 to the model's 64"):
            anatomy(spec.build(), length=length)


def test_the_architecture_is_the_plain_fields(older):
    plain = architecture(older)
    assert (plain["vocab"], plain["tied"], plain["head_bias"], plain["softcap"]) == (96, False, True, None)
    assert not {"blocks", "positions"} & plain.keys()
    with pytest.raises(dataclasses.FrozenInstanceError):
        anatomy(older.build()).path = "x"  # type: ignore[misc]


def test_nothing_is_needed_but_shapes(spec):
    with torch.device("meta"):
        module = spec.build()
    assert anatomy(module).parameters == spec.cost(1, 1).parameters
