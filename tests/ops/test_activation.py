from __future__ import annotations

import pytest
import torch
from transformers.activations import ACT2FN

from cutaway.base.errors import BadInput
from cutaway.lab.checks.activation import SCALARS, check_activation, check_gate
from cutaway.ops.activation import (
    ALIASES,
    FAST,
    READABLE,
    activation_name,
    gate_fast,
    gate_readable,
    geglu,
    glu,
    swiglu,
)


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("forms", [READABLE, FAST], ids=["readable", "fast"])
def test_every_activation_against_its_oracle(forms, name):
    check_activation(forms[name], name)


@pytest.mark.parametrize("gate", [gate_readable, gate_fast])
def test_both_gates_against_the_oracle(gate):
    check_gate(gate)


def test_the_tables_hold_the_same_names():
    assert set(READABLE) == set(FAST) == set(SCALARS) == set(ALIASES.values())
    assert all(ALIASES[name] == name for name in READABLE)


@pytest.mark.parametrize("name", sorted(ALIASES.keys() - {"gelu_tanh"}))  # a name of our own
def test_checkpoint_names_mean_what_transformers_means(name):
    x = torch.linspace(-8, 8, 200)
    # The spelled-out constants of gelu_fast have ten digits; float32 rounds at 6e-8 relative, over a few steps.
    torch.testing.assert_close(FAST[activation_name(name)](x), ACT2FN[name](x), rtol=2e-6, atol=2e-6)


def test_an_unknown_activation_is_refused_with_the_nearest():
    with pytest.raises(
        BadInput, match=r'config\.json: hidden_act: unknown activation "gelu_nwe"; did you mean "gelu_new"'
    ):
        activation_name("gelu_nwe", source="config.json", field="hidden_act")


def test_the_named_gates():
    gate, up = torch.randn(2, 5), torch.randn(2, 5)
    torch.testing.assert_close(glu(gate, up), torch.nn.functional.glu(torch.cat((up, gate), -1)))
    torch.testing.assert_close(swiglu(gate, up), ACT2FN["silu"](gate) * up)
    torch.testing.assert_close(geglu(gate, up), ACT2FN["gelu"](gate) * up)


@pytest.mark.parametrize("name", READABLE)
def test_the_fast_gate_keeps_its_inputs_with_and_without_gradients(name):
    gate, up = torch.randn(3, 4), torch.randn(3, 4)
    kept = gate.clone(), up.clone()
    without = gate_fast(gate, up, name)
    assert torch.equal(gate, kept[0]) and torch.equal(up, kept[1])
    with_gradients = gate_fast(gate.requires_grad_(), up, name)
    assert torch.equal(with_gradients, without)
    with torch.no_grad():
        assert torch.equal(gate_fast(gate, up, name), without)


@pytest.mark.parametrize("name", READABLE)
def test_gradients_are_finite_everywhere(name):
    for forms in (READABLE, FAST):
        x = torch.tensor([-1e4, -100.0, -89.0, 0.0, 89.0, 100.0, 1e4], requires_grad=True)
        forms[name](x).sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all())
