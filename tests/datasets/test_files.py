"""Samples from npy, npz, csv, folders of images and alignments; and everything that is wrong with files."""

import numpy as np
import pytest

from quasistatic.datasets import fasta, from_file
from quasistatic.errors import InputError


def _rows(n=20, d=3):
    return np.arange(n * d, dtype=np.float64).reshape(n, d) / 8


def _save(path, **arrays):
    np.savez(path, **arrays)
    return path


def _together(data):
    rows = np.concatenate([data.train, data.heldout])
    return rows[np.lexsort(rows.T[::-1])]


def test_npy_is_split_by_a_fixed_permutation(tmp_path):
    np.save(tmp_path / "x.npy", _rows())
    data, again = from_file(tmp_path / "x.npy"), from_file(str(tmp_path / "x.npy"), 0.2)
    assert (data.train.shape, data.heldout.shape, data.test) == ((16, 3), (4, 3), None)
    np.testing.assert_array_equal(data.train, again.train)
    np.testing.assert_array_equal(_together(data), _rows())
    assert (data.name, data.kind, data.event_shape) == ("x", "real", None)
    assert len(data.provenance["sha256"]["x.npy"]) == 64
    assert from_file(tmp_path / "x.npy", 0).heldout is None


@pytest.mark.parametrize(("levels", "kind"), [((0, 1), "binary"), ((-1, 1), "spin"), ((0, 2), "real")])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, np.float64])
def test_kind_is_seen_from_the_values(tmp_path, levels, kind, dtype):
    x = np.random.default_rng(0).choice(levels, size=(30, 4)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    data = from_file(tmp_path / "x.npy")
    assert data.kind == kind
    assert data.train.dtype == np.float32


def test_shaped_samples_are_flattened_and_remembered(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 2, 3)))
    data = from_file(tmp_path / "x.npy")
    assert (data.train.shape, data.event_shape) == ((8, 6), (2, 3))


