"""Run one benchmark by its name."""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import benchmarks


def main() -> int:
    """Print a table, then a JSON line per measure; 1 if a goal is missed."""
    names = [item.name for item in pkgutil.iter_modules(benchmarks.__path__) if item.name[0] != "_"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--quick", action="store_true", help="finish within a minute")
    chosen = parser.parse_args()
    measures = importlib.import_module(f"benchmarks.{chosen.name}").run(chosen.quick)
    print(f"{'measure':44} {'ours':>10} {'theirs':>10} {'goal':>10}  holds")
    for item in measures:
        theirs = "-" if item.theirs is None else f"{item.theirs:.4g}"
        verdict = "yes" if item.holds else "NO"
        print(f"{item.name:44} {item.ours:>10.4g} {theirs:>10} {item.goal:>10.4g}  {verdict}")
    for item in measures:
        print(item.as_json())
    return 0 if all(item.holds for item in measures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
