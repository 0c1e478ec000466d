from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cutaway.lab.checks.cross_entropy import check_cross_entropy
from cutaway.ops import cross_entropy
from cutaway.ops.cross_entropy import cross_entropy_chunked, cross_entropy_fast, cross_entropy_readable, likeliest

FORMS = (cross_entropy_readable, cross_entropy_fast, cross_entropy_chunked)


@pytest.fixture(params=[None, 12], ids=["one chunk", "chunks"])
def chunk(request, monkeypatch):
    """12 scores at once: two rows of five words, then the next two."""
    if request.param:
        monkeypatch.setattr(cross_entropy, "CHUNK", request.param)
        monkeypatch.setattr(cross_entropy, "SMALL", 0)


@pytest.mark.parametrize("form", FORMS)
def test_against_its_oracle(form, chunk):
    check_cross_entropy(form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_torch(form, smoothing, dtype, chunk):
    make = torch.Generator().manual_seed(0)
    x_ND, weight_VD = (torch.randn(size, 16, generator=make, dtype=dtype).requires_grad_() for size in (40, 60))
    targets_N = torch.randint(60, (40,), generator=make)
    targets_N[::5] = -100
    ours = form(x_ND, weight_VD, targets_N, smoothing=smoothing)
    theirs = F.cross_entropy(x_ND @ weight_VD.t(), targets_N, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, theirs)  # the same sums in another order
    for one, other in zip(*(torch.autograd.grad(loss, (x_ND, weight_VD)) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", FORMS)
def test_under_autocast_products_are_narrow_and_sums_wide(form, chunk):
    make = torch.Generator().manual_seed(0)
    x_ND, weight_VD = (torch.randn(size, 16, generator=make).requires_grad_() for size in (40, 60))
    targets_N = torch.randint(60, (40,), generator=make)
    with torch.autocast("cpu", torch.bfloat16):
        total = form(x_ND, weight_VD, targets_N)
    narrow_NV = (x_ND.bfloat16() @ weight_VD.bfloat16().t()).float()
    expected = F.cross_entropy(narrow_NV, targets_N, reduction="sum")
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, expected)
    for one, other in zip(*(torch.autograd.grad(loss, (x_ND, weight_VD)) for loss in (total, expected)), strict=True):
        # Slopes rounded to 8 bits, products of them once more; torch's readable way rounds at other places.
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.03, atol=0.06)


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


def test_all_scores_are_never_there_at_once(monkeypatch):
    tokens, dim, vocab = 512, 16, 256
    x_ND, weight_VD = torch.randn(tokens, dim, requires_grad=True), torch.randn(vocab, dim, requires_grad=True)
    targets_N = torch.randint(vocab, (tokens,))
    monkeypatch.setattr(cross_entropy, "CHUNK", 32 * vocab)
    seen = {}
    for form in (cross_entropy_chunked, cross_entropy_readable):
        with Largest() as largest:
            form(x_ND, weight_VD, targets_N, softcap=3.0, z=0.1, smoothing=0.1).backward()
        seen[form] = largest.numbers
    assert seen[cross_entropy_readable] == tokens * vocab
    assert seen[cross_entropy_chunked] == max(32 * vocab, tokens * dim)


def test_the_likeliest_words_are_found_in_chunks(chunk):
    x_ND, weight_VD, bias_V = torch.randn(40, 8), torch.randn(5, 8), torch.randn(5)
    scores_NV = F.linear(x_ND, weight_VD, bias_V)
    assert torch.equal(likeliest(x_ND, weight_VD, bias_V=bias_V), scores_NV.argmax(-1))
    assert torch.equal(likeliest(scores_NV, None), scores_NV.argmax(-1))
    assert likeliest(x_ND[:0], weight_VD).shape == (0,)


def test_what_is_kept_between_the_passes_has_the_size_of_input_and_weight():
    x_ND, weight_VD = torch.randn(64, 4, requires_grad=True), torch.randn(100, 4, requires_grad=True)
    total = cross_entropy_chunked(x_ND, weight_VD, torch.randint(100, (64,)))
    assert sum(gradient.numel() for gradient in total.grad_fn.gradients if gradient is not None) == 64 * 4 + 100 * 4


@pytest.mark.parametrize("size", [2**12, 2**13])
def test_many_scores_take_the_chunks_and_few_take_torch(size, monkeypatch):
    monkeypatch.setattr(cross_entropy, "SMALL", 2**12)
    x_ND = torch.randn(size // 64, 8, requires_grad=True)
    total = cross_entropy_fast(x_ND, torch.randn(64, 8), torch.randint(64, (len(x_ND),)))
    assert ("Chunked" in type(total.grad_fn).__name__) == (size > 2**12)


def test_only_what_learns_gets_a_gradient_and_without_gradients_none_is_made():
    x_ND, weight_VD, targets_N = torch.randn(8, 4), torch.randn(5, 4, requires_grad=True), torch.randint(5, (8,))
    cross_entropy_chunked(x_ND, weight_VD, targets_N).backward()
    assert weight_VD.grad is not None and x_ND.grad is None
    with torch.no_grad():
        total = cross_entropy_chunked(x_ND, weight_VD, targets_N, z=0.1, softcap=2.0)
    assert not total.requires_grad
    torch.testing.assert_close(total, cross_entropy_readable(x_ND, weight_VD, targets_N, z=0.1, softcap=2.0).detach())


def test_inputs_are_left_alone():
    for weight in (None, torch.randn(6, 6)):
        x_ND = torch.randn(8, 6)
        before = x_ND.clone()
        cross_entropy_chunked(x_ND.requires_grad_(), weight, torch.randint(6, (8,)), softcap=2.0, z=0.1).backward()
        assert torch.equal(x_ND.detach(), before)


def test_a_second_backward_pass_says_what_is_wrong():
    x_ND = torch.randn(8, 6, requires_grad=True)
    total = cross_entropy_chunked(x_ND, None, torch.randint(6, (8,)))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed on"):
        total.backward()


def test_it_runs_on_the_meta_device():
    x_ND = torch.randn(8, 6, device="meta", requires_grad=True)
    weight_VD = torch.randn(9, 6, device="meta", requires_grad=True)
    for form in (cross_entropy_fast, cross_entropy_chunked):
        form(x_ND, weight_VD, torch.zeros(8, dtype=torch.long, device="meta")).backward()
