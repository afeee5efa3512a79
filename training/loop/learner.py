"""The network in training: one step from images and labels to new weights, and all the state that goes with it."""

from __future__ import annotations

import contextlib
import inspect
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...networks.model import DescriptorNet
from ..stages import Precision, Stage
from .batchnorm import batch_norms, kept_statistics, share_statistics
from .distributed import Process
from .losses import CrossBatchMemory, LossParts, contrastive_loss, gather, gradient_scale
from .optimizer import make_optimizer, set_learning_rate

# torch 2.14 has renamed what it was called before.
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
_KEEP_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def usable_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision a stage asks for, or fp32 for fp16 on a processor, which has no fast arithmetic for it."""
    return "fp32" if device.type == "cpu" and precision == "fp16" else precision


class Learner:
    """A network with its optimizer, memory and wrappers.

    Args:
        net: with the weights that training starts from; it is moved to the process's device and changed in place.
        accumulate: see `isc_fast.training.options.RunOptions`.

    Attributes:
        net: the network itself, without wrappers.
        ema: the moving average of its weights, or None.
    """

    def __init__(
        self,
        net: DescriptorNet,
        stage: Stage,
        process: Process,
        *,
        accumulate: int = 1,
        compile: bool = False,
        ema_decay: float | None = None,
    ) -> None:
        self.stage, self.process, self._accumulate = stage, process, accumulate
        device = process.device
        layout = torch.channels_last if stage.channels_last else torch.contiguous_format
        self.net: DescriptorNet = share_statistics(net.to(device).to(memory_format=layout), device)
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(not any(fnmatchcase(name, pattern) for pattern in stage.frozen))
        self.optimizer = make_optimizer(self.net, stage)
        self.memory = CrossBatchMemory(stage.memory_size, stage.dim, device)
        precision = usable_precision(stage.precision, device)
        self._autocast = torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32")
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.ema = (
            AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)  # type: ignore[no-untyped-call]
            if ema_decay is not None
            else None
        )
        model: Any = torch.compile(self.net) if compile else self.net
        if process.world_size > 1:
            # The buffers are equal on all processes already: each has seen the statistics of all.
            on = [device] if device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=on, gradient_as_bucket_view=True, **_KEEP_BUFFERS)
        self._model: nn.Module = model
        self.train()

    def train(self) -> None:
        """Go into training mode; a stage that freezes statistics keeps the backbone's normalisation as at evaluation."""
        self.net.train()
        if self.stage.freeze_statistics:
            for layer in batch_norms(self.net.backbone):
                layer.eval()

    def set_epoch(self, epoch: int) -> float:
        """Set the learning rate of an epoch and return it."""
        rate = self.stage.learning_rate_of(epoch)
        set_learning_rate(self.optimizer, rate)
        return rate

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> LossParts:
        """One step on this process's share of a batch.

        Args:
            images: normalised, ``float (b, 3, size, size)`` on the device.
            labels: ``int64 (b,)`` on the device.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._in_one(images, labels) if self._accumulate == 1 else self._in_parts(images, labels)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.net)
        return parts

    def is_finite(self) -> bool:
        """Whether every weight and statistic is a number."""
        return all(bool(torch.isfinite(value).all()) for value in self.net.state_dict().values())

    def _loss(self, vectors: torch.Tensor, labels: torch.Tensor) -> LossParts:
        stage, world = self.stage, self.process.world_size
        vectors, labels = gather(vectors, labels)
        # View by view over all processes, as one process has them: where the memory's end cuts a batch, any number of
        # processes then keeps the same descriptors.
        order = torch.arange(len(labels), device=labels.device).view(world, -1, stage.batch_size // world)
        order = order.transpose(0, 1).flatten()
        return contrastive_loss(
            vectors[order], labels[order], self.memory, pos_margin=stage.pos_margin, neg_margin=stage.neg_margin
        )

    @property
    def _scale(self) -> float:
        return gradient_scale(self.process.world_size, self.stage.reference_world_size)

    def _in_one(self, images: torch.Tensor, labels: torch.Tensor) -> LossParts:
        with self._autocast:
            vectors = self._model(images)
        parts = self._loss(vectors.float(), labels)
        loss: Any = parts.loss * self._scale
        self.scaler.scale(loss).backward()
        return parts

    def _in_parts(self, images: torch.Tensor, labels: torch.Tensor) -> LossParts:
        """The same with the activations of one part at a time in memory: the loss of the whole batch is taken from a first
        pass without gradients, and its gradient with respect to the descriptors is sent back part by part (Gao et al.,
        "Scaling deep contrastive learning batch size under memory limited setup", 2021)."""
        parts = range(self._accumulate)
        vectors = torch.empty(len(images), self.stage.dim, device=images.device)
        with torch.no_grad(), self._autocast:
            for part in parts:  # every n-th image, so that each part holds views of all kinds
                vectors[part :: self._accumulate] = self.net(images[part :: self._accumulate]).float()
        vectors.requires_grad_()
        found = self._loss(vectors, labels)
        (gradient,) = torch.autograd.grad(found.loss * self._scale, vectors)
        with kept_statistics(self.net):
            for part in parts:
                with self._without_exchange(part + 1 < self._accumulate):
                    with self._autocast:
                        again = self._model(images[part :: self._accumulate])
                    loss = (again.float() * gradient[part :: self._accumulate]).sum()
                    self.scaler.scale(loss).backward()
        return found

    def _without_exchange(self, without: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are summed over the processes once, with the last part."""
        model = self._model
        if without and isinstance(model, DistributedDataParallel):
            exchange: contextlib.AbstractContextManager[None] = model.no_sync()
            return exchange
        return contextlib.nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on as if nothing had happened: tensors and plain data."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "memory": self.memory.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same stage."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.memory.load_state_dict(state["memory"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
