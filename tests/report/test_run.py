"""A run folder is read back digit for digit; damage is named in one line, a cut-off line left out."""

import json

import numpy as np
import pytest

from quasistatic.errors import InputError
from quasistatic.run import Archive, Run


def raises_one_line(match):
    """Context that wants an `InputError` of one line."""
    return pytest.raises(InputError, match=rf"\A[^\n]*{match}[^\n]*\Z")


def test_numbers_come_back_as_they_were_written(fake_run):
    folder = fake_run("rbm")
    run = Run(folder)
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert list(run.metrics) == lines[0].split(",")
    for name, cells in zip(run.metrics, zip(*(line.split(",") for line in lines[1:]), strict=True), strict=True):
        expected = [float(cell) if cell else np.nan for cell in cells]
        np.testing.assert_array_equal(run.metrics[name], expected, err_msg=name)
    assert np.isnan(run.metrics["accept_rate"]).all(), "an empty cell is not a number"
    assert not run.is_cut_off
    assert run.config["optimiser"]["rate"] == 0.05
    assert run.environment["data"]["n_train"] == 1437
    assert run.result is not None and run.result["result"] == "ok"


@pytest.mark.parametrize("kind, shape", [("rbm", (8, 8)), ("pairwise", None), ("mixture", None)])
def test_image_shape(fake_run, kind, shape):
    assert Run(fake_run(kind)).image_shape == shape


@pytest.mark.parametrize("written", ["no", [8], [8, 8, 1], [8, -8], [8.5, 2], None])
def test_what_is_not_an_image_has_no_image_shape(fake_run, written):
    folder = fake_run()
    (folder / "environment.json").write_text(json.dumps({"data": {"event_shape": written}}))
    assert Run(folder).image_shape is None


def test_unfinished_run_has_no_result(fake_run):
    assert Run(fake_run(result=None)).result is None


def test_ages_are_in_order_and_read_when_used(fake_run):
    folder = fake_run()
    (folder / "ages" / "age-00000001.npz").write_bytes(b"cut off")
    (folder / "ages" / "notes.npz").write_bytes(b"not an age")
    ages = Run(folder).ages()
    steps = [step for step, _ in ages]
    assert steps == sorted(set(steps)) and steps[-1] == 8000 and len(steps) > 15
    assert all(archive.step == step for step, archive in ages[1:])
    assert ages[-1][1]["model/weights"].shape == (64, 24)
    with raises_one_line("age-00000001.npz"):
        _ = ages[0][1]["model/weights"]


def test_archive_is_a_mapping_without_its_meta(fake_run):
    archive = Run(fake_run()).checkpoint("best")
    assert archive.step == 8000 and archive.meta["format"] == 1
    assert "__meta__" not in archive and "__meta__" not in list(archive)
    assert len(archive) == len(list(archive)) and archive["model/weights"] is archive["model/weights"]
    with pytest.raises(KeyError):
        archive["__meta__"]


@pytest.mark.parametrize("n_lost", [1, 2, 5, 30])
def test_cut_off_last_line_is_left_out(fake_run, n_lost):
    folder = fake_run()
    whole = Run(folder).metrics
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text[:-n_lost])
    cut = Run(folder)
    assert cut.is_cut_off
    for name, column in whole.items():
        np.testing.assert_array_equal(cut.metrics[name], column[:-1])


def test_header_that_is_being_written_is_an_empty_table(fake_run):
    folder = fake_run()
    (folder / "metrics.csv").write_text("step,log_")
    run = Run(folder)
    assert run.metrics == {} and run.is_cut_off


