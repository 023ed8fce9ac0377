"""Exact theory of training with k steps: solvable models, what they learn, and how they generate."""

from quasistatic.evaluate.dynamics.base import AbstractScalarModel as AbstractScalarModel
from quasistatic.evaluate.dynamics.base import OutOfReach as OutOfReach
from quasistatic.evaluate.dynamics.bernoulli_rbm import BernoulliRBM as BernoulliRBM
from quasistatic.evaluate.dynamics.boltzmann import BoltzmannMachine as BoltzmannMachine
from quasistatic.evaluate.dynamics.boltzmann import sweep as sweep
from quasistatic.evaluate.dynamics.chain import Chain as Chain
from quasistatic.evaluate.dynamics.chain import all_states as all_states
from quasistatic.evaluate.dynamics.chain import divergence as divergence
from quasistatic.evaluate.dynamics.chain import empirical_law as empirical_law
from quasistatic.evaluate.dynamics.curie_weiss import CurieWeiss as CurieWeiss
from quasistatic.evaluate.dynamics.curie_weiss import CurieWeissLimit as CurieWeissLimit
from quasistatic.evaluate.dynamics.enumerated import AbstractEnumerated as AbstractEnumerated
from quasistatic.evaluate.dynamics.gaussian import GaussianModel as GaussianModel
from quasistatic.evaluate.dynamics.gaussian import gaussian_divergence as gaussian_divergence
from quasistatic.evaluate.dynamics.gaussian_rbm import GaussianRBMMode as GaussianRBMMode
from quasistatic.evaluate.dynamics.ising_ring import IsingRing as IsingRing
from quasistatic.evaluate.dynamics.langevin import LangevinMode as LangevinMode
from quasistatic.evaluate.dynamics.langevin import equilibrium_learning as equilibrium_learning
from quasistatic.evaluate.dynamics.langevin import persistent_learning as persistent_learning
from quasistatic.evaluate.dynamics.langevin import persistent_limits as persistent_limits
from quasistatic.evaluate.dynamics.langevin import restarted_learning as restarted_learning
from quasistatic.evaluate.dynamics.spins import IndependentSpin as IndependentSpin
from quasistatic.evaluate.dynamics.unadjusted import UnadjustedMode as UnadjustedMode
