"""Weights that are normalized as a part of the model, or constrained after each step (article 4); needs only torch."""

from weight_norms.constraints import CONSTRAINTS, Constrained, check_constraint, constrain
from weight_norms.normalizing import bake_in, check_kind, normalize, settle
from weight_norms.norms import KINDS, spectral_norm, unit_norms
from weight_norms.selection import KERNELS, Selection, Weight

__all__ = [
    "CONSTRAINTS",
    "KERNELS",
    "KINDS",
    "Constrained",
    "Selection",
    "Weight",
    "bake_in",
    "check_constraint",
    "check_kind",
    "constrain",
    "normalize",
    "settle",
    "spectral_norm",
    "unit_norms",
]
