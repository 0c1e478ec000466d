"""The name under which bench/train.py still asks for lab/measure.py."""

from cutaway.lab.measure import matmul_rate as matmul_rate
