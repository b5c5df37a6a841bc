"""Losses: unreduced pure functions of logits or arrays."""

from jaxgan.losses.adversarial import (
    ADVERSARIAL,
    AdversarialLoss,
    hinge_disc,
    hinge_gen,
    least_squares_disc,
    least_squares_gen,
    minimax_disc,
    minimax_gen,
    nonsaturating_disc,
    nonsaturating_gen,
    relativistic_average_disc,
    relativistic_average_gen,
    relativistic_disc,
    relativistic_gen,
    wasserstein_disc,
    wasserstein_gen,
    weighted,
)
from jaxgan.losses.auxiliary import CLASS, ClassLoss, class_cross_entropy, class_hinge
from jaxgan.losses.contrastive import patch_nce

__all__ = [
    "ADVERSARIAL",
    "CLASS",
    "AdversarialLoss",
    "ClassLoss",
    "class_cross_entropy",
    "class_hinge",
    "hinge_disc",
    "hinge_gen",
    "least_squares_disc",
    "least_squares_gen",
    "minimax_disc",
    "minimax_gen",
    "nonsaturating_disc",
    "nonsaturating_gen",
    "patch_nce",
    "relativistic_average_disc",
    "relativistic_average_gen",
    "relativistic_disc",
    "relativistic_gen",
    "wasserstein_disc",
    "wasserstein_gen",
    "weighted",
]