def test_npz_with_named_parts_or_a_single_array(tmp_path):
    x = _rows()
    data = from_file(_save(tmp_path / "a.npz", train=x, heldout=x[:3], test=x[:5]))
    assert (len(data.train), len(data.heldout), len(data.test)) == (20, 3, 5)
    data = from_file(_save(tmp_path / "b.npz", train=x, test=x[:5]), 0.5)
    assert (len(data.train), len(data.heldout), len(data.test)) == (10, 10, 5)
    data = from_file(_save(tmp_path / "c.npz", samples=x))
    np.testing.assert_array_equal(_together(data), x)


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5,-3\n4,5,6e-1\n7,8,9\n",
        "a,b,c\n1,2.5,-3\n4,5,6e-1\n7,8,9\n",
        '"a","b","c"\r\n1,2.5,-3\r\n4,5,6e-1\r\n7,8,9\r\n',
        "\ufeff# a;b;c\n1;2.5;-3\n4;5;6e-1\n7;8;9",
        "1\t2.5\t-3\n4\t5\t6e-1\n\n7\t8\t9\n",
        '"1","2.5","-3"\n4,5,6e-1\n7,8,9\n',
    ],
)
def test_csv_with_or_without_header(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8", newline="")
    data = from_file(path, 0.34)
    np.testing.assert_array_equal(_together(data), np.float32([[1, 2.5, -3], [4, 5, 0.6], [7, 8, 9]]))


def test_csv_of_one_column_has_one_value_for_each_sample(tmp_path):
    (tmp_path / "x.csv").write_text("height\n1\n2\n3\n")
    assert from_file(tmp_path / "x.csv", 0).train.shape == (3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty or starts with an empty line"),
        ("a,b\n", "holds a header but no rows"),
        ("1,x,3\n4,5,6\n", "line 1, column 2: 'x' is not a number, though others are"),
        ("1,2,3\n4,,6\n", "is not a table of numbers: could not convert string '' to float64 at row 1, column 2"),
        ("a,b\n1,2\n3,oops\n", "could not convert string 'oops' .*below the header"),
        ("1,2,3\n4,5\n", "is not a table of numbers: the number of columns changed from 3 to 2"),
        ("1,2\n3,nan\n", r"must be finite, got nan at index \(1, 1\)"),
        ("1,2\n3,inf\n", "must be finite, got inf"),
        ("1,2\n3,1e60\n", "exceeds the range of float32"),
        ("1,2\n", "has 1 sample, which cannot be split"),
    ],
)
def test_wrong_tables_are_named(tmp_path, text, message):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        from_file(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def _write(path, content):
    path.write_bytes(content)
    return path


def _truncated(path, save, keep):
    save(path)
    return _write(path, path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none.npy", "there is no file"),
        (lambda p: _write(p / "x.txt", b"1"), "cannot tell the format of .*; use .npy, .npz, .csv or a folder"),
        (lambda p: _write(p / "x.npy", b"1,2,3"), "is not an npy file"),
        (lambda p: _write(p / "x.npy", b""), "is not an npy file"),
        (lambda p: _truncated(p / "x.npy", lambda q: np.save(q, _rows()), -9), "cannot read .*"),
        (lambda p: _truncated(p / "x.npy", lambda q: np.save(q, _rows()), 40), "cannot read .*"),
        (lambda p: _write(p / "x.npz", b"PK\x03\x04 no archive"), "is not an npz file or is truncated"),
        (lambda p: _truncated(p / "x.npz", lambda q: np.savez(q, _rows()), -30), "is not an npz file or is truncated"),
        (lambda p: _save(p / "x.npz", a=_rows(), b=_rows()), "holds arrays a, b; store train and perhaps"),
        (lambda p: _save(p / "x.npz", train=_rows(), labels=np.zeros(20)), "holds arrays train, labels; store train"),
        (
            lambda p: _save(p / "x.npz", train=_rows(), heldout=_rows(4, 2)),
            r"heldout has samples of shape \(2,\), train",
        ),
        (lambda p: _save(p / "x.npz", a=np.zeros(5)), r"must have shape \(samples, values...\), got \(5,\)"),
        (lambda p: _save(p / "x.npz", a=np.zeros((0, 4))), "train data in .* is empty"),
        (lambda p: _save(p / "x.npz", a=np.array([["a"]])), "must hold real numbers, got dtype <U1"),
        (lambda p: _save(p / "x.npz", a=np.array([[1j]])), "must hold real numbers, got dtype complex128"),
        (lambda p: _write(p / "x.csv", b"\xff\xfe1\x002\x00"), "is not a text file in UTF-8"),
        (lambda p: _write(p / "x.csv", b"1,2\n3,\xff\n"), "is not a text file in UTF-8"),
        (lambda p: p, "holds no train-images-idx3-ubyte"),
    ],
)
def test_wrong_files_are_named(tmp_path, make, message):
    path = make(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        from_file(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_object_arrays_are_refused_before_anything_in_them_runs(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    np.save(tmp_path / "x.npy", np.array([[Bomb()]], dtype=object))
    np.savez(tmp_path / "x.npz", train=np.array([[Bomb()]], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(InputError, match="Object arrays cannot be loaded"):
            from_file(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_impossible_sizes_are_named(tmp_path):
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 1024), }"
    content = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n" + bytes(64)
    with pytest.raises(InputError, match="announces more numbers than memory can hold|cannot read"):
        from_file(_write(tmp_path / "x.npy", content))


@pytest.mark.parametrize("end", ["", ".gz"])
def test_folder_of_images(tmp_path, write_idx, images, end):
    write_idx(tmp_path / f"train-images-idx3-ubyte{end}", images)
    write_idx(tmp_path / f"t10k-images-idx3-ubyte{end}", images[:7])
    data = from_file(tmp_path, 0.1)
    assert (data.train.shape, data.heldout.shape, data.test.shape) == ((27, 15), (3, 15), (7, 15))
    assert (data.kind, data.event_shape) == ("binary", (3, 5))
    np.testing.assert_array_equal(data.test, (images[:7] > 127).reshape(7, 15))


def test_folder_of_images_with_labels_for_images_is_named(tmp_path, write_idx):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.arange(10))
    with pytest.raises(InputError, match=r"holds an array of shape \(10,\), not images"):
        from_file(tmp_path)


def test_fasta_becomes_codes(tmp_path):
    path = tmp_path / "x.fasta"
    path.write_text(">one\nAC-\nGU\n\n>two words\nac.gg\n>three\nUUUUU\n")
    data = fasta(path, heldout_fraction=0)
    assert data.provenance["alphabet"] == "-ACGU"
    expected = [[1, 2, 0, 3, 4], [1, 2, 0, 3, 3], [4, 4, 4, 4, 4]]
    np.testing.assert_array_equal(data.train[np.lexsort(data.train.T[::-1])], np.array(expected)[[1, 0, 2]])
    assert (data.kind, data.heldout) == ("categorical", None)
    ordered = fasta(path, alphabet="UGCA-", heldout_fraction=0)
    np.testing.assert_array_equal(4 - ordered.train, data.train)
    assert len(fasta(path).heldout) == 1


@pytest.mark.parametrize(
    ("text", "alphabet", "message"),
    [
        ("", None, "no line starts with '>'"),
        ("ACGU\n", None, "line 1 comes before any line that starts with '>'"),
        (">a\n", None, "sequence 'a' is empty"),
        (">a\nACGU\n>b\nACG\n", None, "sequence 'b' has 3 letters, the first one 4; align them"),
        (">a\nACGU\n>b\nACXU\n", "ACGU-", "sequence 'b' has 'X' at position 3, which is not in the alphabet 'ACGU-'"),
        (">a\nAC\n>b\nAC\n", "ACCA", "names a letter twice"),
        (">a\nA\u00e9\n", None, "it is no ASCII text"),
    ],
)
def test_wrong_alignments_are_named(tmp_path, text, alphabet, message):
    path = tmp_path / "x.fasta"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        fasta(path, alphabet=alphabet)
    assert "\n" not in str(caught.value)


def test_missing_alignment_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        fasta(tmp_path / "none.fasta")
