import bench_finish


def test_every_size_is_drawn_and_finished(program, tmp_path):
    sizes = ("--chunks", 250, "--chunks-a-record", 4, 1, "--partition-chunks", 100)
    long, short = program(bench_finish, *sizes, "--work", tmp_path)["points"]
    assert (long["chunks"], long["records"]) == (250, 63)
    assert (short["chunks"], short["records"]) == (250, 250)
    assert all(0 < point["added_mb"] < point["peak_mb"] for point in (long, short))
    assert all(20 < point["page_kb"] < 300 for point in (long, short))
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
