"""`infer.choose` as a part to replace: the sampler, known by what it draws.

Some hundreds of draws show which tokens are left: each has a share of 5% or more here, so that one is missed once in
five million times (0.95^300). Shares themselves are read off from some thousands.
V vocabulary.   Read next: infer/sampler.py, lab/checks/sampler.py
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cutaway.infer.decoding import Decoding
from cutaway.infer.sampler import choose
from cutaway.lab.checks.sampler import distribution
from cutaway.lab.swap.part import Candidate, Part, Probe
from cutaway.lab.swap.verdict import Case

FEW, SOME, MANY = 300, 1000, 2000
SHARES = (0.15, 0.4, 0.05, 0.3, 0.1)  # in no order: ids are not ranks
EQUAL, DRAWS, LEAST = 400, 150, 80  # 200 equal tokens give 106 different ones, with a deviation of 4
FLAT: tuple[dict[str, Any], ...] = ({}, {"top_k": 200}, {"top_p": 0.9}, {"min_p": 0.5})
FAR = 5.5  # deviations: once in 25 million draws of a right sampler


def logits_of(shares: Sequence[float]) -> Tensor:
    return torch.tensor([math.log(share) for share in shares])


def drawn(candidate: Candidate, logits_V: Tensor, decoding: Decoding, count: int = FEW, seed: int = 0) -> Counter[int]:
    draw = random.Random(seed)
    return Counter(int(candidate(logits_V.clone(), decoding, draw, ())) for _ in range(count))


def left(candidate: Candidate, shares: Sequence[float] = SHARES, **told: Any) -> set[int]:
    """The tokens that are drawn at all."""
    return set(drawn(candidate, logits_of(shares), Decoding(**{"temperature": 1.0, **told})))


def _trial(
    what: str, logits: Sequence[float], decoding: Decoding, seen: tuple[int, ...], candidate: Candidate
) -> Case | None:
    right = distribution(logits, decoding, seen)
    draw, logits_V = random.Random(0), torch.tensor(logits)
    count = 3 if decoding.greedy else SOME
    found: Counter[int] = Counter()
    inputs = {"logits": str([round(one, 4) for one in logits]), "seen": str(seen)}
    for _ in range(count):
        token = candidate(logits_V, decoding, draw, seen)
        if isinstance(token, bool) or not hasattr(token, "__index__") or not 0 <= int(token) < len(logits):
            return Case(what=what, place="result", got=repr(token), expected="a token's id, an int", inputs=inputs)
        found[int(token)] += 1
    if not torch.equal(logits_V, torch.tensor(logits)):
        return Case(what=what, place="logits after the calls", got="changed", expected="as they were", inputs=inputs)
    for token, share in enumerate(right):
        # A share of a token that is left deviates by less than this; one that is cut is never drawn.
        slack = FAR * math.sqrt(share * (1 - share) / count) + 1e-12
        if abs(found[token] / count - share) > slack:
            got = f"{found[token] / count:.4f} ({found[token]} of {count} draws)"
            return Case(what=what, place=f"share of token {token}", got=got, expected=f"{share:.4f}", inputs=inputs)
    return None


def trials(candidate: Candidate) -> Sequence[Callable[[], Case | None]]:
    logits = [round(float(one), 4) for one in logits_of(SHARES)]
    plain: tuple[tuple[dict[str, Any], tuple[int, ...]], ...] = (
        ({"temperature": 0.0}, ()),
        ({"temperature": 0.0, "repetition_penalty": 2.0}, (1, 1)),
        ({"temperature": 1.0}, ()),
        ({"temperature": 0.5}, ()),
        ({"temperature": 1.0, "top_k": 1}, ()),
        ({"temperature": 1.0, "top_k": 3}, ()),
        ({"temperature": 1.0, "top_k": 50}, ()),
        ({"temperature": 1.0, "top_p": 0.5}, ()),
        ({"temperature": 2.0, "top_p": 0.6}, ()),
        ({"temperature": 1.0, "top_k": 2, "top_p": 0.5}, ()),
        ({"temperature": 1.0, "min_p": 0.3}, ()),
        ({"temperature": 1.3, "top_k": 3, "top_p": 0.6, "min_p": 0.1}, ()),
        ({"temperature": 1.0, "repetition_penalty": 1.5}, (1, 3, 3)),
    )
    made = []
    for told, seen in plain:
        said = ", ".join(f"{name}={value}" for name, value in told.items())
        made.append(partial(_trial, said, logits, Decoding(**told), seen, candidate))
    mixed = [2.0, -1.0, 1.5, -3.0]
    hot: tuple[dict[str, Any], ...] = ({"temperature": 0.0}, {"temperature": 1.0})
    for one in hot:
        told = {**one, "repetition_penalty": 1.5}
        said = ", ".join(f"{name}={value}" for name, value in told.items())
        made.append(partial(_trial, said, mixed, Decoding(**told), (0, 1), candidate))
    return made + [partial(_flat, one, candidate) for one in FLAT]


def _of_equal(candidate: Candidate, **told: Any) -> Counter[int]:
    """What comes out of `DRAWS` draws among as many equal tokens."""
    return drawn(candidate, torch.zeros(EQUAL), Decoding(temperature=1.0, **told), DRAWS)


def _too_few(candidate: Candidate, **told: Any) -> str | None:
    """Where fewer tokens are left than should be, and not one of them drawn for the others."""
    found = _of_equal(candidate, **told)
    if len(found) >= LEAST or max(found.values()) > DRAWS // 5:
        return None
    said = "".join(f"{name}={value}: " for name, value in told.items())
    return f"{said}{DRAWS} draws among {EQUAL} equal tokens find {len(found)}: the others are cut"


def _flat(told: dict[str, Any], candidate: Candidate) -> Case | None:
    found = len(_of_equal(candidate, **told))
    if found >= LEAST:
        return None
    said = ", ".join(f"{name}={value}" for name, value in {"temperature": 1.0, **told}.items())
    what = f"{EQUAL} equal tokens, {said}"
    inputs = {"logits": f"{EQUAL} zeros", "seen": "()"}
    return Case(
        what=what, place=f"different tokens of {DRAWS}", got=f"{found}", expected=f"over {LEAST}", inputs=inputs
    )


def _unchanged(candidate: Candidate) -> str | None:
    tries: tuple[dict[str, Any], ...] = (
        {"temperature": 0.7, "top_k": 3, "top_p": 0.9},
        {"repetition_penalty": 2.0},
        {"temperature": 2.0},
    )
    for told in tries:
        logits_V = logits_of(SHARES)
        before = logits_V.clone()
        candidate(logits_V, Decoding(**told), random.Random(0), (1, 2))
        if not torch.equal(before, logits_V):
            return "`logits_V` is changed by the call"
    return None


def _greedy(candidate: Candidate) -> str | None:
    try:
        found = drawn(candidate, logits_of(SHARES), Decoding(), 50)
    except Exception as error:
        return f"a temperature of 0 ends in {type(error).__name__}: it means the likeliest"
    return None if set(found) == {1} else f"temperature 0 draws {sorted(found)}, and should take the likeliest alone"


def _ids(candidate: Candidate) -> str | None:
    """A token that is all but certain, at each place."""
    got = []
    for token in range(4):
        logits_V = torch.zeros(4)
        logits_V[token] = 60.0
        got.append(int(candidate(logits_V, Decoding(temperature=1.0), random.Random(token), ())))
    if got == [0, 1, 2, 3]:
        return None
    if len(set(got)) == 1:
        return f"whichever token is all but certain, {got[0]} comes out: its rank, not its id"
    return f"of four tokens the one that is all but certain is 0, 1, 2, 3 in turn, and {got} come out"


def _seed(candidate: Candidate) -> str | None:
    decoding, flat = Decoding(temperature=1.0), torch.zeros(1000)
    runs = []
    for seed in (1, 1, 2):
        draw = random.Random(seed)
        runs.append([int(candidate(flat.clone(), decoding, draw, ())) for _ in range(8)])
    if runs[0] != runs[1]:
        return "one seed draws two sequences: chance comes from elsewhere than `draw`"
    if runs[0] == runs[2]:
        return "two seeds draw one sequence: `draw` is ignored"
    return "of 1,000 equal tokens one is always drawn" if len(set(runs[0])) == 1 else None


def _temperature(candidate: Candidate) -> str | None:
    found = {}
    for temperature in (2.0, 0.5):
        counts = drawn(candidate, torch.tensor([0.0, 1.0]), Decoding(temperature=temperature), MANY)
        if not counts[0] or not counts[1]:
            return None
        found[temperature] = math.log(counts[1] / counts[0])  # the logits' difference, divided by the temperature

    def is_like(rule: Callable[[float], float]) -> bool:
        # 2,000 draws: the logarithm deviates by 0.05 where shares are near a half, by 0.06 at 12%.
        return all(abs(one - rule(temperature)) < 0.3 for temperature, one in found.items())

    if is_like(lambda temperature: 1 / temperature):
        return None
    if is_like(lambda temperature: 1.0):
        return "the temperature is ignored"
    if is_like(lambda temperature: temperature):
        return "logits are multiplied by the temperature, not divided"
    if is_like(lambda temperature: temperature**-0.5):
        return "logits are divided by the root of the temperature"
    if is_like(lambda temperature: temperature**-2):
        return "the temperature acts twice"
    return f"at temperature 2 a difference of 1 counts as {found[2.0]:.2f}, not as 0.5"


def _top_k(candidate: Candidate) -> str | None:
    unasked = _too_few(candidate)
    if unasked is not None:
        return f"{unasked}, and nobody asked for it"
    sizes = {k: len(left(candidate, top_k=k)) for k in (1, 2, 3)}
    best = left(candidate, top_k=2)
    if all(size == len(SHARES) for size in sizes.values()):
        return "top_k is ignored"
    for k, size in sizes.items():
        if size != k:
            off = (
                " (off by one)"
                if all(one - key == size - k for key, one in sizes.items()) and abs(size - k) == 1
                else ""
            )
            return f"top_k={k} leaves {size} tokens{off}"
    if best != {1, 3}:
        return f"top_k=2 leaves tokens {sorted(best)}, and not the likeliest, [1, 3]"
    try:
        beyond = left(candidate, top_k=50)
    except Exception as error:
        return f"a top_k above the number of tokens ends in {type(error).__name__}"
    if len(beyond) != len(SHARES):
        return "a top_k above the number of tokens cuts some"
    return _too_few(candidate, top_k=200)


def _top_p(candidate: Candidate) -> str | None:
    # Falling shares 0.4, 0.3, 0.15, 0.1, 0.05 are tokens 1, 3, 0, 4, 2.
    found = {p: left(candidate, top_p=p) for p in (0.2, 0.5, 0.8)}
    right = {0.2: {1}, 0.5: {1, 3}, 0.8: {1, 3, 0}}
    if found == right:
        return _too_few(candidate, top_p=0.9) or _exact(candidate)
    if all(tokens == set(range(len(SHARES))) for tokens in found.values()):
        return "top_p is ignored"
    if found[0.5] == {1} and found[0.8] == {1, 3}:
        return "top_p leaves out the token that crosses it: the sum has to reach p"
    if found[0.5] == {1, 3, 0} and found[0.8] == {1, 3, 0, 4}:
        return "top_p keeps one token too many: the one after the crossing"
    p = next(one for one in right if found[one] != right[one])
    likeliest = sorted(range(len(SHARES)), key=lambda token: -SHARES[token])[: len(found[p])]
    if found[p] != set(likeliest):
        return f"top_p={p} leaves tokens {sorted(found[p])}, not the likeliest: they are to be sorted first"
    return f"top_p={p} leaves tokens {sorted(found[p])}, and should {sorted(right[p])}"


def _exact(candidate: Candidate) -> str | None:
    """Equal tokens whose shares add up to p exactly. One try may go wrong by rounding, not every one."""
    for many, p in ((2, 0.5), (4, 0.5), (4, 0.25), (8, 0.5), (8, 0.25)):
        if len(left(candidate, [1 / many] * many, top_p=p)) != round(many * p) + 1:
            return None
    return "tokens whose shares sum to exactly top_p are enough, and one more is kept"


def _order(candidate: Candidate) -> str | None:
    shares = (0.5, 0.3, 0.15, 0.05)
    # At temperature 3 the shares are 0.35, 0.29, 0.23, 0.16: half of all is two tokens; before it, one.
    found = left(candidate, shares, temperature=3.0, top_p=0.45)
    if found == {0}:
        return "the temperature comes after top-p: the cut is made among shares at temperature 1"
    return None if found == {0, 1} else f"at temperature 3 top_p=0.45 leaves tokens {sorted(found)}, not [0, 1]"


def _chained(candidate: Candidate) -> str | None:
    # 0.4 and 0.3 are 0.57 and 0.43 of what top_k=2 leaves: 0.5 is reached by the first alone.
    found = left(candidate, top_k=2, top_p=0.5)
    if found == {1, 3}:
        return "top-p sums shares that were not renormalised after top-k's cut"
    return None if found == {1} else f"top_k=2 with top_p=0.5 leaves tokens {sorted(found)}, not [1]"


def _min_p(candidate: Candidate) -> str | None:
    found = left(candidate, min_p=0.3)  # 0.3 of 0.4 is 0.12
    if found == {0, 1, 3}:
        # At temperature 3 the shares are 1, 0.84, 0.67 and 0.46 of the first; before it, 1, 0.6, 0.3, 0.1.
        hot = left(candidate, (0.5, 0.3, 0.15, 0.05), temperature=3.0, min_p=0.55)
        if hot == {0, 1, 2}:
            return _too_few(candidate, min_p=0.5)
        said = f"at temperature 3 min_p=0.55 leaves tokens {sorted(hot)}, not [0, 1, 2]"
        return f"{said}: it is held against shares at temperature 1" if hot == {0, 1} else said
    if len(found) == len(SHARES):
        return "min_p is ignored"
    if found <= {1, 3}:
        return "min_p is held against the shares themselves, not against the likeliest one's"
    return f"min_p=0.3 leaves tokens {sorted(found)}, not [0, 1, 3]"


def _plain(candidate: Candidate) -> str | None:
    """At temperature 1, with nothing cut, tokens are drawn by their shares."""
    found = drawn(candidate, logits_of(SHARES), Decoding(temperature=1.0), MANY)
    for token, share in enumerate(SHARES):
        if not found[token]:
            return f"token {token}, with a share of {share:.3f}, is never drawn: it is cut, and nobody asked"
        if not _is_share(found[token] / MANY, share):
            return f"token {token} is drawn {found[token] / MANY:.3f} of the time, and should be {share:.3f}"
    return None


def _is_share(got: float, right: float) -> bool:
    return abs(got - right) <= FAR * math.sqrt(right * (1 - right) / MANY)


def _kept_ratios(candidate: Candidate) -> str | None:
    """Among what is left, shares keep their ratios."""
    if left(candidate, top_k=3) != {0, 1, 3}:
        return None
    kept = {1: 0.4, 3: 0.3, 0: 0.15}
    found = drawn(candidate, logits_of(SHARES), Decoding(temperature=1.0, top_k=3), MANY)
    for token, share in kept.items():
        right, got = share / sum(kept.values()), found[token] / MANY
        if not _is_share(got, right):
            said = f"token {token} is drawn {got:.3f} of the time, and should be {right:.3f}"
            if _is_share(got, share):
                return f"{said}: what is left was not renormalised"
            return f"{said}: the shares of what is left do not keep their ratios (not renormalised?)"
    return None


def _penalty(candidate: Candidate) -> str | None:
    def greedy(logits: list[float], seen: tuple[int, ...], penalty: float = 2.0) -> int:
        return int(candidate(torch.tensor(logits), Decoding(repetition_penalty=penalty), random.Random(0), seen))

    if greedy([3.0, 2.0], (0,)) != 1:
        return "the repetition penalty is ignored, or works the wrong way round: 3 / 2 is less than 2"
    if greedy([-1.0, -1.5], (0,)) != 1:
        return "negative logits of seen tokens are divided by the penalty: that makes them likelier"
    if greedy([4.0, 1.5], (0, 0)) != 0:
        return "a token that was seen twice is penalised twice"
    if greedy([4.0, 3.5], (1,)) != 0 or greedy([4.0, 3.0, 1.0], (2,)) != 0:
        return "the penalty falls on tokens that were not seen"
    if greedy([3.0, 2.9, 2.0], (0, 1)) != 2:
        return "of two tokens that were seen only one is penalised"
    # 3 - 2 is less than 2.5, 3 / 1.1 is not.
    return None if greedy([3.0, 2.5], (0,), 1.1) == 0 else "the penalty is subtracted, not divided by"


def _cold(candidate: Candidate) -> str | None:
    for temperature in (1e-6, 1e-38):
        try:
            token = int(
                candidate(torch.tensor([1.0, 3.0, 2.9]), Decoding(temperature=temperature), random.Random(0), ())
            )
        except Exception as error:
            return f"a temperature of {temperature:g} ends in {type(error).__name__}"
        if token != 1:
            return f"a temperature of {temperature:g} does not take the likeliest"
    return None


def _bench() -> tuple[tuple[Any, ...], dict[str, Any]]:
    logits_V = torch.randn(49152, generator=torch.Generator().manual_seed(0)) * 3
    return (logits_V, Decoding(temperature=0.8, top_k=50, top_p=0.9), random.Random(0), ()), {}


PART = Part(
    name="infer.choose",
    about="the sampler: from logits to the next token",
    ours=choose,
    positional=4,
    optional={},
    trials=trials,
    probes=(
        Probe(property="in-place change of an input", find=_unchanged),
        Probe(property="greedy", find=_greedy),
        Probe(property="seed", find=_seed),
        Probe(property="ids", find=_ids),
        Probe(property="shares", find=_plain),
        Probe(property="temperature", find=_temperature),
        Probe(property="top-k", find=_top_k),
        Probe(property="top-p", find=_top_p),
        Probe(property="order of temperature and top-p", find=_order),
        Probe(property="top-p after top-k", find=_chained),
        Probe(property="min-p", find=_min_p),
        Probe(property="renormalising", find=_kept_ratios),
        Probe(property="repetition penalty", find=_penalty),
        Probe(property="temperature near 0", find=_cold),
    ),
    place="choose",
    bench=_bench,
)
