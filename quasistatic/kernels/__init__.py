"""Markov kernels that report heat."""

from quasistatic.kernels.auxiliary import AuxiliaryGibbs as AuxiliaryGibbs
from quasistatic.kernels.base import AbstractKernel as AbstractKernel
from quasistatic.kernels.base import KernelState as KernelState
from quasistatic.kernels.exchange import Exchange as Exchange
from quasistatic.kernels.exchange import parallel_tempering as parallel_tempering
from quasistatic.kernels.exchange import trajectory_tempering as trajectory_tempering
from quasistatic.kernels.gibbs import BlockGibbs as BlockGibbs
from quasistatic.kernels.gibbs import Gibbs as Gibbs
from quasistatic.kernels.gibbs import SiteGibbs as SiteGibbs
from quasistatic.kernels.ladders import Tempered as Tempered
from quasistatic.kernels.ladders import Trajectory as Trajectory
from quasistatic.kernels.ladders import independent_rbm as independent_rbm
from quasistatic.kernels.langevin import Langevin as Langevin
from quasistatic.kernels.layered import LayeredGibbs as LayeredGibbs
from quasistatic.kernels.layered import Nudge as Nudge
from quasistatic.kernels.layered import settle as settle
from quasistatic.kernels.metropolis import HMC as HMC
from quasistatic.kernels.metropolis import MALA as MALA
from quasistatic.kernels.ramped import Ramped as Ramped
from quasistatic.kernels.ramped import ramped as ramped
