"""Energies and the reduced potential."""

from quasistatic.energies.base import AbstractEnergy as AbstractEnergy
from quasistatic.energies.base import AbstractTractable as AbstractTractable
from quasistatic.energies.base import CallableEnergy as CallableEnergy
from quasistatic.energies.base import as_energy as as_energy
from quasistatic.energies.gaussian import Gaussian as Gaussian
from quasistatic.energies.gaussian import GaussianMixture as GaussianMixture
from quasistatic.energies.gaussian import IndependentUnits as IndependentUnits
from quasistatic.energies.gaussian import UniformBox as UniformBox
from quasistatic.energies.neural import Inputs as Inputs
from quasistatic.energies.neural import IsotropicGaussian as IsotropicGaussian
from quasistatic.energies.neural import Neural as Neural
from quasistatic.energies.neural import convnet as convnet
from quasistatic.energies.neural import mlp as mlp
from quasistatic.energies.pairwise import Pairwise as Pairwise
from quasistatic.energies.pairwise import complete_graph as complete_graph
from quasistatic.energies.pairwise import square_lattice as square_lattice
from quasistatic.energies.potential import Potential as Potential
from quasistatic.energies.rbm import RBM as RBM
from quasistatic.energies.rbm import flip_encoding as flip_encoding
from quasistatic.energies.units import AbstractUnits as AbstractUnits
from quasistatic.energies.units import Binary as Binary
from quasistatic.energies.units import Spin as Spin
from quasistatic.energies.units import units as units
from quasistatic.energies.wrappers import Interpolated as Interpolated
