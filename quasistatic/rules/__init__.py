"""Learning rules."""

from quasistatic.rules.base import AbstractRule as AbstractRule
from quasistatic.rules.likelihood import MaximumLikelihood as MaximumLikelihood
from quasistatic.rules.noise_contrastive import NoiseContrastive as NoiseContrastive
from quasistatic.rules.pseudo_likelihood import PseudoLikelihood as PseudoLikelihood
from quasistatic.rules.score_matching import ScoreMatching as ScoreMatching
from quasistatic.rules.set_point import SetPoint as SetPoint
