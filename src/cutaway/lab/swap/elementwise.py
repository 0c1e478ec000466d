"""`ops.activate` and `ops.gate` as parts to replace: which curve it is, and which side it bends.

Read next: ops/activation.py, lab/checks/activation.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from cutaway.lab.checks.activation import SCALARS, activation_oracle, gate_oracle
from cutaway.lab.swap.general import form_probes
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.sight import normal
from cutaway.lab.swap.trial import Trial, attempt, close
from cutaway.lab.swap.verdict import Case
from cutaway.ops.activation import gate_readable
from cutaway.ops.forms import activate_readable

SPREAD = torch.linspace(-7.0, 7.0, 12) + 0.0625
FAR = torch.tensor([-1e4, -200.0, -40.0, 0.0, 40.0, 200.0, 1e4])


def _activate_trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for name in SCALARS:
        for x, learned in ((torch.tensor([0.5]), ("x",)), (SPREAD, ("x",)), (FAR, ()), (normal(2, 3, 4), ("x",))):
            for dtype in (torch.float32, torch.bfloat16):
                made.append(
                    Trial(
                        what=f"{name} of {tuple(x.shape)} numbers",
                        inputs={"x": x.double(), "name": name},
                        oracle=lambda x, name: activation_oracle(x.numpy(), name),
                        smooth=activate_readable,
                        learned=learned if dtype == torch.float32 else (),
                        dtype=dtype,
                    )
                )
    return [partial(attempt, one, candidate) for one in made]


def _gate_trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    made = []
    for name in SCALARS:
        for shape in ((1, 1), (3, 5), (0, 4)):
            inputs = {"gate": normal(*shape, seed=1).double() * 2, "up": normal(*shape, seed=2).double()}
            made.append(
                Trial(
                    what=f"{name}, {shape}",
                    inputs={**inputs, "activation": name},
                    oracle=lambda gate, up, name: gate_oracle(gate.numpy(), up.numpy(), name),
                    smooth=gate_readable,
                    learned=("gate", "up") if shape[0] else (),
                )
            )
    return [partial(attempt, one, candidate) for one in made]


def curve(function: Callable[[torch.Tensor], torch.Tensor]) -> str | None:
    """The name of the activation that it computes, if it is one."""
    got = function(SPREAD.clone())
    for name in SCALARS:
        right = torch.from_numpy(activation_oracle(SPREAD.double().numpy(), name))
        if close(got.double(), right, 1e-5):
            return name
    return None


def _curve(candidate: Candidate) -> str | None:
    for name in SCALARS:
        got = curve(lambda x, name=name: candidate(x, name))
        if got != name:
            return f'"{name}" gives {f"the curve of {got}" if got else "a curve that has no name here"}'
    return None


def _sides(candidate: Candidate) -> str | None:
    gate, up = normal(2, 3, seed=1), normal(2, 3, seed=2)
    got = candidate(gate, up, "silu")
    right = gate_readable(gate, up, "silu")
    if close(got, right):
        return None
    if close(got, gate_readable(up, gate, "silu")):
        return "the activation bends `up`, and should bend `gate`"
    if not close(candidate(gate, up * 2, "silu"), got * 2):
        return "the answer is not proportional to `up`"
    if close(got, gate_readable(gate, torch.ones_like(up), "silu") + up):
        return "`up` is added, not multiplied"
    ones = torch.ones_like(SPREAD)
    # Where it is another curve that bends the right side, the curve's own probe says so.
    return None if curve(lambda x: candidate(x, ones, "silu")) else "the answer is not activation(gate) * up"


def _names(candidate: Candidate) -> str | None:
    ones = torch.ones_like(SPREAD)
    for name in SCALARS:
        got = curve(lambda x, name=name: candidate(x, ones, name))
        if got != name:
            return f'"{name}" gives {f"the curve of {got}" if got else "a curve that has no name here"}'
    return None


def _overflow(candidate: Candidate) -> str | None:
    for name in SCALARS:
        far = FAR.clone().requires_grad_()
        got = candidate(far * 1, name)
        if not bool(got.isfinite().all()):
            return f'"{name}" far from zero is not finite: an exponential overflows'
        if got.requires_grad and not bool(torch.autograd.grad(got.sum(), far)[0].isfinite().all()):
            return f'"{name}" far from zero has a gradient that is not finite'
    return None


def _activate_call(candidate: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (normal(3, 4).to(dtype), "silu"), {}


def _gate_call(candidate: Candidate, dtype: torch.dtype = torch.float32) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (normal(3, 4).to(dtype), normal(3, 4, seed=1).to(dtype), "silu"), {}


ACTIVATE = Part(
    name="ops.activate",
    about="an activation by its name, elementwise",
    ours=activate_readable,
    positional=2,
    optional={},
    trials=_activate_trials,
    probes=(
        *form_probes(_activate_call, activate_readable, tensors=1, rows=1),
        Probe(property="far from zero", find=_overflow),
        Probe(property="curve", find=_curve),
    ),
    place="activate",
    bench=lambda: ((normal(128, 1536), "gelu_tanh"), {}),
)
GATE = Part(
    name="ops.gate",
    about="the gated product of a feed-forward: activation(gate) * up",
    ours=gate_readable,
    positional=3,
    optional={},
    trials=_gate_trials,
    probes=(
        *form_probes(_gate_call, gate_readable, tensors=2, rows=2),
        Probe(property="which side bends", find=_sides),
        Probe(property="curve", find=_names),
    ),
    place="gate",
    bench=lambda: ((normal(128, 1536), normal(128, 1536, seed=1), "silu"), {}),
)
