"""All parts that a reader may replace, by name.

Read next: lab/swap/part.py, cli/swap.py
"""

from __future__ import annotations

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.lab.swap import adam, attend, attend_blocks, choose, dispatch, elementwise, modules, multiply, norm, rotate
from cutaway.lab.swap.part import Part

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        attend.PART,
        attend_blocks.PART,
        rotate.PART,
        norm.RMS,
        norm.LAYER,
        elementwise.ACTIVATE,
        elementwise.GATE,
        multiply.PART,
        dispatch.PART,
        choose.PART,
        adam.ADAM,
        adam.ADAMW,
        *modules.PARTS,
    )
}


def find(name: str) -> Part:
    """Raises BadInput with the nearest name."""
    if name in PARTS:
        return PARTS[name]
    hint = did_you_mean(name, PARTS) or "; `cutaway swap --list` names them"
    raise BadInput(f'no part "{name}" can be replaced{hint}', field="PART")
