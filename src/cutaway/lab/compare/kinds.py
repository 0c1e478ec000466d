"""The values that a comparison may be made of, by the names under which comparison.json knows them. A line for each.

Read next: lab/compare/comparison.py, base/values.py
"""

from __future__ import annotations

from types import MappingProxyType

from cutaway.lab.compare.attention import AttentionComparison

VALUES = MappingProxyType({one.__name__: one for one in (AttentionComparison,)})
