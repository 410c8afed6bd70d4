"""What is traced of a network: everything up to its last shuffle."""

from __future__ import annotations

from torch import Tensor, nn

from fcnkit.train.models import SegmentationNet, SubpixelConvTranspose2d
from fcnkit.train.models.bilinear import BilinearUpsample

__all__ = ["CoreGraph"]


class CoreGraph(nn.Module):
    """The part that all heads share: normalized pictures to what the last shuffle takes.

    With a network whose last step upsamples, the result is that step's convolution before
    depth-to-space, (N, K*s*s, H/s + 1, W/s + 1), else the logits (N, K, H, W).
    """

    def __init__(self, net: SegmentationNet) -> None:
        """Take the network as it is, see ``frozen_copy``."""
        super().__init__()
        self.net = net

    @property
    def stride(self) -> int:
        """The factor s by which the last step upsamples; 1 where it does not."""
        last = self.net.last_step
        return last.stride if isinstance(last, SubpixelConvTranspose2d) else 1

    @property
    def last_name(self) -> str:
        """The last step's name in the state dict."""
        last = self.net.last_step
        name: str = next(name for name, module in self.net.named_modules() if module is last)
        return name

    def score_names(self, classes: int) -> tuple[str, ...]:
        """Return the modules that give scores of this many classes, but for the last step."""
        # In feature layers, a width may equal the number of classes by chance.
        features = ("backbone.", "encoder.", "decoder.")

        def scores(module: nn.Module) -> bool:
            if isinstance(module, nn.Conv2d):
                return module.out_channels == classes
            if isinstance(module, BilinearUpsample):
                return module.channels == classes
            if isinstance(module, SubpixelConvTranspose2d):
                return bool(module.weight.shape[1] == classes != module.weight.shape[0])
            return False

        named = self.net.named_modules()
        return tuple(n for n, module in named if not n.startswith(features) and scores(module))

    def forward(self, image_nchw: Tensor) -> Tensor:
        """Compute the core."""
        x_nchw, last = self.net.body(image_nchw), self.net.last_step
        if isinstance(last, SubpixelConvTranspose2d):
            return last.subpixels(x_nchw)
        logits: Tensor = last(x_nchw)
        return logits
