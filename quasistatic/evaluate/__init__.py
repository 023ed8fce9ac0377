"""Evaluation: exact and annealed partition functions, likelihoods, quality of samples."""

from quasistatic.evaluate.annealing import Bracket as Bracket
from quasistatic.evaluate.annealing import ais as ais
from quasistatic.evaluate.annealing import annealed as annealed
from quasistatic.evaluate.annealing import equilibrated as equilibrated
from quasistatic.evaluate.annealing import log_partition_bracket as log_partition_bracket
from quasistatic.evaluate.annealing import reverse_ais as reverse_ais
from quasistatic.evaluate.exact import Moments as Moments
from quasistatic.evaluate.exact import exact_likelihood as exact_likelihood
from quasistatic.evaluate.exact import exact_moments as exact_moments
from quasistatic.evaluate.exact import is_enumerable as is_enumerable
from quasistatic.evaluate.exact import log_partition_exact as log_partition_exact
from quasistatic.evaluate.exact import mean_reduced as mean_reduced
from quasistatic.evaluate.likelihood import Likelihood as Likelihood
from quasistatic.evaluate.likelihood import log_likelihood as log_likelihood
from quasistatic.evaluate.likelihood import pseudo_likelihood as pseudo_likelihood
from quasistatic.evaluate.likelihood import reconstruction_error as reconstruction_error
from quasistatic.evaluate.paths import base_at as base_at
from quasistatic.evaluate.samples import adversarial_accuracy as adversarial_accuracy
from quasistatic.evaluate.samples import moment_errors as moment_errors
from quasistatic.evaluate.samples import quality as quality
from quasistatic.evaluate.samples import spectrum as spectrum
