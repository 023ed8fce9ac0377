"""The program `quasistatic`: commands, options and exit codes.

Results go to standard output, progress and problems to standard error. A wrong input is one line and exit
code 2, a failed check 1, a named failure of a run 3, an interruption that can be resumed 130. JAX is loaded
only by the commands that compute.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from quasistatic.errors import CheckFailed, InputError, RunFailure

INTERRUPTED = 130

app = typer.Typer(
    name="quasistatic",
    help="Train energy-based models and keep their thermodynamic books.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/digits-rbm-001.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Which = Annotated[str, typer.Option(help="Parameters: last, best or averaged.")]
DataPath = Annotated[str | None, typer.Option("--data", metavar="PATH", help="Data file, or folder of IDX files.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; default: those of the process.

    Returns:
        The exit code.
    """
    try:
        done = app(args=None if argv is None else list(argv), prog_name="quasistatic", standalone_mode=False)
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except (InputError, CheckFailed, RunFailure) as error:
        return _stop(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _stop("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has left: not our problem, and nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.Abort:
        return _stop("interrupted", INTERRUPTED)
    except Exception as error:
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        # a mistake in the arguments themselves, found by typer
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "quasistatic"
        message = " ".join(format_message().split()) or "no command was given"
        return _stop(f"{message.rstrip('.')}; see {command} --help", 2)


def _stop(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"quasistatic: {' '.join(message.split())}", file=sys.stderr)
    return code


def _show_version(is_asked: bool | None) -> None:
    if is_asked:
        print(f"quasistatic {sys.modules['quasistatic'].__version__}")  # the package lies above this layer
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Train energy-based models and keep their thermodynamic books."""


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|FILE.toml]",
            help="A recipe by name, or a TOML file; default digits-rbm.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting: section.key=value."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; default the next free runs/RECIPE-NNN.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers (run.seed).")] = None,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu, gpu or gpu:1.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop this session after so long, resumable.")] = None,
    energy: Annotated[
        str | None,
        typer.Option(metavar="MODULE:ATTR", help="Your own energy: a function or an Equinox module."),
    ] = None,
    data: DataPath = None,
) -> int:
    """Train a model and write a run folder with metrics, checkpoints and a report."""
    from quasistatic.cli.training import train_run

    return train_run(
        recipe,
        settings or [],
        out=out,
        is_resumed=resume,
        seed=seed,
        device=device,
        max_minutes=max_minutes,
        energy=energy,
        data=data,
    )


@app.command()
def evaluate(
    run: RunFolder,
    is_json: AsJson = False,
    which: Annotated[str | None, typer.Option(help="Parameters: last, best or averaged (default where kept).")] = None,
    data: DataPath = None,
    device: Annotated[str | None, typer.Option(help="Device, such as cpu, gpu or gpu:1.")] = None,
    temperatures: Annotated[int, typer.Option(help="Laws on the annealing path.")] = 10001,
    chains: Annotated[int, typer.Option(help="Walkers of each annealing run, a multiple of 16.")] = 128,
) -> None:
    """Judge a trained model: log Z, test log-likelihood and its bracket."""
    from quasistatic.cli.nudged_config import is_nudged

    if is_nudged(None, run):
        from quasistatic.cli.nudged import evaluate_nudged

        if which not in (None, "last") or device is not None or (temperatures, chains) != (10001, 128):
            raise InputError(
                f"{run} is a network with nudges: its answers have no log Z; drop --which, --device, --temperatures "
                "and --chains"
            )
        evaluate_nudged(run, is_json=is_json, data=data)
        return
    from quasistatic.cli.evaluation import evaluate_run

    evaluate_run(
        run, is_json=is_json, which=which, data=data, device=device, n_temperatures=temperatures, n_chains=chains
    )


@app.command()
def sample(
    run: RunFolder,
    n: Annotated[int, typer.Option("--n", help="Number of samples.")] = 100,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Sweeps: from the stored walkers (default 1000), or of a short run (default as trained).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write: .npz, .npy or .png; default RUN/samples.npz."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    is_json: AsJson = False,
    which: Which = "last",
    method: Annotated[
        str,
        typer.Option(help="walkers (the stored ones, moved on), ptt (replicas in the run's stored ages) or tempering."),
    ] = "walkers",
    rungs: Annotated[int, typer.Option(help="Temperatures of tempering.")] = 10,
    acceptance: Annotated[float, typer.Option(help="Acceptance of exchanges by which ptt chooses ages.")] = 0.3,
    clamp: Annotated[
        list[str] | None,
        typer.Option(metavar="FIRST:STOP=VALUES", help="Hold coordinates, such as 784:786=0,1; may be repeated."),
    ] = None,
    label: Annotated[
        int | None, typer.Option(help="Hold this class, of a run with data.labels.", show_default=False)
    ] = None,
) -> None:
    """Draw samples from a trained model; of short runs, by the protocol it was trained with."""
    from quasistatic.cli.nudged_config import is_nudged
    from quasistatic.cli.sampling import sample_run

    if is_nudged(None, run):
        raise InputError(f"{run} is a network with nudges: it answers inputs and is not sampled; see evaluate")
    sample_run(
        run,
        n=n,
        steps=steps,
        out=out,
        seed=seed,
        is_json=is_json,
        which=which,
        method=method,
        n_rungs=rungs,
        target=acceptance,
        clamp=clamp or (),
        label=label,
    )


@app.command()
def quality(
    run: RunFolder,
    is_json: AsJson = False,
    which: Annotated[str, typer.Option(help="Parameters of every age: last (raw) or averaged.")] = "last",
    data: DataPath = None,
    chains: Annotated[int, typer.Option(help="Chains from the start.")] = 1000,
    longest: Annotated[
        int | None, typer.Option(help="Longest sampling time in sweeps; default 100 to 1000.", show_default=False)
    ] = None,
    ages: Annotated[int, typer.Option(help="Ages to measure; 0 for all that are stored.")] = 0,
) -> None:
    """Quality of samples against sampling time, for the stored ages of a run: table, quality.json and a figure."""
    from quasistatic.cli.quality import quality_run

    quality_run(run, is_json=is_json, which=which, data=data, n_chains=chains, longest=longest, n_ages=ages)


@app.command()
def report(
    run: RunFolder,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write figures for papers (PNG and SVG) here.")
    ] = None,
) -> None:
    """Write a run's report.html, complete in one file."""
    from quasistatic.cli.reading import report_run

    report_run(run, figures=figures)


@app.command()
def export(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(metavar="FILE.h5", help="New HDF5 file in the layout of rbms.")],
    which: Annotated[str, typer.Option(help="Parameters: last (raw) or averaged.")] = "last",
) -> None:
    """Write an RBM run, all its stored ages, as a file that the package rbms loads."""
    from quasistatic.cli.exporting import export_run

    export_run(run, file, which=which)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this recipe as TOML.")] = None,
) -> None:
    """List the recipes, or print one as a TOML file to edit."""
    from quasistatic.cli.reading import show_recipes

    show_recipes(name)


@app.command()
def reproduce(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="What to reproduce.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer walkers, wider errors.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for the figures; one that holds unfinished runs goes on.")
    ] = None,
    is_json: AsJson = False,
) -> int:
    """Repeat published numbers and laws and compare; without a name, list them."""
    from quasistatic.cli.reading import reproduce_named

    return reproduce_named(name, is_quick=quick, is_json=is_json, out=out)


@app.command()
def diagnose(
    run: RunFolder,
    is_json: AsJson = False,
    chains: Annotated[bool, typer.Option(help="Run chains of the final model, to tell the regime.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of these chains.")] = 0,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Compare estimators of a nudged network with exact gradients.")
    ] = False,
) -> None:
    """Say how healthy a run is, and whether its model lives in equilibrium."""
    if gradients:
        from quasistatic.cli.gradients import print_gradients

        print_gradients(run, is_json=is_json)
        return
    from quasistatic.cli.diagnosing import diagnose_run
    from quasistatic.cli.nudged_config import is_nudged

    if is_nudged(None, run):
        raise InputError(f"{run} is a network with nudges; give --gradients to compare its estimators")
    diagnose_run(run, is_json=is_json, has_chains=chains, seed=seed)


if __name__ == "__main__":
    sys.exit(main())
