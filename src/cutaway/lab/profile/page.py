"""A profile in words, as a table's cells, and as a page with bars.

Read next: lab/profile/phase.py, lab/page.py
"""

from __future__ import annotations

from html import escape

from cutaway.lab.page import Section, page
from cutaway.lab.profile.phase import Line, Phase, Profile
from cutaway.lab.units import counted, sized, timed

HEAD = ("part", "time", "share", "reads", "FLOPs", "speed", "of the roof", "where")
WIDTH = 220  # pixels of the longest bar
PARTS = {
    "embedding": "rows of the token table",
    "norms": "wherever they stand",
    "projections": "a mixer's products with weights",
    "positions": "turning queries and keys, or added to the embedding",
    "attention": "scores and sums, and what else a mixer does",
    "cache": "keeping and fetching keys, values and states",
    "feed": "feed-forwards and experts",
    "head": "the last norm's output times the token table",
    "sampling": "from logits to tokens",
    "engine": "planning, page tables, tensors of ids, committing",
    "rest": "residual sums and casts",
}


def title(phase: Phase) -> str:
    """What was measured: "decode, 16 streams at 544 tokens"."""
    if phase.name == "prefill":
        return f"prefill, a prompt of {phase.tokens} tokens"
    many = "1 stream" if phase.streams == 1 else f"{phase.streams} streams"
    return f"decode, {many} at {phase.length} tokens"


def in_words(profile: Profile, phase: Phase) -> str:
    """What a phase comes to, in a sentence or two."""
    step = "a prompt" if phase.name == "prefill" else "a step"
    most = max(phase.lines, key=lambda line: line.seconds)
    return (
        f"{timed(phase.bare)} {step}, {phase.rate:.0f} tokens/s: {100 * profile.reached(phase):.0f}% of what bandwidth "
        f"and matmul rate allow. {most.part.capitalize()} takes {100 * most.seconds / phase.seconds:.0f}%, the engine "
        f"itself {100 * phase.outside:.1f}%. Watching costs {100 * phase.overhead:+.0f}%."
    )


def cells(profile: Profile, phase: Phase, line: Line) -> tuple[str, ...]:
    """One line of the table, by `HEAD`."""
    share = profile.share(phase, line)
    return (
        line.part,
        timed(line.seconds),
        f"{100 * line.seconds / phase.seconds:.1f}%",
        sized(line.work.bytes) if line.work.bytes else "",
        counted(line.work.flops) if line.work.flops else "",
        speed(line, phase, profile),
        "" if share is None else f"{100 * share:.0f}%" if share >= 0.01 else "< 1%",
        ", ".join(line.where),
    )


def speed(line: Line, phase: Phase, profile: Profile) -> str:
    """In what bounds the part: bytes or FLOPs a second; "" where it has no work."""
    if not line.seconds or not (line.work.bytes or line.work.flops):
        return ""
    if line.work.bytes / profile.bandwidth >= line.work.flops / profile.rate(phase):
        return f"{sized(line.work.bytes / line.seconds)}/s"
    return flops_rate(line.work.flops / line.seconds)


def flops_rate(rate: float) -> str:
    """28.6 GFLOP/s."""
    text = counted(rate)
    return f"{text[:-1]} {text[-1]}FLOP/s" if text[-1].isalpha() else f"{text} FLOP/s"


def profile_page(profile: Profile, machine: str) -> str:
    """The whole profile as one page. `machine`: what it was measured on."""
    rates = ", ".join(f"{flops_rate(rate)} in {_dtype(dtype)}" for dtype, rate in profile.rates.items())
    lead = [
        f"Measured on {machine}: it reads {sized(profile.bandwidth)}/s and multiplies {rates}.",
        "Each part's bar is its time; the orange piece is what the machine cannot do the part's work without, which is "
        "to read its weights and cache once and to do its products. What is blue is lost to unpacking, to starting "
        "operations, and to reading and writing what lies between them. A part can come out above 100%: small weights "
        "stay in the processor's cache, and kernels may multiply in narrower numbers than the rate was measured in.",
    ]
    sections = [_section(profile, phase) for phase in profile.phases]
    what = "".join(f"<tr><td>{name}</td><td>{escape(text)}</td></tr>" for name, text in PARTS.items())
    sections.append(Section(title="What the parts are", body=f'<div class="panel"><table>{what}</table></div>'))
    return page(f"Where the time of {profile.model} goes", lead, sections)


def _section(profile: Profile, phase: Phase) -> Section:
    longest = max(line.seconds for line in phase.lines) or 1.0
    titles = "".join(f"<th>{escape(one)}</th>" for one in (*HEAD[:3], "", *HEAD[3:]))
    rows = []
    for line in sorted(phase.lines, key=lambda line: -line.seconds):
        part, *texts = cells(profile, phase, line)
        shown = [f"<td>{escape(text)}</td>" for text in texts]
        shown.insert(2, f"<td>{_bar(profile, phase, line, longest)}</td>")
        rows.append(f"<tr><td>{part}</td>{''.join(shown)}</tr>")
    table = f'<table class="mono" style="white-space:nowrap"><tr>{titles}</tr>{"".join(rows)}</table>'
    heading = title(phase)
    note = in_words(profile, phase)
    return Section(title=heading[0].upper() + heading[1:], body=f'<div class="panel">{table}</div>', note=note)


def _bar(profile: Profile, phase: Phase, line: Line, longest: float) -> str:
    """A bar as long as the part's time; its first piece is the least that it could be."""
    whole = WIDTH * line.seconds / longest
    least = min(whole, WIDTH * profile.least(phase, line) / longest)
    return (
        f'<svg role="img" aria-label="{escape(line.part)}" width="{WIDTH}" height="14" viewBox="0 0 {WIDTH} 14">'
        f'<rect class="cool" x="0" y="2" width="{whole:.1f}" height="10" rx="2"/>'
        f'<rect class="cell" x="0" y="2" width="{least:.1f}" height="10" rx="2"/></svg>'
    )


def _dtype(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
