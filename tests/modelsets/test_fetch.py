"""Published model sets, fetched from a server of this machine."""

import hashlib
import re
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from local_hub import Hub, serving

from virnuc_dask.modelsets import download, fetch, published
from virnuc_dask.modelsets.download import Watch
from virnuc_dask.modelsets.manifest import find, read_info, verify

NAME, REVISION = "virnucpro-500", published._REVISION
DNABERT_S = ("config.json", "tokenizer.json", "pytorch_model.bin")
ESM2, CLASSIFIER = "esm2_t36_3B_UR50D.pt", "500_model.pth"
NAMES = (*DNABERT_S, ESM2, CLASSIFIER)
REPOSITORY = f"/zhihan1996/DNABERT-S/resolve/{REVISION}"
ESM2_PATH = f"/fair-esm/models/{ESM2}"
CLASSIFIER_PATH = f"/Li-Jing-1997/VirNucPro/{published._COMMIT}/{CLASSIFIER}"
DISK_BYTES = 4 << 20


@pytest.fixture
def hub(parity_dir, monkeypatch, tmp_path):
    """Tiny checkpoints of the published formats, where the published ones are looked for."""
    with serving() as hub:
        tiny = [
            *(parity_dir / "dnabert_s_tiny" / name for name in DNABERT_S),
            *(parity_dir / name for name in ("esm2_tiny.pt", "classifier.pth")),
        ]
        contents = {name: path.read_bytes() for name, path in zip(NAMES, tiny, strict=True)}
        real = published.files_of

        def files_of(name: str) -> list[published.PublishedFile]:
            """Those that are published, of other contents, and all but the hub's from here."""
            return [
                replace(
                    file,
                    url=re.sub(r"https://\w+\.\w+\.com", hub.url, file.url),
                    size=file.size and len(contents[file.name]),
                    sha256=file.sha256 and hashlib.sha256(contents[file.name]).hexdigest(),
                )
                for file in real(name)
            ]

        hub.files = {
            re.sub("^https://[^/]+", "", file.url): contents[file.name] for file in real(NAME)
        }
        monkeypatch.setattr(fetch, "files_of", files_of)
        monkeypatch.setattr(download, "_PAUSE_S", 0.0)
        for variable in ("VIRNUC_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
        for variable in ("VIRNUC_HOME", "HF_HOME", "TORCH_HOME"):
            monkeypatch.setenv(variable, str(tmp_path / variable))
        yield hub


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "VIRNUC_HOME"


def asked_names(hub: Hub) -> list[str]:
    return [name for name, _ in hub.asked]


def assert_right(parity_modelset: Path) -> None:
    folder = find(NAME)
    verify(folder, read_info(folder))
    assert read_info(folder).files == read_info(parity_modelset).files


def test_what_is_fetched_runs_by_its_name_and_is_fetched_once(
    command, hub, home, parity_modelset, tmp_path
):
    code, out, err = command("models", "fetch", NAME)
    assert (code, f"--model {NAME} uses it" in out) == (0, True), err
    assert asked_names(hub) == [*DNABERT_S, ESM2, CLASSIFIER]
    assert_right(parity_modelset)
    (tmp_path / "in.fa").write_text(f">a\n{'ACGGTAC' * 90}\n")
    out = tmp_path / "out"
    code, _, err = command(
        "run", tmp_path / "in.fa", "-o", out, "--model", NAME, "--cluster", "none"
    )
    assert code == 0, err
    assert command("models", "fetch", NAME)[0] == 0
    assert len(hub.asked) == 5
    _, out, _ = command("models", "list")
    assert f"{NAME}\timported\tchunks of 500 nt\tDNABERT-S + esm2" in out


def test_licences_and_what_was_trusted_are_told(command, hub, home):
    _, _, err = command("models", "fetch", NAME, "--weights", "fp16")
    record = home / "downloads/VirNucPro" / f"{CLASSIFIER}.sha256"
    digest, name = record.read_text().split()
    assert name == CLASSIFIER
    told = re.sub(r"\s+", " ", err)
    assert f"{CLASSIFIER}: no checksum of it is published" in told
    assert digest in told
    assert "ESM-2: MIT; VirNucPro: none stated" in read_info(find(NAME)).licence
    card = (find(NAME) / "README.md").read_text()
    assert ("ESM-2: MIT" in card, "stored as fp16" in card) == (True, True)


def test_a_plan_tells_and_asks_nothing(command, hub, home):
    code, out, _ = command("models", "fetch", NAME, "--plan")
    assert code == 0
    assert f"from {hub.url}{REPOSITORY}/pytorch_model.bin" in out
    assert "licence: MIT" in out
    assert "checksum not published: trusted the first time" in out
    assert str(home / "modelsets" / NAME) in out
    assert (hub.asked, home.exists()) == ([], False)


# Cut, and gone on with


@pytest.mark.parametrize(
    ("name", "cuts", "gives_parts", "asked"),
    [
        ("pytorch_model.bin", [3_000, 50_000], True, [None, "bytes=3000-", "bytes=53000-"]),
        (ESM2, [3_000, 50_000], True, [None, "bytes=3000-", "bytes=53000-"]),
        (ESM2, [20_000], False, [None, "bytes=20000-"]),
    ],
)
def test_a_cut_connection_is_gone_on_with(
    command, hub, home, parity_modelset, name, cuts, gives_parts, asked
):
    hub.cuts, hub.takes_ranges = {name: cuts}, gives_parts
    assert command("models", "fetch", NAME)[0] == 0
    assert hub.ranges(name) == asked
    assert_right(parity_modelset)


def test_what_came_is_kept_for_the_next_fetch(command, hub, home, parity_modelset):
    hub.cuts = {ESM2: [7_000] + [0] * 5}
    code, _, err = command("models", "fetch", NAME)
    assert (code, "cut after 7,000 of" in err) == (4, True)
    assert (home / "downloads/ESM-2" / f"{ESM2}.part").stat().st_size == 7_000
    assert list((home / "modelsets").iterdir()) == []
    assert command("models", "fetch", NAME)[0] == 0
    assert hub.ranges(ESM2)[-1] == "bytes=7000-"
    assert asked_names(hub).count("pytorch_model.bin") == 1
    assert_right(parity_modelset)


def test_halves_are_joined_only_where_a_checksum_tells_that_they_belong_together(
    command, hub, home, parity_modelset
):
    hub.cuts = {CLASSIFIER: [5_000] + [0] * 5}
    assert command("models", "fetch", NAME)[0] == 4
    assert command("models", "fetch", NAME)[0] == 0
    assert hub.ranges(CLASSIFIER)[-1] is None
    assert_right(parity_modelset)


# Not what it should be


def changed(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [(changed, "refused, its SHA-256 is"), (lambda content: content + b"x", "bytes now")],
)
def test_another_file_is_refused(command, hub, home, parity_modelset, change, message):
    right = hub.files[ESM2_PATH]
    hub.files[ESM2_PATH] = change(right)
    code, _, err = command("models", "fetch", NAME)
    assert (code, message in err, ESM2 in err) == (4, True, True)
    assert [path.name for path in (home / "downloads/ESM-2").iterdir()] == []
    hub.files[ESM2_PATH] = right
    assert command("models", "fetch", NAME)[0] == 0
    assert_right(parity_modelset)


def test_what_was_trusted_once_must_stay_the_same(command, hub, home):
    assert command("models", "fetch", NAME)[0] == 0
    (home / "downloads/VirNucPro" / CLASSIFIER).unlink()
    (home / "modelsets" / NAME).rename(home / "aside")
    hub.files[CLASSIFIER_PATH] = changed(hub.files[CLASSIFIER_PATH])
    code, _, err = command("models", "fetch", NAME)
    assert (code, "refused, its SHA-256 is" in err) == (4, True)


def test_a_record_that_is_empty_says_nothing(command, hub, home, parity_modelset):
    """A disk that was full leaves one."""
    record = home / "downloads/VirNucPro" / f"{CLASSIFIER}.sha256"
    record.parent.mkdir(parents=True)
    record.touch()
    assert command("models", "fetch", NAME)[0] == 0
    assert record.read_text().split()[1] == CLASSIFIER
    assert_right(parity_modelset)


def test_a_damaged_download_is_fetched_again(command, hub, home, parity_modelset):
    assert command("models", "fetch", NAME)[0] == 0
    path = home / "downloads/ESM-2" / ESM2
    path.write_bytes(changed(path.read_bytes()))
    (home / "modelsets" / NAME).rename(home / "aside")
    assert command("models", "fetch", NAME)[0] == 0
    assert asked_names(hub).count(ESM2) == 2
    assert_right(parity_modelset)


def test_a_file_that_is_gone_can_be_put_there_by_hand(
    command, hub, home, parity_dir, parity_modelset
):
    content = hub.files.pop(CLASSIFIER_PATH)
    code, _, err = command("models", "fetch", NAME)
    folder = home / "downloads/VirNucPro"
    assert (code, "answers 404" in err, f"put it into {folder}" in err) == (4, True, True)
    (folder / CLASSIFIER).write_bytes(content)
    assert command("models", "fetch", NAME)[0] == 0
    assert_right(parity_modelset)


def test_a_server_that_serves_later_is_asked_again(command, hub, home, monkeypatch):
    hub.broken = {ESM2: 503}
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        hub.broken = {}

    monkeypatch.setattr(download.time, "sleep", sleep)
    assert command("models", "fetch", NAME)[0] == 0
    assert len(slept) == 1


# No network, other places


def test_without_a_network_the_way_by_another_machine_is_told(command, hub, home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = command("models", "fetch", NAME)
    assert (code, "cannot be reached" in err) == (4, True)
    for line in (
        f"virnuc-dask models fetch {NAME}",
        f"virnuc-dask models export {NAME} {NAME}.tar",
        f"virnuc-dask models add {NAME}.tar",
    ):
        assert line in err


@pytest.mark.parametrize("variable", ["VIRNUC_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked_and_what_is_here_is_used(
    command, hub, home, monkeypatch, variable
):
    with monkeypatch.context() as patch:
        patch.setenv(variable, "1")
        code, _, err = command("models", "fetch", NAME)
        assert (code, f"{variable} is set" in err, hub.asked) == (4, True, [])
    assert command("models", "fetch", NAME)[0] == 0
    (home / "modelsets" / NAME).rename(home / "aside")
    before = len(hub.asked)
    monkeypatch.setenv(variable, "1")
    assert command("models", "fetch", NAME)[0] == 0
    assert len(hub.asked) == before


def test_what_other_programs_have_is_used_if_it_is_right(
    command, hub, home, parity_dir, parity_modelset, tmp_path
):
    snapshot = tmp_path / f"HF_HOME/hub/models--zhihan1996--DNABERT-S/snapshots/{REVISION}"
    checkpoints = tmp_path / "TORCH_HOME/hub/checkpoints"
    for folder in (snapshot, checkpoints):
        folder.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").symlink_to(parity_dir / "dnabert_s_tiny/pytorch_model.bin")
    (checkpoints / ESM2).write_bytes(b"something else")
    assert command("models", "fetch", NAME)[0] == 0
    assert asked_names(hub) == ["config.json", "tokenizer.json", ESM2, CLASSIFIER]
    assert_right(parity_modelset)


def test_a_proxy_is_asked(command, hub, home, monkeypatch, parity_modelset):
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert command("models", "fetch", NAME)[0] == 0
    assert_right(parity_modelset)


@pytest.mark.parametrize("endpoint", ["nowhere", "http://", "http://[::1"])
def test_a_mirror_that_is_no_address_is_told(command, hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    code, _, err = command("models", "fetch", NAME)
    assert (code, "Traceback" in err) == (4, False), err


# Two at once, and a full disk


def test_of_two_fetches_at_once_one_waits(hub, home, parity_modelset):
    told: list[str] = []
    found = []

    def one() -> None:
        found.append(fetch.fetch(NAME, None, Watch(told.append, lambda *_: None))[0])

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [home / "modelsets" / NAME] * 2
    assert sorted(asked_names(hub)) == sorted([*DNABERT_S, ESM2, CLASSIFIER])
    assert told.count("another fetch is under way; waiting for it.") == 1
    assert_right(parity_modelset)


def test_what_a_killed_fetch_left_is_removed(command, hub, home):
    left = home / f"modelsets/.{NAME}.0123456789ab.import"
    left.mkdir(parents=True)
    assert command("models", "fetch", NAME)[0] == 0
    assert [path.name for path in (home / "modelsets").iterdir()] == [NAME]


@pytest.mark.parametrize("room", [200_000, 3_700_000], ids=["download", "import"])
def test_a_full_disk_is_told_and_room_lets_the_fetch_go_on(
    command, hub, small_disk, monkeypatch, parity_modelset, room
):
    monkeypatch.setenv("VIRNUC_HOME", str(small_disk))
    (small_disk / "ballast").write_bytes(bytes(DISK_BYTES - room))
    code, _, err = command("models", "fetch", NAME)
    assert (code, "No space left on device" in err) == (5, True), err
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert command("models", "fetch", NAME)[0] == 0
    assert set(asked_names(hub)) == {*DNABERT_S, ESM2, CLASSIFIER}
    assert_right(parity_modelset)


@pytest.mark.parametrize(("name", "length"), published.LENGTHS.items())
def test_what_is_pinned_is_whole(name, length):
    """Forty digits name a commit, sixty-four a content; a branch could move."""
    files = published.files_of(name)
    *encoders, classifier = files
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size for file in encoders)
    assert (name, classifier.name) == (f"virnucpro-{length}", f"{length}_model.pth")
    assert [f.url for f in files if not re.search("/[0-9a-f]{40}/|/fair-esm/", f.url)] == []
    assert {file.part for file in files} == set(published.LICENCES)
