"""The metric of a model as its walkers see it: scores, solves, steps, friction."""

from quasistatic.metric.optim import minimal_dissipation as minimal_dissipation
from quasistatic.metric.optim import natural_gradient as natural_gradient
from quasistatic.metric.products import PairwiseScores as PairwiseScores
from quasistatic.metric.products import RBMScores as RBMScores
from quasistatic.metric.products import scores_of as scores_of
from quasistatic.metric.scores import AbstractScores as AbstractScores
from quasistatic.metric.scores import AutodiffScores as AutodiffScores
