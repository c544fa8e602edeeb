"""Every Python block of the README and the documentation runs, and the page of public names is current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What the blocks of a page call for, beyond what the package itself needs.
NEEDED = {"onnx.md": "onnx"}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


WITH_BLOCKS = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


def run_blocks(text, name):
    """Run the blocks of a page one after the other, in one namespace; gives how many there were."""
    namespace: dict[str, object] = {"__name__": "page"}
    blocks = list(BLOCK.finditer(text))
    for match in blocks:
        line = text[: match.start()].count("\n") + 1
        # Padding keeps the page's line numbers in tracebacks.
        exec(compile("\n" * line + match[1], name, "exec"), namespace)
    return len(blocks)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    if page.name in NEEDED:
        pytest.importorskip(NEEDED[page.name])
    text = page.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run_blocks(text, str(page)) == text.count("```python")


def test_pages_with_blocks_are_found():
    assert {"README.md", "tour.md", "bptt.md"} <= {page.name for page in WITH_BLOCKS}


def test_a_block_that_fails_is_found_at_its_line():
    text = "# A page\n\n```python\nx = 1\n```\n\nThen:\n\n```python\nx += 1\nassert x == 3\n```\n"
    with pytest.raises(AssertionError) as caught:
        run_blocks(text, "page.md")
    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno + 1) == ("page.md", 11)
    assert run_blocks(text.replace("3", "2"), "page.md") == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("script", ["make_api.py", "make_compiling.py"])
def test_the_generated_pages_are_current(script):
    done = subprocess.run([sys.executable, ROOT / "docs" / script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
