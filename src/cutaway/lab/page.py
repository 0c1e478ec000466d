"""One HTML page that needs nothing but itself: no script, no font, no picture from elsewhere; light and dark.

Read next: lab/figures.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1d1c1a; --faint: #6f6b64; --line: #dedad2;
  --warm: #e8913a; --cool: #2f7f8f; --panel: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --paper: #171716; --ink: #eceae5; --faint: #9c978e; --line: #37352f;
  --warm: #b86a1c; --cool: #4aa3b5; --panel: #1f1e1c; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .4rem }
p { max-width: 46rem; margin: .3rem 0 .8rem }
.note { color: var(--faint); font-size: .9rem }
.panel { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem;
  overflow-x: auto; margin: .6rem 0 }
code, .mono { font: .86rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono", monospace }
svg { display: block; font: 11px ui-monospace, Menlo, Consolas, "Noto Sans Mono", "Noto Sans CJK SC", monospace;
  fill: var(--ink) }
svg .faint { fill: var(--faint) } svg .cell { fill: var(--warm) } svg .cool { fill: var(--cool) }
svg .frame { fill: none; stroke: var(--line) }
.question { font-weight: 600; margin: 0 } .answer { white-space: pre-wrap; margin: .35rem 0 0; max-width: 60rem }
.tree { min-width: 62rem }
.tree .row { display: grid; align-items: baseline; gap: .75rem;
  grid-template-columns: minmax(17rem, 1fr) 7rem 5rem 9rem 5rem 5rem 4rem 15rem }
.tree .row > :nth-child(3), .tree .row > :nth-child(5), .tree .row > :nth-child(6) { text-align: right }
.tree .head { color: var(--faint); border-bottom: 1px solid var(--line); margin-bottom: .3rem }
.tree summary { cursor: pointer; list-style: none } .tree summary::-webkit-details-marker { display: none }
.tree summary .name::before { content: "▸ "; color: var(--faint) }
.tree details[open] > summary .name::before { content: "▾ " }
.tree .leaf .name::before { content: "· "; color: var(--faint) }
.alike { color: var(--warm) } .dim { color: var(--faint) }
.bar { display: inline-block; height: .6em; background: var(--cool); border-radius: 2px; margin-right: .4em }
table { border-collapse: collapse } td, th { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top }
th { font-weight: 500; color: var(--faint) } td[style*=right] { white-space: nowrap }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """`body` is HTML that is already escaped; title and note are plain text."""

    title: str
    body: str
    note: str = ""


def page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole document. `lead` are paragraphs of plain text under the title."""
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in lead)
    body = "".join(
        f"<section><h2>{escape(section.title)}</h2>"
        + (f'<p class="note">{escape(section.note)}</p>' if section.note else "")
        + f"{section.body}</section>\n"
        for section in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n{paragraphs}\n{body}</main>\n</body>\n</html>\n"
    )
