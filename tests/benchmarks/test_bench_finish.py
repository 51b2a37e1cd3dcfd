import json
import sys
from pathlib import Path

import bench_finish
from bench_finish import main


def test_every_size_is_drawn_and_finished(monkeypatch, capsys, tmp_path):
    # The fresh processes that measure import the program by its name.
    monkeypatch.syspath_prepend(str(Path(bench_finish.__file__).parent))
    sizes = ["--chunks", "250", "--chunks-a-record", "4", "1", "--partition-chunks", "100"]
    out = tmp_path / "finish.json"
    options = ["bench_finish.py", *sizes, "--work", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", options)
    main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(out.read_text()) == figures
    long, short = figures["points"]
    assert (long["chunks"], long["records"]) == (250, 63)
    assert (short["chunks"], short["records"]) == (250, 250)
    assert all(0 < point["added_mb"] < point["peak_mb"] for point in figures["points"])
    assert [path.name for path in tmp_path.iterdir()] == ["finish.json"]
