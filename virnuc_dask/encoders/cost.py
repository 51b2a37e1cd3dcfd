"""What an encoder costs: its operations, told from its sizes and without torch."""

from __future__ import annotations

from dataclasses import dataclass

from virnuc_dask.encoders.encoder import EncoderSpec

_BASES_A_TOKEN = 5  # of DNABERT-S, with the published vocabulary
_ESM2_TOKENS = 33
# The published ESM-2: layers, width, heads. https://github.com/facebookresearch/esm
ESM2 = {
    "8M": (6, 320, 20),
    "35M": (12, 480, 20),
    "150M": (30, 640, 20),
    "650M": (33, 1280, 20),
    "3B": (36, 2560, 40),
}


def esm2_name(layers: int, dim: int, heads: int) -> str | None:
    """What the ESM-2 of these sizes is called; None for sizes that were not published."""
    names = {sizes: f"ESM-2 {name}" for name, sizes in ESM2.items()}
    return names.get((layers, dim, heads))


def esm2_parameters(layers: int, dim: int) -> int:
    """Weights of an ESM-2 without its language-model head, which an embedding does not need."""
    return layers * (12 * dim**2 + 13 * dim) + (_ESM2_TOKENS + 2) * dim


@dataclass(frozen=True, slots=True)
class Layer:
    """The products of one layer: ``linears`` are (inner, columns) of each weight matrix."""

    linears: tuple[tuple[int, int], ...]
    attention_dim: int  # values of a token that its queries, keys and values have
    layers: int

    @property
    def width(self) -> int:
        """Values of a token between two layers."""
        return self.linears[0][0]

    def flops_per_token(self, tokens: float) -> float:
        """Floating-point operations a token of a whole forward pass, texts of ``tokens`` tokens.

        Two for each weight, and for each pair of tokens two products of ``attention_dim`` values.
        Norms, activations and embeddings are not counted: they are no matrix products.
        """
        weights = sum(inner * columns for inner, columns in self.linears)
        return self.layers * (2 * weights + 4 * tokens * self.attention_dim)


def layer_of(spec: EncoderSpec) -> Layer | None:
    """The products of one layer of an encoder; None for words, which are looked up."""
    if spec.architecture not in ("esm2", "dnabert_s"):
        return None
    dim = int(spec.config["embed_dim"])
    if spec.architecture == "esm2":
        up, down = 4 * dim, 4 * dim
    else:
        down = int(spec.config["mlp_dim"])
        up = 2 * down  # gate and value
    linears = ((dim, 3 * dim), (dim, dim), (dim, up), (down, dim))
    return Layer(linears, dim, int(spec.config["layers"]))


def operations_a_frame(spec: EncoderSpec, chunk_length: int) -> float:
    """Floating-point operations of an encoder for a frame of a chunk; 0 for words."""
    if (layer := layer_of(spec)) is None:
        return 0.0
    tokens = 2 + chunk_length / (3 if spec.architecture == "esm2" else _BASES_A_TOKEN)
    return tokens * layer.flops_per_token(tokens)
