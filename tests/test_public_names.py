"""What `import tfslim` offers: every name exists and has a type."""

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import tfslim

ROOT = Path(__file__).parents[1]

SCRIPT = """
import tfslim

budget = tfslim.Budget(pruning_ratio=0.5)
reveal_type(budget)
reveal_type(tfslim.FitOptions(epochs=3).epochs)
tfslim.Budget(pruning_ratio="half")
tfslim.export_model(out_dir="out", overwrit=True)
tfslim.no_such_name
"""


def test_a_users_script_is_checked(tmp_path):
    """mypy sees types, not Any, and finds a wrong type, argument and name."""
    # A name of its own: mypy's cache keeps what it said of another one.
    path = tmp_path / f"script_{os.getpid()}.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", f"--config-file={ROOT}/pyproject.toml", path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    said = {
        int(line.split(":")[1]): line
        for line in done.stdout.splitlines()
        if " error: " in line or "Revealed" in line
    }
    assert 'Revealed type is "tfslim.pruning.budget.Budget"' in said[5], done.stdout
    assert 'Revealed type is "int"' in said[6].replace("builtins.", "")
    assert 'expected "float | None"' in said[7]
    assert '"overwrit"' in said[8]
    assert "no_such_name" in said[9]
    assert len(said) == 5


def test_every_name_of_the_stub_is_there_and_no_other():
    stub = (ROOT / "tfslim" / "__init__.pyi").read_text()
    for name in tfslim.__all__:
        assert f" as {name}" in stub or name == "__version__"
        getattr(tfslim, name)
    for line in stub.splitlines():
        if " as " in line:
            assert hasattr(tfslim, line.strip(" ,").split()[-1]), line
    assert "callbacks" in dir(tfslim) and "fit" in dir(tfslim)
    with pytest.raises(AttributeError, match="no_such_name"):
        tfslim.no_such_name  # noqa: B018


def test_an_old_name_is_taken_for_one_release(monkeypatch):
    monkeypatch.setitem(tfslim._OLD, "PruningBudget", "Budget")
    with pytest.warns(DeprecationWarning, match=r"called tfslim\.Budget now"):
        assert tfslim.PruningBudget is tfslim.Budget
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tfslim.Budget


def test_every_name_that_the_documents_use_is_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    pages += [*(ROOT / "examples").glob("*.py")]
    used = {
        name
        for page in pages
        for name in re.findall(r"\btfslim\.([a-zA-Z_]\w*[a-z]\w*)", page.read_text())
    }
    assert {"load_data", "export_model", "prune_channels"} <= used
    missing = {
        name
        for name in used
        if not hasattr(tfslim, name) and not importlib.util.find_spec(f"tfslim.{name}")
    }
    assert not missing
