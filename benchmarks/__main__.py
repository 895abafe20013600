"""Run benchmarks by name; the exit code is 1 if a goal does not hold."""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import benchmarks


def main() -> int:
    """Run what the command line names and print a table, then a JSON line a measure."""
    names = [each.name for each in pkgutil.iter_modules(benchmarks.__path__)]
    names.remove("__main__")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="finish within a minute")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep a page for each NAME")
    arguments = parser.parse_args()
    measures = []
    for name in arguments.names:
        module = importlib.import_module(f"benchmarks.{name}")
        found = module.run(arguments.quick)
        measures += found
        if arguments.save:
            page = benchmarks.page(name, inspect.getdoc(module) or "", found)
            (arguments.save / f"{name}.md").write_text(page)
    rows = [benchmarks.HEADER, *(measure.row() for measure in measures)]
    sys.stdout.write("\n".join([*rows, *(measure.line() for measure in measures), ""]))
    return 0 if all(measure.holds for measure in measures) else 1


if __name__ == "__main__":
    sys.exit(main())
