"""What learns: the network, its optimizer and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fcnkit.errors import ArtifactError, FcnkitError, message
from fcnkit.runtime.artifacts.spec import VOID
from fcnkit.train import parallel
from fcnkit.train.auxiliary import WithAuxiliary, auxiliary_head
from fcnkit.train.checkpoint import Checkpoint
from fcnkit.train.depthwise import train_in_float32
from fcnkit.train.frozen import frozen_copy
from fcnkit.train.losses import share_of_distance, share_of_loss
from fcnkit.train.models import SegmentationNet
from fcnkit.train.recipe import Recipe

__all__ = ["Learner"]


class Learner:
    """A network under training: ``step`` trains it, ``deployed`` is the result so far."""

    def __init__(
        self,
        net: SegmentationNet,
        recipe: Recipe,
        *,
        class_weights: Tensor | None = None,
        teacher: SegmentationNet | None = None,
        compiled: bool = False,
    ) -> None:
        """Put a network under training.

        Args:
            net: On its device. It is changed.
            recipe: How to train; with precision ``auto`` in float32, see with_precision.
            class_weights: float32 (K,) for the loss, or None.
            teacher: A trained network whose probabilities it learns too, or None.
            compiled: Compile the training step with torch.compile.

        Raises:
            ValueError: The recipe asks for an auxiliary head that the network cannot have.
        """
        self.recipe = recipe
        self.device = next(net.parameters()).device
        if recipe.precision == "bf16":
            net = net.to(memory_format=torch.channels_last)
            train_in_float32(net)
        self.net = net
        self._auxiliary = head = auxiliary_head(net, recipe)
        pieces = _Pieces(net) if head is None else WithAuxiliary(net, head)
        forward = parallel.share(pieces)
        # Only the training step: validation takes pictures of many sizes.
        self._forward: Callable[[Tensor], Any] = torch.compile(forward) if compiled else forward
        self._optimizer = _optimizer(pieces, recipe)
        self._weights = None if class_weights is None else class_weights.to(self.device)
        self._teacher = None if teacher is None else frozen_copy(teacher).to(self.device)
        self._average: AveragedModel | None = None
        if recipe.ema:
            # Buffers too: the statistics of batch normalization belong to the weights.
            average = _moving_average(recipe.ema)
            self._average = AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)

    @property
    def deployed(self) -> SegmentationNet:
        """The network to validate and to keep: with the averaged weights where there are some."""
        if self._average is None:
            return self.net
        return cast("SegmentationNet", self._average.module)

    def step(
        self, x_bchw: Tensor, labels_bhw: Tensor, lr: float, *, taught: bool = True
    ) -> tuple[float, int, int]:
        """Take one step of the optimizer.

        Args:
            x_bchw: float32 (B, 3, H, W), normalized, on the device; this process's share.
            labels_bhw: int64 (B, H, W), on the device.
            lr: Learning rate of this step.
            taught: Learn from the teacher too, if there is one.

        Returns:
            The loss of the whole batch before the step, and for how many of its pixels no class had
            a larger logit than the true one, of how many that are not void.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        bf16 = self.recipe.precision == "bf16"
        if bf16:
            x_bchw = x_bchw.contiguous(memory_format=torch.channels_last)
        logits_bmkp, inner_bmkp = self._logits(x_bchw)
        labels_bmp = self.net.pieces_of(labels_bhw, outside=VOID)
        pixels = labels_bhw[0].numel()
        loss = self._loss(logits_bmkp, labels_bmp, pixels)
        if self._auxiliary is not None:
            inner_bmp = self._auxiliary.upsampling.pieces_of(labels_bhw, outside=VOID)
            loss = loss + self.recipe.auxiliary * self._loss(inner_bmkp, inner_bmp, pixels)
        if self._teacher is not None and taught:
            loss = loss + self._distance(self._teacher, x_bchw, logits_bmkp, labels_bmp)
        self._optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over the processes, the shares of the loss add up.
        (loss * parallel.world()).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.net)
        right, known = _count(logits_bmkp.detach(), labels_bmp)
        counts = torch.stack([loss.detach().double(), right.double(), known.double()])
        # The only place that waits for the GPU.
        total, rights, knowns = parallel.total(counts).tolist()
        return total, int(rights), int(knowns)

    def _logits(self, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits of the network and of the auxiliary head, if there is one."""
        bf16 = self.recipe.precision == "bf16"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                logits = self._forward(x_bchw)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            rule = "batch normalization needs more than one value per channel"
            got = f"{len(x_bchw)} image of {x_bchw.shape[2]}x{x_bchw.shape[3]}"
            remedy = "train on more images, or raise --batch or --crop"
            raise FcnkitError(message("training", rule, got, remedy)) from error
        return (logits, logits) if self._auxiliary is None else logits

    def _loss(self, logits_bmkp: Tensor, labels_bmp: Tensor, pixels: int) -> Tensor:
        return share_of_loss(
            logits_bmkp, labels_bmp, self.recipe, pixels=pixels, class_weights=self._weights
        )

    def _distance(
        self, teacher: SegmentationNet, x_bchw: Tensor, logits_bmkp: Tensor, labels_bmp: Tensor
    ) -> Tensor:
        """Return this process's share of the distance to the teacher's probabilities."""
        bf16 = self.recipe.precision == "bf16"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            taught_bkhw = teacher(x_bchw).float()
        # Every class is brought into the order of the pieces as a map of labels is.
        taught = self.net.pieces_of(taught_bkhw.flatten(0, 1), outside=0)
        taught_bmkp = taught.reshape(*taught_bkhw.shape[:2], *taught.shape[1:]).transpose(1, 2)
        pixels = x_bchw.shape[2] * x_bchw.shape[3]
        return share_of_distance(
            logits_bmkp.float(), taught_bmkp, labels_bmp, self.recipe, pixels=pixels
        )

    def is_finite(self) -> bool:
        """Say whether every weight is a finite number."""
        return all(bool(weight.isfinite().all()) for weight in self.net.parameters())

    def model(self) -> dict[str, Tensor]:
        """Return the state dict of ``deployed``, on the CPU."""
        return _on_cpu(self.deployed)

    def state(self) -> dict[str, Any]:
        """Return what resuming needs besides the weights.

        ``optimizer``; ``class_weights`` (a list, or None); where weights are averaged ``net``,
        the weights behind the average, and ``updates``, how often it was updated (else None); and
        ``auxiliary``, the weights of the auxiliary head, where there is one.
        """
        average = self._average
        head = self._auxiliary
        return {
            "optimizer": self._optimizer.state_dict(),
            "class_weights": None if self._weights is None else self._weights.tolist(),
            "net": None if average is None else _on_cpu(self.net),
            "updates": None if average is None else int(average.n_averaged),
            **({} if head is None else {"auxiliary": _on_cpu(head)}),
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Continue where a run with the same recipe was saved.

        Args:
            checkpoint: Written with ``model`` and ``state``.

        Raises:
            FcnkitError: It holds no state to continue from.
            ArtifactError: Its state is another network's, or damaged.
        """
        state = checkpoint.resume
        if state is None:
            rule = "a run continues from a checkpoint that holds the optimizer"
            raise FcnkitError(message("resume", rule, "a best.pt", "use last.pt"))
        try:
            self.net.load_state_dict(checkpoint.model if state["net"] is None else state["net"])
            if self._auxiliary is not None:
                self._auxiliary.load_state_dict(state["auxiliary"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._average is not None:
                self._average.module.load_state_dict(checkpoint.model)
                self._average.n_averaged.fill_(state["updates"])
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            rule, remedy = "the saved state must fit this run's network", "start a new run"
            got = (str(error).splitlines() or [""])[-1].strip() or type(error).__name__
            raise ArtifactError(message("resume", rule, got, remedy)) from error


class _Pieces(nn.Module):
    """Calls a network's ``pieces``: DDP and the compiler wrap a module's forward."""

    def __init__(self, net: SegmentationNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return the logits, see ``SegmentationNet.pieces``."""
        return self.net.pieces(x_bchw)


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    # Frozen parameters are left out of the optimizer, so a resumed run with another freeze setting
    # fails to load.
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    # Fused: one pass over the weights instead of ten, and a third of the time on two cores.
    shared: dict[str, Any] = {"weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(weights, recipe.lr, **shared)
    if recipe.optimizer == "momentum":
        return torch.optim.SGD(weights, recipe.lr, 0.9, nesterov=True, **shared)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(weights, recipe.lr, **shared)
    return torch.optim.AdamW(weights, recipe.lr, **shared)


def _count(logits_bmkp: Tensor, labels_bmp: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels whose true class has the largest logit, and those that are not void."""
    known_bmp = labels_bmp != VOID
    true = logits_bmkp.gather(2, labels_bmp.masked_fill(~known_bmp, 0)[:, :, None])[:, :, 0]
    # Not argmax: over classes that do not lie side by side it takes 100 times as long as amax.
    return ((true == logits_bmkp.amax(2)) & known_bmp).sum(), known_bmp.sum()


def _moving_average(decay: float) -> Any:
    """Return AveragedModel's update: exponential, with a smaller decay in the first steps.

    Source of min(decay, (1 + n) / (10 + n)) after n updates: TensorFlow's
    ExponentialMovingAverage. Without it the first weights would outweigh all others for
    1 / (1 - decay) steps.
    """

    def update(averages: Any, weights: Any, updates: Any) -> None:
        count = int(updates)
        now = min(decay, (1 + count) / (10 + count))
        get_ema_multi_avg_fn(now)(averages, weights, updates)  # type: ignore[no-untyped-call]

    return update


def _on_cpu(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.cpu() for key, value in net.state_dict().items()}
