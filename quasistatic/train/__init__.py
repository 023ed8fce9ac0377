"""Training: trainer, step, loop, checkpoints."""

from quasistatic.train.loop import Fit as Fit
from quasistatic.train.loop import Plan as Plan
from quasistatic.train.loop import fit as fit
from quasistatic.train.record import live_log_z as live_log_z
from quasistatic.train.state import TrainState as TrainState
from quasistatic.train.step import run_chunk as run_chunk
from quasistatic.train.step import settle as settle
from quasistatic.train.trainer import Trainer as Trainer
from quasistatic.train.trainer import cd as cd
from quasistatic.train.trainer import jarzynski as jarzynski
from quasistatic.train.trainer import pcd as pcd
from quasistatic.train.trainer import short_run as short_run
