"""Bytes that one micro-batch leaves for its backward pass, part by part; `memory` says how they add up over time."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from runyoro_ssl.devices import Device
from runyoro_ssl.model.adapters import Adapters
from runyoro_ssl.model.counts import TrainedPart

FP32 = 4
INT64 = 8
"""Bytes of an element."""


@dataclass(frozen=True)
class Activations:
    """The tensors of B `clips` of `num_samples` in the model of `config` (Wav2Vec2Config). Letters as in `memory`.

    `element`: s, bytes of an element under autocast. `padded`: with an attention mask. `sdpa`: else eager attention.
    `compiled`: its layers. `adapters`: all else is frozen. `trained`: what learns where there are none.
    """

    config: Any
    clips: int
    num_samples: int
    element: int
    device: Device
    padded: bool
    sdpa: bool
    mask_time_prob: float
    compiled: bool = False
    adapters: Adapters | None = None
    trained: TrainedPart = "all"

    @cached_property
    def rows(self) -> list[int]:
        """Rows after each convolution, R[i], as the feature encoder pads them."""
        first, *later = self.config.conv_stride
        windows = math.ceil(self.num_samples / (first * math.prod(later))) * math.prod(later)
        return [windows // math.prod(later[:index]) for index in range(len(later) + 1)]

    @property
    def frames(self) -> int:
        """Frames F of a clip, to within one: the rows after the last convolution."""
        return self.rows[-1]

    @property
    def masked(self) -> int:
        """Masked frames M of a clip: spans start anywhere, so that a share of exp(-prob) is in none."""
        return math.ceil(self.frames * (1 - math.exp(-self.mask_time_prob)))

    @property
    def holds_halves(self) -> bool:
        """Whether the Transformer's frozen matrices are in the type of autocast."""
        return self.adapters is not None and self.device == "cuda" and self.element != FP32

    @property
    def reaches_encoder(self) -> bool:
        """Whether the backward pass goes through the feature encoder."""
        return self.adapters is None and self.trained != "above"

    def batch(self) -> int:
        """Bytes of the micro-batch itself: waveforms fp32, negatives int64."""
        num_negatives: int = self.config.num_negatives
        return self.clips * (FP32 * self.num_samples + INT64 * self.masked * num_negatives)

    def encoder(self) -> int:
        """Bytes of the feature encoder, with the norm after it."""
        if self.adapters is not None:
            return 0
        if not self.reaches_encoder:
            return 2 * self._tokens(self.config.conv_dim[-1])
        return self._windows() + sum(self._conv_outputs()) + 2 * self._tokens(self.config.conv_dim[-1])

    def encoder_forward(self) -> int:
        """The most bytes in a forward pass of which nothing is kept: a convolution, norm and GELU before it in fp32."""
        outputs = self._conv_outputs()
        within = self.element if self.device == "cuda" else 2 * FP32
        steps = (one + max(one * within // self.element, one + two) for one, two in itertools.pairwise(outputs))
        return max(self._windows() + outputs[0], *steps)

    def encoder_backward(self) -> int:
        """The most bytes in the feature encoder's backward pass: what is kept, and one norm and GELU with gradients."""
        outputs = self._conv_outputs()
        return self._windows() + max(
            sum(outputs[: index + 1]) + outputs[index + 1] + outputs[index] * self._recomputed(index) // self.element
            for index in range(len(outputs) - 1)
        )

    def _recomputed(self, index: int) -> int:
        """Bytes an element of the tensors around the norm and GELU after a convolution: gradients, outputs, in fp32."""
        element, converted = self.element, self.element != FP32
        kind = self.config.feat_extract_norm
        if self.device == "cuda" or (kind == "group" and index):  # fused into one kernel; GELU alone
            return 3 * element
        if kind == "group":
            return element + 4 * FP32 + converted * element
        return element + 3 * FP32 + converted * FP32

    def context(self, *, checkpointing: bool) -> int:
        """Bytes of the context network: projection, positional convolution, layers, last norm."""
        config = self.config
        kernel: int = config.hidden_size**2 // config.num_conv_pos_embedding_groups * config.num_conv_pos_embeddings
        layers: int = config.num_hidden_layers
        if self.adapters is not None:
            layer = self.layer_input() if checkpointing else self.layer()
            return self._tokens(2 * config.hidden_size) + layers * layer
        around = self._tokens(3 * config.hidden_size) + self._noise(config.feat_proj_dropout, config.hidden_size)
        around += self._noise(config.hidden_dropout, config.hidden_size) + self._norm_input()
        layer = self.layer_input() if checkpointing else self.layer()
        return kernel * self.element + around + layers * layer

    def layer_input(self) -> int:
        """Bytes that a Transformer layer leaves with gradient checkpointing: its input."""
        return self._tokens(self.config.hidden_size)

    def layer(self) -> int:
        """Bytes of one Transformer layer: two norms, attention and feed-forward."""
        config = self.config
        hidden, inner = config.hidden_size, config.intermediate_size
        norms = 2 * self._norm_input() + self._tokens(self._copies_of_norms() * hidden)
        noise = 2 * self._noise(config.hidden_dropout, hidden) + self._noise(config.activation_dropout, inner)
        gelu = self._tokens(inner * (1 + self._keeps_input("output_dense")))
        return norms + self._attention() + gelu + noise + self._of_adapters()

    def _copies_of_norms(self) -> int:
        """Outputs of a layer's two norms that are kept for the products which learn from them."""
        attending = any(self._keeps_input(name) for name in ("q_proj", "k_proj", "v_proj"))
        return attending + self._keeps_input("intermediate_dense")

    def _keeps_input(self, matrix: str) -> bool:
        """Whether what a matrix of each layer is multiplied with is kept; an adapter with dropout keeps its own."""
        if self.adapters is None:
            return self.trained != "feature_encoder"
        return matrix in self.adapters.targets and not self.adapters.dropout

    def _of_adapters(self) -> int:
        """Bytes that a layer's adapters leave: between their two matrices, and of their dropouts."""
        if self.adapters is None:
            return 0
        adapters, widths = self.adapters, self._widths_of_adapters()
        dropped = sum(self._noise(adapters.dropout, width) for width in widths)
        dropped += self._tokens(sum(widths)) if adapters.dropout else 0
        return self._tokens(len(widths) * adapters.rank) + dropped

    def inside_layer(self) -> int:
        """The most bytes of gradients inside a layer: in feed-forward, or in attention, with the rest given back."""
        config = self.config
        hidden, inner = config.hidden_size, config.intermediate_size
        of_attention = (1 if config.attention_dropout else 2) * self._probabilities()
        given_back = self.layer() - self._attention() - self._norm_input() - self._tokens(hidden)
        return self._tokens(2 * hidden) + max(self._tokens(inner), of_attention - given_back)

    def objective(self) -> int:
        """Bytes of the objective, fp32: codes, projections, similarities, logits; and its negatives."""
        config = self.config
        codes = 3 * config.num_codevector_groups * config.num_codevectors_per_group
        features = config.conv_dim[-1] * (2 if config.feat_quantizer_dropout else 1)
        projected = config.codevector_dim + 4 * config.proj_codevector_dim
        wide: int = codes + features + config.hidden_size + projected + self.masked + config.num_negatives
        compared: int = config.num_negatives  # one byte for each
        return self.clips * self.masked * (FP32 * wide + compared)

    def casts(self) -> int:
        """Bytes of the copies of products' weights in the autocast type."""
        if self.element == FP32 or self.holds_halves:
            return 0
        config = self.config
        hidden, channels = config.hidden_size, config.conv_dim
        layers: int = config.num_hidden_layers * hidden * (4 * hidden + 2 * config.intermediate_size)
        kernels = sum(a * b * k for a, b, k in zip((1, *channels), channels, config.conv_kernel, strict=False))
        if self.adapters is not None:
            sides: int = sum(self._widths_of_adapters()) + sum(self._widths_of_adapters(output=True))
            learned: int = config.num_hidden_layers * self.adapters.rank * sides
            return self.element * (layers + learned)
        weights: int = layers + kernels + channels[-1] * hidden
        return self.element * weights

    def _widths_of_adapters(self, *, output: bool = False) -> list[int]:
        """Columns that each adapter of a layer takes, or gives."""
        hidden, inner = self.config.hidden_size, self.config.intermediate_size
        wide = "intermediate_dense" if output else "output_dense"
        return [inner if name == wide else hidden for name in (self.adapters.targets if self.adapters else ())]

    def _attention(self) -> int:
        """Query, key, value and output; of fused attention its logsumexp and mask, else the probabilities."""
        hidden: int = self.config.hidden_size
        heads: int = self.config.num_attention_heads
        if self._is_fused:
            rows = self.frames if self.device == "cuda" else 1  # fused kernels on CUDA expand it
            mask = self.clips * self.frames * rows * self.element if self.padded else 0
            if self.device == "cpu" and self.element != FP32:  # attention.py: all four in fp32, and what is cast back
                inputs = self.clips * self.frames * 4 * hidden * FP32
                inputs += self._tokens(hidden * self._keeps_input("out_proj"))
            else:
                inputs = self._tokens(4 * hidden)
            return inputs + self.clips * self.frames * heads * FP32 + mask
        inputs = FP32 if self.sdpa else self.element  # torch's own composition computes in fp32
        kept = self._probabilities() * (3 if self.config.attention_dropout else 1)
        return self.clips * self.frames * 3 * hidden * inputs + self._tokens(hidden) + kept

    @property
    def _is_fused(self) -> bool:
        """On the CPU there is no fused attention with dropout; on MPS none that trains."""
        return self.sdpa and (self.device == "cuda" or (self.device == "cpu" and not self.config.attention_dropout))

    def _probabilities(self) -> int:
        """Attention's (B, h, F, F), 0 where it is fused."""
        heads: int = self.config.num_attention_heads
        element = FP32 if self.sdpa else self.element
        return 0 if self._is_fused else self.clips * heads * self.frames**2 * element

    def _norm_input(self) -> int:
        """CUDA's autocast runs norms in fp32, on a copy; compiled, it need not be kept."""
        hidden: int = self.config.hidden_size
        copied = self.device == "cuda" and not self.compiled
        return self.clips * self.frames * hidden * (FP32 if copied else self.element)

    def _noise(self, rate: float, width: int) -> int:
        """What a dropout keeps: a mask of bytes on CUDA, else factors."""
        return 0 if not rate else self.clips * self.frames * width * (1 if self.device == "cuda" else self.element)

    def _tokens(self, width: int) -> int:
        return self.clips * self.frames * width * self.element

    def _windows(self) -> int:
        kernel: int = self.config.conv_kernel[0]
        return self.clips * self.rows[0] * kernel * self.element

    def _conv_outputs(self) -> list[int]:
        pairs = zip(self.rows, self.config.conv_dim, strict=True)
        return [self.clips * rows * channels * self.element for rows, channels in pairs]
