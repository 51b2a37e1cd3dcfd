"""Each workflow's step, run as its manager runs it, or as near to that as can be had."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from virnuc_dask import __version__
from virnuc_dask.cli.running import run_command

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / "workflows"
DEMO = ROOT / "tests" / "data" / "demo.fasta.gz"
MODULE = WORKFLOWS / "nextflow" / "virnuc_dask"
pytestmark = pytest.mark.timeout(1800)


def call(*arguments: object, **options: object) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_multiqc_shows_every_sample_of_several_runs(programs, environment, tmp_path):
    bin_folder = programs("multiqc==1.35")
    for prefix in ("one", "two"):
        call(
            *("virnuc-dask", "run", DEMO, "-o", tmp_path / prefix, "--prefix", prefix),
            *("--cluster", "none", "--no-report"),
            env=environment,
        )
    call(bin_folder / "multiqc", tmp_path, "-o", tmp_path / "page", env=environment)
    data = json.loads((tmp_path / "page" / "multiqc_data" / "multiqc_data.json").read_text())
    text = json.dumps(data["report_general_stats_data"])
    assert '"one"' in text
    assert '"two"' in text
    calls = (tmp_path / "page" / "multiqc_data" / "multiqc_virnuc_calls_plot.txt").read_text()
    assert re.findall(r"^(one|two)\t1\t12$", calls, re.MULTILINE) == ["one", "two"]
    page = (tmp_path / "page" / "multiqc_report.html").read_text()
    for shown in ("Records by call.", "How viral", "Virus nt", __version__):
        assert shown in page


@pytest.mark.slow
def test_snakemake_runs_the_wrapper(programs, environment, tmp_path):
    bin_folder = programs("snakemake==9.27.1")
    shutil.copytree(WORKFLOWS / "snakemake", tmp_path / "snakemake")
    here = tmp_path / "snakemake" / "test"
    shutil.copy(DEMO, here)
    ask = (bin_folder / "snakemake", "--cores", 1, "results/demo/demo.contigs.tsv")
    call(*ask, cwd=here, env=environment)
    folder = here / "results" / "demo"
    assert (folder / "demo.contigs.tsv").read_text().startswith("record_id\tlength_nt\t")
    assert (folder / "demo.virus.fasta").read_text().startswith(">Escherichia_phage_lambda\n")
    assert (folder / "multiqc" / "demo.virnuc_calls_mqc.json").exists()
    assert "virus contigs   1" in (here / "logs" / "demo.log").read_text()
    call(*ask, "--force", cwd=here, env=environment)  # over an earlier run


@pytest.mark.slow
def test_planemo_finds_no_fault_in_galaxys_tool_and_its_command_runs(
    programs, environment, tmp_path
):
    bin_folder = programs("planemo==0.75.47")
    tool = WORKFLOWS / "galaxy" / "virnuc_dask.xml"
    call(bin_folder / "planemo", "lint", "--fail_level", "warn", tool, env=environment)
    # What Galaxy makes of the command, with the values of the tool's test.
    render = (
        "import sys, xml.etree.ElementTree as tree; from Cheetah.Template import Template\n"
        "command = tree.parse(sys.argv[1]).findtext('command')\n"
        "values = dict(input=sys.argv[2], fdr='', formats='genomad', report_file='--no-report')\n"
        "print(' '.join(str(Template(command, searchList=[values])).split()))"
    )
    line = call(bin_folder / "python", "-c", render, tool, DEMO)
    call("bash", "-euc", line, cwd=tmp_path, env=environment)
    found = re.findall(r'from_work_dir="([^"]+)"', tool.read_text())
    assert [name for name in found if not (tmp_path / name).exists()] == ["out/report.html"]


def test_galaxys_tool_is_of_this_version_and_its_options_are_there():
    text = (WORKFLOWS / "galaxy" / "virnuc_dask.xml").read_text()
    assert f'<token name="@TOOL_VERSION@">{__version__}</token>' in text
    assert (WORKFLOWS / "galaxy" / "test-data" / "demo.fasta.gz").exists()
    assert unknown_options(text) == set()


def unknown_options(text: str) -> set[str]:
    """Options in a workflow's file that `run` does not have."""
    known = {name for param in run_command.params for name in (*param.opts, *param.secondary_opts)}
    return set(re.findall(r"(?<![-\w])--[a-z]+[a-z-]*", text)) - known - {"--version"}


@pytest.mark.parametrize("file", [MODULE / "main.nf", WORKFLOWS / "snakemake" / "wrapper.py"])
def test_options_are_those_of_run(file):
    assert unknown_options(file.read_text()) == set()


def script_of(text: str, kind: str) -> str:
    """The commands of a module's ``script`` or ``stub``, filled in as Nextflow would."""
    body = re.search(rf"    {kind}:.*?\"\"\"\n(.*?)\"\"\"", text, re.DOTALL)[1]
    values = {
        "fasta": DEMO.name,
        "prefix": "test",
        "workers": "--cluster none",
        "args": "--formats genomad",
        "task.process": "VIRNUC_DASK",
    }
    filled = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda found: values[found[1]], body)
    return filled.replace("\\\\", "\\").replace("\\$", "$").replace("\n    ", "\n").strip()


@pytest.mark.parametrize("kind", ["script", "stub"])
def test_the_modules_commands_leave_what_it_declares(kind, environment, tmp_path):
    text = (MODULE / "main.nf").read_text()
    shutil.copy(DEMO, tmp_path)
    call("bash", "-euc", script_of(text, kind), cwd=tmp_path, env=environment)
    outputs = re.findall(r'path\("?([^")]+)"\)?(.*)|^    path "([^"]+)"', text, re.MULTILINE)
    wanted = [
        (name or alone).replace("${prefix}", "test")
        for name, rest, alone in outputs
        if "optional" not in rest
    ]
    assert len(wanted) >= 5
    assert [name for name in wanted if not list(tmp_path.glob(name))] == []
    versions = yaml.safe_load((tmp_path / "versions.yml").read_text())
    assert str(versions["VIRNUC_DASK"]["virnuc_dask"]) == __version__


def test_the_modules_description_names_its_channels():
    text = (MODULE / "main.nf").read_text()
    described = yaml.safe_load((MODULE / "meta.yml").read_text())
    assert list(described["output"]) == re.findall(r"emit: (\w+)", text)


@pytest.mark.slow
def test_a_parser_of_nextflow_reads_the_module(programs, tmp_path):
    """All of Nextflow that PyPI has: Nextflow's own program is on its site alone."""
    bin_folder = programs("reftrace==0.6.0")
    read = (
        "import sys; from reftrace import Module\n"
        "process, = Module.from_file(sys.argv[1]).processes\n"
        "print(process.name, process.first_label.label)"
    )
    said = call(bin_folder / "python", "-c", read, MODULE / "main.nf")
    assert said.split() == ["VIRNUC_DASK", "process_high"]


@pytest.mark.slow
def test_nextflow_runs_the_module(environment, tmp_path):
    if shutil.which("nextflow") is None:
        pytest.skip("no Nextflow here: its program is on its own site alone")
    (tmp_path / "main.nf").write_text(
        f"include {{ VIRNUC_DASK }} from '{MODULE}/main.nf'\n"
        f"workflow {{ VIRNUC_DASK(Channel.of([[id: 'test'], file('{DEMO}')]))"
        " VIRNUC_DASK.out.contigs.view() }\n"
    )
    assert "test.contigs.tsv" in call("nextflow", "run", "main.nf", cwd=tmp_path, env=environment)
