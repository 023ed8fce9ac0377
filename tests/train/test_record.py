"""Rows of metrics on disc."""

from quasistatic.train.record import COLUMNS, read_metrics, write_metrics


def test_rows_come_back_exactly_and_earlier_files_with_fewer_columns_too(tmp_path):
    """An interrupted run goes on under a version that writes more columns, and keeps its rows."""
    rows = [{"step": 20, "log_z": 1 / 3, "n_sweeps": 2, "beta": None}, {"step": 40, "log_z": -0.1}]
    path = tmp_path / "metrics.csv"
    write_metrics(path, rows)
    found = read_metrics(path)
    assert [{name: row.get(name) for name in COLUMNS} for row in rows] == found
    assert isinstance(found[0]["n_sweeps"], int)

    path.write_text("step,log_z,gone\n20,0.25,1.0\n40,0.5,2.0\n60,0.7")  # the last line was cut
    found = read_metrics(path)
    assert [(row["step"], row["log_z"]) for row in found] == [(20, 0.25), (40, 0.5)]
    assert all(set(row) == set(COLUMNS) and row["start_divergence"] is None for row in found)
    write_metrics(path, found)
    assert read_metrics(path) == found
