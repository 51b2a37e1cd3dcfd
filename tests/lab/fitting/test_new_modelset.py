from dataclasses import replace

from virnuc_dask.lab.fitting.new_modelset import write_modelset
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.manifest import ContigModelSpec, read_info, verify, write_info


def test_a_new_classifier_does_not_keep_the_contig_model_of_another(
    frames_modelset, contig_model, tmp_path
):
    base = tmp_path / "base"
    base.mkdir()
    for path in frames_modelset.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    contig_model(1, "frames").save(base / "contig_model.safetensors")
    info = write_info(
        base,
        replace(read_info(base), contig_model=ContigModelSpec("contig_model.safetensors")),
    )
    classifier = Classifier(info.feature_dim, 4)
    new = write_modelset(base, tmp_path / "new", "new", 500, classifier)
    verify(tmp_path / "new", new)
    assert new.contig_model is None
