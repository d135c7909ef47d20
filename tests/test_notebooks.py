"""The notebooks run from top to bottom, and are committed without outputs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
KERNEL = "phd-tests"
CELL_SECONDS = 600

# What the reader of a notebook is told has happened, checked in the notebook's own kernel.
CHECKS = {
    "01_encoder": """
assert after["val/feature_mse"] < before["val/feature_mse"]
assert after["val/feature_cosine"] > before["val/feature_cosine"]
assert not any(parameter.requires_grad for parameter in stage.learner.heads.parameters())
assert len(held_out) == HELD_OUT
""",
    "02_memory": """
assert after["val/loss/memory_mse"] < before["val/loss/memory_mse"]
assert learner.heads.compressor.num_tokens == 32 and teacher.heads.compressor.num_tokens == 256
assert not any(parameter.requires_grad for parameter in learner.trunk.parameters())
assert torch.allclose(whole.sum((1, 2)), torch.ones(16), atol=1e-4)
assert abs(float(windows.sum()) - 16) < 1e-3
assert away(video) > 0 and dense.shape == compressed.shape == truth.shape
""",
    "03_concept": """
assert trained and all(".presence_" in name for name in trained)
assert len(held_out) == HELD_OUT and {bool(phrase.answers[0]) for phrase in asked} == {True, False}
assert min(report[f"num_{kind}"] for report in reports.values() for kind in ("positive", "negative")) >= HELD_OUT
assert losses_alone[-1] < losses_alone[0] and losses_both[-1] < losses_both[0]
assert losses_alone[-1] < losses_both[0]
assert reports["with negatives"]["presence_ece"] < reports["true phrases alone"]["presence_ece"]
assert {neighbour.origin.split(":")[0] for neighbour in nearness.near(longest[0])} == {"lexical"}
""",
}


def test_there_is_a_check_for_every_notebook() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(CHECKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "jupyter" / "kernels" / KERNEL / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": KERNEL, "language": "python"}))
    # The kernel of this interpreter, whatever is installed for the user; and nothing stays behind.
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CHECKS[path.stem]))
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name=KERNEL, resources=resources).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 5
