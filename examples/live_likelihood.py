"""Train an RBM in a few lines and watch a likelihood that is right: `python examples/live_likelihood.py`."""

import jax
import optax

import quasistatic as qs
from quasistatic.datasets import digits

data = digits()
key = jax.random.key(0)
model = qs.RBM.initialise(key, n_visible=64, n_hidden=16, data=data.train)
trainer = qs.pcd(qs.BlockGibbs(), optax.sgd(0.05), k=1, n_walkers=256, batch_size=128)


class Lines:
    """Prints a line per record: the auditor's likelihood, and what the walkers that train the model would claim."""

    def start(self, step, n_steps):
        print(f"{'step':>6} {'held-out':>10} {'s.e.':>6} {'claimed by the driver':>22}")

    def update(self, row):
        print(f"{row['step']:6d} {row['ll_heldout']:10.2f} {row['ll_stderr']:6.3f} {row['ll_heldout_driver']:22.2f}")

    def close(self):
        pass


done = qs.fit(key, trainer, model, data, qs.Plan(n_steps=1500, record_every=300, n_ages=0), progress=Lines())
print("exact: ", done.summary["final"]["exact"]["ll_heldout"])
