"""The measurements, a module for each part of afk. Each case returns the rows of the table that it fills.

A new case is a function with `@benchmarks.bench.benchmark("name")` in any module of this package.
"""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.bench import CASES

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = ["CASES"]
