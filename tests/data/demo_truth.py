"""Print what each contig of the demo is beside what a run called it: demo_truth.py RUN_FOLDER."""

import csv
import sys
from pathlib import Path

TRUTH = Path(__file__).with_name("demo_truth.tsv")


def rows(path: Path) -> list[dict[str, str]]:
    """The lines of a table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def main() -> None:
    """Print a line a contig."""
    called = {row["record_id"]: row for row in rows(Path(sys.argv[1]) / "contigs.tsv")}
    print(f"{'truth':10}{'call':10}{'probability':13}contig")
    for row in rows(TRUTH):
        found = called[row["record_id"]]
        print(
            f"{row['truth']:10}{found['call']:10}{float(found['probability']):<13.3f}"
            f"{row['record_id'][:40]}{'  ' if row['why'] else ''}{row['why']}"
        )


if __name__ == "__main__":
    main()
