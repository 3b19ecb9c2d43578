"""The experiments there are: `python -m experiments` lists them, each with the first line of its docstring."""

import ast
import sys
from pathlib import Path


def listing() -> dict[str, str]:
    """What each script is about, by its name."""
    scripts = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    about = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in scripts}
    return {name: text.partition("\n")[0] for name, text in about.items()}


def main() -> None:
    found = listing()
    width = max(map(len, found))
    print("python -m experiments.NAME --help says more of each:\n")
    for name, line in found.items():
        print(f"  {name:{width}}  {line}")
    print("\nThe results are in experiments/README.md.")


if __name__ == "__main__":
    sys.exit(main())
