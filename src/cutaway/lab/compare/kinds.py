"""The values that a comparison may be made of, by the names under which comparison.json knows them. A line for each.

Read next: lab/compare/comparison.py, base/values.py
"""

from __future__ import annotations

from types import MappingProxyType

from cutaway.lab.compare.activations import ActivationComparison
from cutaway.lab.compare.attention import AttentionComparison
from cutaway.lab.compare.attention_training import AttentionTraining
from cutaway.lab.compare.experts import ExpertComparison
from cutaway.lab.compare.length import LengthComparison
from cutaway.lab.compare.matmul import MatmulComparison
from cutaway.lab.compare.norms import Deep, NormComparison
from cutaway.lab.compare.positions import PositionComparison
from cutaway.lab.compare.precision import PrecisionComparison
from cutaway.lab.compare.probes import Passkey, Probing, Recall
from cutaway.lab.compare.subject import Subject
from cutaway.lab.compare.training import Setting

COMPARISONS = (
    AttentionComparison,
    ActivationComparison,
    ExpertComparison,
    LengthComparison,
    MatmulComparison,
    NormComparison,
    PositionComparison,
    PrecisionComparison,
)
INNER = (AttentionTraining, Deep, Passkey, Probing, Recall, Setting, Subject)
VALUES = MappingProxyType({one.__name__: one for one in (*COMPARISONS, *INNER)})
