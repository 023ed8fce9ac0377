"""Data sets: embedded digits, MNIST, files, alignments and drawn laws, checked before anything is trained on
them."""

from quasistatic.datasets.alignments import fasta
from quasistatic.datasets.base import Dataset, infer_kind, require_binary
from quasistatic.datasets.cifar import cifar10
from quasistatic.datasets.digit_mixture import DigitMixture, mnist_mixture
from quasistatic.datasets.embedded import digits
from quasistatic.datasets.files import from_file
from quasistatic.datasets.idx import mnist, read_idx
from quasistatic.datasets.labelled import with_labels
from quasistatic.datasets.laws import MIXTURE_2D, MixtureLaw, mixture_2d

__all__ = [
    "MIXTURE_2D",
    "Dataset",
    "DigitMixture",
    "MixtureLaw",
    "cifar10",
    "digits",
    "fasta",
    "from_file",
    "infer_kind",
    "mixture_2d",
    "mnist",
    "mnist_mixture",
    "read_idx",
    "require_binary",
    "with_labels",
]
