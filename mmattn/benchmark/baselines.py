"""Published formulations, written from their equations, to measure against.

Same networks, parameters and results as ours; more maps are written.
"""
from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones import ResNet
from ..backbones.blocks import Stage


class StackedStage(Stage):
    """A stage whose depth attention stacks its maps, as published.

    Every sum is copied and joined to the stack behind its block; the stack is
    summed for the descriptor, projected block by block, weighed as a whole
    and summed once more. In maps written beyond the trunk: of the order of
    n^2 / 2 for n blocks, where ours writes n.

    Source: Guo et al., "SDA-xNet", arXiv:2209.10327, and what its released
        code is known to copy. The dropped activation of the last block is
        computed there too.
    """

    def _forward_depths(self, x: Tensor, carry: Any,
                        taps: dict) -> Tuple[Tensor, Any]:
        stack = None
        for i, block in enumerate(self.blocks):
            z, carry = block(x, carry, taps.get(i))
            one = z.clone().unsqueeze(1)  # (B, 1, C, H, W)
            stack = one if stack is None else torch.cat((stack, one), 1)
            x = block.act(z)
        fusion = self.depth_fusion
        g = stack.sum(1).mean((2, 3), keepdim=True)
        v = fusion.act(fusion.norm(fusion.squeeze(g)))
        logits = None
        weights = fusion.project.weight.chunk(self.num_blocks)
        biases = fusion.project.bias.chunk(self.num_blocks)
        for weight, bias in zip(weights, biases):
            one = F.conv2d(v, weight, bias).unsqueeze(1)
            logits = one if logits is None else torch.cat((logits, one), 1)
        return block.act((stack * logits.softmax(1)).sum(1)), carry


def stacked_sda(depth: Any, **words: Any) -> ResNet:
    """``mmattn.ResNet`` whose depth attentions are computed as published.

    Args:
        depth, words: As for ``mmattn.ResNet``; ``depth_fusion`` is
            ``dict(type='SelectiveFusion', ratio=16, min_channels=64)`` unless
            it is given.
    """
    words.setdefault(
        'depth_fusion',
        dict(type='SelectiveFusion', ratio=16, min_channels=64))
    net = ResNet(depth, **words)
    for name in net.stage_names:
        stage = getattr(net, name)
        if stage.depth_fusion is not None:
            setattr(
                net, name,
                StackedStage(stage.blocks, stage.depth_fusion,
                             stage.stage_attention))
    return net
