"""Clay 1.5's encoder as a network that can be exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_TIME_AND_PLACE = 8
"""Numbers of each token's position that stand for week, hour, latitude and longitude."""

_TEMPERATURE = 10000
"""Of the sine-cosine positions."""


class Clay(nn.Module):
    """Clay 1.5's encoder on one sensor: (N, C, H, W) -> (N, 1 + L, dim), class token first.

    TerraTorch's own factory for it returns training losses and downloads a teacher network. ``waves`` are the centre
    wavelengths of the bands in micrometres, ``gsd`` metres. Time and place are left out (zeros), as they are for a
    fifth of the training chips (clay_v15/datamodule.py).

    Encoder.forward of clay_v15/model.py, written so that it can be exported: the weights of the patch embedding, which
    Clay makes from the wavelengths, are computed once, whenever weights are loaded; the positions need no mesh; and the
    masking of the pre-training, which would hide nothing, is left out.
    """

    kernel: Tensor
    bias: Tensor
    frequencies: Tensor

    def __init__(self, waves: list[float], gsd: float, **size: Any) -> None:
        """Random numbers; ``size`` is what Encoder takes: dim, depth, heads, dim_head, mlp_ratio, patch_size."""
        super().__init__()
        from terratorch.models.backbones.clay_v15.model import Encoder

        self.encoder = Encoder(mask_ratio=0.0, shuffle=False, **size)
        self._waves = tuple(waves)
        width = self.encoder.dim - _TIME_AND_PLACE
        steps = torch.arange(width // 4) / (width // 4 - 1)
        frequencies = 1.0 / (_TEMPERATURE ** (2 * steps / width)) * gsd
        self.register_buffer("frequencies", frequencies, persistent=False)
        self._make_kernel()
        self.register_load_state_dict_post_hook(lambda module, _keys: module._make_kernel())  # noqa: SLF001

    @torch.no_grad()
    def _make_kernel(self) -> None:
        """DynamicEmbedding.forward of clay_v15/factory.py up to its convolution."""
        from terratorch.models.backbones.clay_v15.utils import posemb_sincos_1d

        embedding = self.encoder.patch_embedding
        waves = torch.tensor(self._waves, device=self.frequencies.device)
        weight, bias = embedding.weight_generator(embedding.fclayer(posemb_sincos_1d(waves, embedding.wave_dim)))
        side = embedding.patch_size
        kernel = weight.unflatten(1, (embedding.embed_dim, side, side)).transpose(0, 1) * 0.02
        self.register_buffer("kernel", kernel.contiguous(), persistent=False)
        self.register_buffer("bias", bias.reshape(-1), persistent=False)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """posemb_sincos_2d_with_gsd of clay_v15/utils.py, followed by zeros for time and place: (L, dim)."""
        device = self.frequencies.device
        y = torch.arange(rows, device=device).repeat_interleave(columns)[:, None] * self.frequencies
        x = torch.arange(columns, device=device).repeat(rows)[:, None] * self.frequencies
        return functional.pad(torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=1), (0, _TIME_AND_PLACE))

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        patches = functional.conv2d(image, self.kernel, self.bias, stride=self.encoder.patch_size)
        positions = self._positions(*patches.shape[-2:])
        first = self.encoder.cls_token.expand(image.shape[0], -1, -1)
        tokens = torch.cat((first, patches.flatten(2).transpose(1, 2) + positions), dim=1)
        return self.encoder.transformer(tokens)
