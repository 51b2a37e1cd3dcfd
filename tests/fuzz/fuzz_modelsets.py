"""Coverage-guided fuzzing of all that loads a model set: python tests/fuzz/fuzz_modelsets.py.

The first byte says what the rest is: a manifest, a tokenizer, the header of a safetensors file,
the pickle of a checkpoint, or a file's bytes. Whatever they are: `ModelSetError`, or a model set
that can be used. An audit hook watches that nothing is executed.
"""

import json
import os
import random
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

# Before the instrumented imports, or they would take all of torch in.
from torch._weights_only_unpickler import Unpickler

with atheris.instrument_imports(include=["virnuc_dask"]):
    from virnuc_dask.encoders import dnabert_s, esm2, weights  # noqa: F401
    from virnuc_dask.modelsets.importing import encoders, modelset
    from virnuc_dask.modelsets.manifest import MANIFEST, read_info, sha256
    from virnuc_dask.modelsets.modelset import load
    from virnuc_dask.modelsets.sizes import encoder_bytes
    from virnuc_dask.modelsets.source import ModelSource

from virnuc_dask.errors import ModelSetError

Unpickler.load = atheris.instrument_func(Unpickler.load)
PARITY = Path(__file__).parents[1] / "data" / "parity"
INPUTS = 176  # values that the two tiny encoders give
FORBIDDEN = {
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}
JSON_TRIALS = (b"\0", b"\1", b"\2", b"\3")
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 3, 0.5, 1 << 20, 1 << 40, 1 << 63, 1e300),
    *(float("inf"), float("nan"), "", "a", "\0", "\x1b[2J", "../x", "x" * 5000, [], {}, [[]]),
    *([1 << 40, 1 << 40], [0, 4], "F64", "I8", "BOOL", "C64", "F8_E4M3", "fp32", "mlp", "esm2"),
]
TEXTS = (["ACGTACGTAC", "NNN"], ["MKV", "A"])


def watch(event: str, _: object) -> None:
    """End the process where a file had something executed."""
    if event in FORBIDDEN:
        os.write(2, f"a file had {event} executed\n".encode())
        os.abort()


class Workbench:
    """A tiny model set, of which each trial replaces one file."""

    def __init__(self, scratch: Path) -> None:
        self.original, self.trial = scratch / "original", scratch / "trial"
        checkpoints = modelset.Checkpoints(
            PARITY / "dnabert_s_tiny", PARITY / "esm2_tiny.pt", PARITY / "classifier.pth"
        )
        modelset.import_modelset("tiny", self.original, (500, 300), checkpoints)
        self.trial.mkdir()

    def with_file(self, name: str, content: bytes) -> Path:
        """The model set with one file replaced, and the checksum that belongs to it."""
        for path in self.trial.iterdir():
            path.unlink()
        for path in self.original.iterdir():
            if path.name != name:
                os.link(path, self.trial / path.name)
        (self.trial / name).write_bytes(content)
        if name != MANIFEST:
            manifest = json.loads((self.trial / MANIFEST).read_text())
            manifest["files"][name] = sha256(self.trial / name)
            (self.trial / MANIFEST).unlink()
            (self.trial / MANIFEST).write_text(json.dumps(manifest))
        return self.trial


def use(folder: Path) -> None:
    """Load a model set, and embed and score two texts."""
    info = read_info(folder)
    assert encoder_bytes(folder, info, "fp32") >= 0
    models = load(ModelSource.of(str(folder), info, device="cpu"))
    assert models.encoders is not None
    found = [e.embed(texts) for e, texts in zip(models.encoders, TEXTS, strict=True)]
    assert [len(f) for f in found] == [2, 2]


def safetensors(data: bytes) -> bytes:
    """A file whose header is ``data``, or says to be shorter or longer, before some zeros."""
    said = len(data) + (data[-1] - 128 if data[-1:] > b"\xf0" else 0)
    return struct.pack("<Q", max(said, 0)) + data + bytes(400_000)


def checkpoint(path: Path, pickled: bytes) -> Path:
    """A file of torch's zip format with this pickle and one storage."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        for number in range(8):
            archive.writestr(f"archive/data/{number}", bytes(1 << 12))
    return path


def trials(bench: Workbench, scratch: Path) -> list[Callable[[bytes], object]]:
    """What is done with the bytes, by their first one."""
    written = scratch / "written"
    written.mkdir()

    def import_raw(data: bytes, name: str) -> None:
        (scratch / name).write_bytes(data)
        modelset.import_classifier(scratch / name, written, INPUTS)

    return [
        lambda data: use(bench.with_file(MANIFEST, data)),
        lambda data: use(bench.with_file("tokenizer.json", data)),
        lambda data: use(bench.with_file("classifier.safetensors", safetensors(data))),
        lambda data: use(bench.with_file("nucleotide.safetensors", safetensors(data))),
        lambda data: modelset.import_classifier(
            checkpoint(scratch / "c.pth", data), written, INPUTS
        ),
        lambda data: encoders.import_esm2(checkpoint(scratch / "e.pt", data), written),
        lambda data: import_raw(data, "raw.pth"),
        lambda data: import_raw(data, "raw.safetensors"),
    ]


def changed(content: Any, rng: random.Random) -> Any:
    """JSON with one value, somewhere, replaced, left out or repeated."""
    if isinstance(content, dict | list) and content and rng.random() < 0.85:
        places = list(content) if isinstance(content, dict) else list(range(len(content)))
        place = rng.choice(places)
        copy = content.copy()
        match rng.randrange(8):
            case 0:
                del copy[place]
            case 1 if isinstance(copy, dict):
                copy[rng.choice(["", "x", *places])] = copy[place]
            case _:
                copy[place] = changed(copy[place], rng)
        return copy
    if type(content) is int and rng.random() < 0.5:
        return content + rng.choice([-1, 1, content, 1 << rng.randrange(70)])
    return rng.choice(ODD)


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Change JSON as JSON every second time; bytes as libFuzzer does else."""
    rng = random.Random(seed)
    if data[:1] in JSON_TRIALS and rng.random() < 0.5:
        try:
            text = json.dumps(changed(json.loads(data[1:]), rng)).encode()
        except (ValueError, RecursionError):
            pass
        else:
            return (data[:1] + text)[:max_size]
    return bytes(atheris.Mutate(data, max_size))


def main() -> None:
    """Fuzz, as libFuzzer's arguments say."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        todo = trials(Workbench(scratch), scratch)
        use(scratch / "original")
        sys.addaudithook(watch)

        def test_one(data: bytes) -> None:
            if not data:
                return
            try:
                todo[data[0] % len(todo)](data[1:])
            except ModelSetError as error:
                shown = str(error).replace("\n", "").replace("\t", "")
                assert shown.replace("\xa0", "").isprintable()

        atheris.Setup(sys.argv, test_one, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
