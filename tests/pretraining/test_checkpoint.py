import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from virnuc_dask.errors import ModelSetError
from virnuc_dask.pretraining.checkpoint import Progress, read_checkpoint, write_checkpoint


class Training:
    """A perceptron that learns a fixed function."""

    def __init__(self, hidden: int = 8) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        matrices = [weight for weight in self.network.parameters() if weight.ndim > 1]
        others = [weight for weight in self.network.parameters() if weight.ndim < 2]
        # In another order than the network's own, as groups for weight decay are.
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.01)

    def learn(self, steps: int) -> None:
        inputs = torch.linspace(-1, 1, 40).view(10, 4)
        for _ in range(steps):
            self.optimizer.zero_grad()
            (self.network(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
            self.optimizer.step()

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([weight.detach().ravel() for weight in self.network.parameters()])


@pytest.fixture
def path(tmp_path):
    training = Training()
    training.learn(5)
    path = tmp_path / "peptide.safetensors"
    write_checkpoint(path, training.network, training.optimizer, Progress(5, 200, 2, 3))
    return path


def test_a_training_goes_on_as_if_nothing_had_happened(path):
    uninterrupted = Training()
    uninterrupted.learn(9)
    resumed = Training()
    resumed.learn(1)
    assert read_checkpoint(path, resumed.network, resumed.optimizer) == Progress(5, 200, 2, 3)
    resumed.learn(4)
    assert torch.equal(resumed.weights, uninterrupted.weights)


def test_without_a_checkpoint_a_training_begins(tmp_path):
    training = Training()
    before = training.weights.clone()
    progress = read_checkpoint(tmp_path / "none", training.network, training.optimizer)
    assert progress == Progress()
    assert torch.equal(training.weights, before)


def flip_one_bit(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def empty(path):
    path.write_bytes(b"")


def other_progress(path):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata["progress"] = metadata["progress"].replace('"step": 5', '"step": 6')
    save_file(load_file(path), path, metadata)


def no_metadata(path):
    save_file(load_file(path), path)


def a_pickle(path):
    torch.save({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    "damage", [flip_one_bit, cut_short, empty, other_progress, no_metadata, a_pickle]
)
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(path, damage):
    damage(path)
    training = Training()
    before = training.weights.clone()
    with pytest.raises(ModelSetError, match=r"peptide\.safetensors: damaged.*Delete it"):
        read_checkpoint(path, training.network, training.optimizer)
    assert torch.equal(training.weights, before)
    assert not training.optimizer.state


def test_another_networks_checkpoint_is_refused(path):
    training = Training(hidden=6)
    with pytest.raises(ModelSetError, match="another shape"):
        read_checkpoint(path, training.network, training.optimizer)
