"""``bench``: figures, and settings that a run takes."""

import json

import pytest

from virnuc_dask import load_settings
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab import bench as bench_module
from virnuc_dask.lab.bench import BenchOptions, splits
from virnuc_dask.lab.speed import encoders


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(bench_module, "cores", lambda: 4)


def test_cores_are_split_from_one_worker_to_as_many_as_fit(four_cores):
    assert splits(None, None, 4, quick=False) == [[1, 4], [2, 2], [4, 1]]
    assert splits(None, None, 3, quick=False) == [[1, 4], [2, 2], [3, 1]]
    assert splits(None, None, 4, quick=True) == [[1, 4], [4, 1]]
    assert splits(None, None, 1, quick=False) == [[1, 4]]


def test_what_is_given_is_not_varied(four_cores):
    assert splits(2, None, 4, quick=False) == [[2, 2]]
    assert splits(2, 1, 4, quick=False) == [[2, 1]]
    assert splits(None, 2, 4, quick=False) == [[1, 2], [2, 2]]
    assert splits(None, 8, 4, quick=False) == [[1, 8]]


@pytest.fixture
def small(monkeypatch):
    """Little is measured, of a small ESM-2, and in this process, for what is patched to hold."""
    monkeypatch.setattr(BenchOptions, "trial_s", 0.05)
    monkeypatch.setattr(BenchOptions, "run_s", 0.1)
    monkeypatch.setattr(bench_module, "in_own_process", lambda work, tell, plan: work(tell, plan))
    monkeypatch.setitem(encoders.MAX_TOKENS, "cpu", (None, 512))
    monkeypatch.setitem(encoders.ESM2_SIZES, "8M", Esm2Sizes(1, 40, 4))


def test_a_bench_ends_in_settings_that_a_run_takes(small, command, parity_modelset, tmp_path):
    file = tmp_path / "figures.json"
    code, out, err = command(
        *("bench", "--quick", "--model", parity_modelset, "--device", "cpu"),
        *("--workers", 1, "--threads", 1, "--json", file, "--esm2", "8M"),
    )
    assert code == 0, err
    config = tmp_path / "machine.yaml"
    config.write_text(out)
    settings = load_settings(config)
    assert (settings.cluster.workers, settings.cluster.threads) == (1, 1)
    figures = json.loads(file.read_text())
    assert settings.precision in ("fp32", "bf16")
    assert figures["runs"][0]["frames"] > 0
    assert figures["runs"][0]["peak_ram_bytes"] > 1e8
    assert figures["machine"]["cores"]
    assert "# ESM-2 8M, random weights: best in" in out
    assert err.index("matrix products") < err.index("tokens/s") < err.index("whole run")


def test_of_a_set_that_reads_genes_the_rate_is_by_nt(small, command, genes_modelset, tmp_path):
    file = tmp_path / "figures.json"
    code, out, err = command(
        *("bench", "--quick", "--model", genes_modelset, "--device", "cpu"),
        *("--workers", 1, "--threads", 1, "--json", file),
    )
    assert code == 0, err
    (measured,) = json.loads(file.read_text())["runs"]
    assert measured["chunks"] == 2 * 64, "two pieces of each contig"
    assert measured["genes"] > 0
    assert measured["nt_per_s"] > 0
    assert "frames/s" not in out + err
    assert f"{measured['nt_per_s'] / 1e6:,.2f} Mbp/s with 1 worker(s)" in out
    assert f"{measured['nt_per_s'] / 1e6:,.2f} Mbp/s, " in err


def test_sizes_and_settings_reach_the_bench(command, monkeypatch):
    seen = {}

    def stop(settings, options, tell):
        seen.update(settings=settings, options=options)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_module, "bench", stop)
    code, *_ = command("bench", "--quick", "--esm2", "8M", "35M", "--device", "cpu")
    assert code == 130
    assert seen["options"] == BenchOptions(esm2=("8M", "35M"), quick=True)
    assert seen["settings"].cluster.device == "cpu"


def test_a_model_set_that_is_not_there_is_told(command):
    code, _, err = command("bench", "--model", "nowhere")
    assert code == 4
    assert "nowhere" in err


def test_a_gpu_bench_tries_its_gpus_once(monkeypatch):
    monkeypatch.setattr(bench_module, "count_gpus", lambda: (3, ""))
    (cluster,) = bench_module._clusters(load_settings(), "cuda", quick=False)
    assert (cluster["kind"], cluster["workers"], cluster["threads"]) == ("cuda", 3, None)
