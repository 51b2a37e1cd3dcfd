import sys
from pathlib import Path

# The programs in benchmarks/ import one another by their plain names.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