@pytest.mark.parametrize(
    "text, match",
    [
        ("", "empty"),
        ("a,b\n1,2\n", "first column is 'a'"),
        ("step,log_z,log_z\n1,2,3\n", "twice"),
        ("step,log_z\n1,2\n2,x\n3,4\n", "line 3 is not numbers"),
        ("step,log_z\n1,2\n2\n3,4\n", "line 3 has 1 cells"),
        ("step,log_z\n1,2\n,3\n", "line 3 has no step"),
        ("step,log_z\n1,2\n3,4\n3,5\n", "line 4: step 3 comes after step 3"),
        ("step,log_z\n1,2\n3,4\n2,5\n", "line 4: step 2 comes after step 3"),
    ],
)
def test_foreign_table(fake_run, text, match):
    folder = fake_run()
    (folder / "metrics.csv").write_text(text)
    with raises_one_line(match):
        _ = Run(folder).metrics


@pytest.mark.parametrize("name", ["metrics.csv", "environment.json", "result.json", "config.toml"])
def test_file_that_is_not_text(fake_run, name):
    folder = fake_run()
    (folder / name).write_bytes(b"\xff\xfe\x00\x01")
    run = Run(folder)
    with raises_one_line(name):
        getattr(run, name.split(".")[0])


@pytest.mark.parametrize(
    "name, text, match",
    [
        ("environment.json", '{"data": {', "cut off"),
        ("environment.json", "[1, 2]", "list, expected an object"),
        ("result.json", '{"result": "o', "cut off"),
        ("config.toml", "[run\nseed = 0\n", "not TOML"),
    ],
)
def test_damaged_text(fake_run, name, text, match):
    folder = fake_run()
    (folder / name).write_text(text)
    run = Run(folder)
    with raises_one_line(match):
        getattr(run, name.split(".")[0])


@pytest.mark.parametrize("name", ["metrics.csv", "environment.json"])
def test_missing_file(fake_run, name):
    folder = fake_run()
    (folder / name).unlink()
    run = Run(folder)
    assert not run.has(name)
    with raises_one_line("does not exist"):
        getattr(run, name.split(".")[0])


def test_folder_that_is_no_run(tmp_path):
    with raises_one_line("no run folder"):
        Run(tmp_path / "nothing")
    with raises_one_line("no config.toml"):
        Run(tmp_path)


def test_checkpoint_by_name(fake_run):
    folder = fake_run()
    (folder / "checkpoints" / "best.npz").unlink()
    with raises_one_line("no checkpoint 'best'"):
        Run(folder).checkpoint("best")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_off_checkpoint(fake_run, share):
    folder = fake_run()
    path = folder / "checkpoints" / "last.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with raises_one_line("cut off or not an npz file"):
        Run(folder).checkpoint("last")


def test_flipped_bytes_are_found_by_the_checksum(fake_run):
    folder = fake_run()
    path = folder / "checkpoints" / "last.npz"
    content = bytearray(path.read_bytes())
    middle = content.find(b"model/hidden_bias.npy") + 180
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    path.write_bytes(bytes(content))
    archive = Run(folder).checkpoint("last")
    with raises_one_line("cannot read model/hidden_bias"):
        _ = archive["model/hidden_bias"]


def test_foreign_checkpoints(tmp_path):
    np.savez(tmp_path / "foreign.npz", weights=np.zeros(3))
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    np.savez(tmp_path / "pickled.npz", __meta__=np.array([{"step": 1}], dtype=object))
    np.savez(tmp_path / "noise.npz", __meta__=np.frombuffer(b"not json", np.uint8))
    np.savez(tmp_path / "list.npz", __meta__=np.frombuffer(b"[1]", np.uint8))
    np.savez(tmp_path / "stepless.npz", __meta__=np.frombuffer(b'{"step": "1"}', np.uint8))
    expected = {
        "foreign": "it has no __meta__",
        "single": "single array",
        "pickled": "cannot read __meta__",
        "noise": "not JSON",
        "list": "JSON list",
        "stepless": "not an integer",
        "missing": "does not exist",
    }
    for name, match in expected.items():
        with raises_one_line(match):
            _ = Archive(tmp_path / f"{name}.npz").step
