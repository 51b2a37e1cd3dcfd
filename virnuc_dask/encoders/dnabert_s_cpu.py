"""DNABERT-S on a CPU: the same transformer as `dnabert_s.DnabertSModule`, by `cpu_kernels`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import gelu

from virnuc_dask.encoders.attention import AlibiBias
from virnuc_dask.encoders.cpu_kernels import LOG2_E, attend_in_cache, project, project_onto
from virnuc_dask.encoders.dnabert_s import DnabertSLayer, DnabertSModule


class DnabertSOnCpu(nn.Module):
    """A DNABERT-S that shares the weights of ``module``."""

    def __init__(self, module: DnabertSModule) -> None:
        super().__init__()
        self.sizes = module.sizes
        self.embedding, self.token_type = module.embedding, module.token_type
        self.norm, self.layers = module.norm, module.layers
        self._alibi = AlibiBias(module.sizes.heads, unit=LOG2_E)

    def forward(self, tokens: Tensor) -> Tensor:
        """Last hidden states, shape (batch, tokens, embed_dim)."""
        for hidden in self.hidden_states(tokens):
            last = hidden
        return last

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output."""
        hidden = self.norm(self.embedding(tokens) + self.token_type)
        bias = self._alibi.up_to(tokens.shape[1], hidden)[0]
        yield hidden
        for layer in cast(Iterable[DnabertSLayer], self.layers):
            hidden = _one_on(layer, hidden, bias)
            yield hidden


def _one_on(layer: DnabertSLayer, hidden: Tensor, bias: Tensor) -> Tensor:
    """Hidden states after ``layer``."""
    qkv = project(hidden, layer.qkv)
    query, key, value = qkv.view(*qkv.shape[:2], 3, layer.heads, -1).unbind(2)
    mixed = attend_in_cache(query, key, value, bias)
    hidden = layer.attention_norm(project_onto(hidden, mixed, layer.attention_out))
    gate, up = project(hidden, layer.gate_and_up).chunk(2, dim=-1)
    return layer.mlp_norm(project_onto(hidden, gelu(gate) * up, layer.down))  # type: ignore[no-any-return]
