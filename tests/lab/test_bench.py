"""``bench``: figures, and settings that a run takes."""

import json

import pytest

from virnuc_dask import load_settings
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab import bench as bench_module
from virnuc_dask.lab.bench import BenchOptions, splits
from virnuc_dask.lab.speed import encoders


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        ((None, None, 4, False), [[1, 4], [2, 2], [4, 1]]),
        ((None, None, 3, False), [[1, 4], [2, 2], [3, 1]]),
        ((None, None, 4, True), [[1, 4], [4, 1]]),
        ((None, None, 1, False), [[1, 4]]),
        ((2, None, 4, False), [[2, 2]]),
        ((2, 1, 4, False), [[2, 1]]),
        ((None, 2, 4, False), [[1, 2], [2, 2]]),
        ((None, 8, 4, False), [[1, 8]]),
    ],
)
def test_cores_are_split_from_one_worker_to_as_many_as_fit(monkeypatch, given, tried):
    monkeypatch.setattr(bench_module, "cores", lambda: 4)
    *asked, quick = given
    assert splits(*asked, quick=quick) == tried


@pytest.fixture
def bench(monkeypatch, command, tmp_path):
    """Measures little, of a small ESM-2, and in this process, for what is patched to hold."""
    monkeypatch.setattr(BenchOptions, "trial_s", 0.05)
    monkeypatch.setattr(BenchOptions, "run_s", 0.1)
    monkeypatch.setattr(bench_module, "in_own_process", lambda work, tell, plan: work(tell, plan))
    monkeypatch.setitem(encoders.MAX_TOKENS, "cpu", (None, 512))
    monkeypatch.setitem(encoders.ESM2_SIZES, "8M", Esm2Sizes(1, 40, 4))

    def called(model, *options):
        file = tmp_path / "figures.json"
        way = ("--device", "cpu", "--workers", 1, "--threads", 1, "--json", file, *options)
        code, out, err = command("bench", "--quick", "--model", model, *way)
        assert code == 0, err
        return json.loads(file.read_text()), out, err

    return called


def test_a_bench_ends_in_settings_that_a_run_takes(bench, parity_modelset, tmp_path):
    figures, out, err = bench(parity_modelset, "--esm2", "8M")
    config = tmp_path / "machine.yaml"
    config.write_text(out)
    settings = load_settings(config)
    assert (settings.cluster.workers, settings.cluster.threads) == (1, 1)
    assert settings.precision in ("fp32", "bf16")
    assert figures["runs"][0]["frames"] > 0
    assert figures["runs"][0]["peak_ram_bytes"] > 1e8
    assert figures["machine"]["cores"]
    assert "# ESM-2 8M, random weights: best in" in out
    assert err.index("matrix products") < err.index("tokens/s") < err.index("whole run")


def test_of_a_set_that_reads_genes_the_rate_is_by_nt(bench, genes_modelset):
    figures, out, err = bench(genes_modelset)
    (measured,) = figures["runs"]
    assert measured["chunks"] == 2 * 64, "two pieces of each contig"
    assert measured["genes"] > 0
    assert "frames/s" not in out + err
    assert f"{measured['nt_per_s'] / 1e6:,.2f} Mbp/s with 1 worker(s)" in out
    assert f"{measured['nt_per_s'] / 1e6:,.2f} Mbp/s, " in err


def test_a_gpu_bench_tries_its_gpus_once(monkeypatch):
    monkeypatch.setattr(bench_module, "count_gpus", lambda: (3, ""))
    (cluster,) = bench_module._clusters(load_settings(), "cuda", quick=False)
    assert (cluster["kind"], cluster["workers"], cluster["threads"]) == ("cuda", 3, None)
