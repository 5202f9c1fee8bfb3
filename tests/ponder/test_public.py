"""What `import ponder` gives, and what it does not load."""

import inspect
import subprocess
import sys

import ponder


def test_the_list_of_names_is_complete_and_sorted() -> None:
    """Every name that is imported there is public, and every public name is there."""
    named = {name for name, value in vars(ponder).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert set(ponder.__all__) == named
    assert ponder.__all__ == sorted(ponder.__all__)


def test_everything_public_says_what_it_is() -> None:
    """Types of our own do; aliases of types have no docstring."""
    described = [getattr(ponder, name) for name in ponder.__all__ if inspect.isclass(getattr(ponder, name))]
    assert [one.__name__ for one in described if not (one.__doc__ or "").strip()] == []


def test_importing_it_loads_nothing_heavy() -> None:
    """Neither a model's libraries nor the web server's."""
    heavy = ["torch", "vllm", "transformers", "fastapi", "uvicorn", "sympy", "prometheus_client"]
    code = f"import sys, ponder; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr
