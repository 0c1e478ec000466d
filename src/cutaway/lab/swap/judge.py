"""The judge: a reader's part against the oracle's cases, and, where one goes wrong, the property that broke.

The verdict comes from the cases. What is named comes from probes, each of which tries one property with inputs of its
own: versions that nobody has thought of are named as well.
Read next: lab/swap/part.py, lab/swap/trial.py, lab/swap/table.py
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from cutaway.lab.swap.part import Candidate, Part
from cutaway.lab.swap.source import own_lines
from cutaway.lab.swap.verdict import Case, Verdict

EXHAUSTED = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def judge(part: Part, candidate: Any, source: str = "", say: Callable[[str], None] = lambda text: None) -> Verdict:
    """The verdict on a candidate from the file `source` (for its own lines in a traceback)."""
    with warnings.catch_warnings():  # torch warns of odd shapes, which are the cases' and not the reader's
        warnings.simplefilter("ignore")
        return _judged(part, candidate, source, say)


def _judged(part: Part, candidate: Any, source: str, say: Callable[[str], None]) -> Verdict:
    wrong = signature_fault(part, candidate)
    if wrong is not None:
        return Verdict(part=part.name, outcome="signature", message=wrong)
    absent = _absent(part, candidate)
    notes = tuple(text for name, text in part.optional.items() if name in absent)
    case: Case | None = None
    raised: BaseException | None = None
    index, trials = 0, part.trials(candidate)
    for index, trial in enumerate(trials):
        say(f"case {index + 1} of {len(trials)}")
        try:
            torch.manual_seed(0)
            case = trial()
        except NotImplementedError as error:
            if own_lines(error, source) or not source:
                return Verdict(part=part.name, outcome="not written", message="not written yet")
            raised = error
        except Exception as error:
            raised = error
        if case is not None or raised is not None:
            break
    if raised is not None and exhausted(raised):
        return raises(part.name, raised, source)
    # What raises at every call would raise in every probe: its own lines say more.
    broken = _broken(part, candidate, say) if raised is None or index or _works(trials[1:]) else []
    if case is None and raised is None and not broken:
        notes += tuple(part.remarks(candidate)) if part.remarks is not None else ()
        return Verdict(part=part.name, outcome="passes", message="all cases and properties hold", notes=notes)
    (name, why), *others = broken or [(None, "")]
    rest = tuple(dict.fromkeys(f"{other}: {text}" for other, text in others if other))
    if raised is not None:
        told = raises(part.name, raised, source)
        return Verdict(
            part=part.name, outcome="raises", message=told.message, trace=told.trace, broke=name, why=why, others=rest,
            notes=notes,
        )  # fmt: skip
    if case is None:  # no case shows it, a law does
        case = Case(what=f"the law of {name}", place="law", got=why, expected="it holds")
    message = f"{name}: {why}" if name else "differs from the equation; no probe says why"
    return Verdict(
        part=part.name, outcome="fails", message=message, broke=name, why=why, others=rest, case=case, notes=notes
    )


def _works(trials: Sequence[Callable[[], Case | None]]) -> bool:
    """Whether any call is answered rightly."""
    for trial in trials:
        with suppress(Exception):
            torch.manual_seed(0)
            if trial() is None:
                return True
    return False


def _broken(part: Part, candidate: Candidate, say: Callable[[str], None]) -> list[tuple[str | None, str]]:
    found: list[tuple[str | None, str]] = []
    for probe in part.probes:
        say(f"probing {probe.property}")
        try:
            torch.manual_seed(0)
            why = probe.find(candidate)
        except Exception:  # it cannot be read off; the verdict does not hang on it
            continue
        if why is not None:
            found.append((probe.property, why))
    return found


def raises(part: str, error: BaseException, source: str) -> Verdict:
    """The verdict on a file whose code raised: with the reader's own lines alone."""
    trace, said = tuple(own_lines(error, source)), str(error).strip().partition("\n")[0]
    if exhausted(error):
        return Verdict(part=part, outcome="memory", message="it asks for more memory than it is given", trace=trace)
    message = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, EOFError):
        message = "it reads standard input, which is empty here"
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return Verdict(part=part, outcome="exits", message=f"it ends the program ({type(error).__name__})", trace=trace)
    return Verdict(part=part, outcome="raises", message=message, trace=trace)


def exhausted(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in EXHAUSTED)


def signature_fault(part: Part, candidate: Any) -> str | None:
    """What is wrong with how a candidate wants to be called, in words."""
    expected = f"expected {short_signature(part)}"
    if not callable(candidate):
        return f"it is a {type(candidate).__name__}, not a function; {expected}"
    if inspect.iscoroutinefunction(candidate) or inspect.isgeneratorfunction(candidate):
        return f"it is a generator or coroutine, not a plain function; {expected}"
    try:
        found = inspect.signature(candidate)
    except (TypeError, ValueError):
        return None
    absent = _absent(part, candidate)
    named = [name for name in part.named if name not in absent]
    try:
        found.bind(*[None] * part.positional, **dict.fromkeys(named))
    except TypeError as error:
        return f"{error}; {expected}"
    return None


def _absent(part: Part, candidate: Any) -> set[str]:
    """Optional arguments that it does not take."""
    try:
        found = inspect.signature(candidate).parameters
    except (TypeError, ValueError):
        return set()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found.values()):
        return set()
    return {name for name in part.optional if name not in found}


def short_signature(part: Part) -> str:
    """`attend(q_NHK, k_SGK, v_SGK, see, *, scale, ...)`, without annotations."""
    found = inspect.signature(part.ours)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    shown = found.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    return f"{part.name.rpartition('.')[2]}{shown}"
