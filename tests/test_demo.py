"""The demo, end to end, at its smallest."""

import json

import pytest

from phd.cli import run


@pytest.mark.slow
def test_demo_writes_a_report_and_goes_on_where_it_was(tmp_path, capsys):
    arguments = ["demo", str(tmp_path), "--train-scenes", "12", "--test-scenes", "2", "--"]
    arguments += ["--trainer.max_steps=2", "--data.val_samples=4", "--data.batch_size=2"]
    run(arguments)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 2 * 4
    assert "student after" in page
    after = json.loads((tmp_path / "after.json").read_text())
    assert f"{after['box_miou']:.3f}" in page
    assert after["teacher"]["num_instances"] == after["num_instances"] > 0

    weights = tmp_path / "stage1" / "run" / "student" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    run(arguments)
    assert weights.stat().st_mtime_ns == written
