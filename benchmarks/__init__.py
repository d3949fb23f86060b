"""How fast and how small asyncrt is, always beside what people would use instead.

`python -m benchmarks --help` lists the questions; each script asks one. Ratios are the results;
absolute figures say more about the machine than about asyncrt.
"""

from __future__ import annotations
