"""Learning rules."""

from quasistatic.rules.base import AbstractRule as AbstractRule
from quasistatic.rules.likelihood import MaximumLikelihood as MaximumLikelihood
