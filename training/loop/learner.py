"""The network in training: the step from images and labels to new weights, and the state that belongs to it."""

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
from .losses import CrossBatchMemory, LossParts, contrastive_loss, gather, gradient_scale, info_nce_loss
from .optimizer import make_optimizer, set_learning_rate
from .teaching import teaching_loss

# torch 2.14 renamed the argument broadcast_buffers to forward_sync_buffers.
_RENAMED = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
_KEEP_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def usable_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision that a stage asks for, or fp32 on a CPU that has no fast arithmetic of that precision.

    No CPU has it for fp16. Without instructions for bf16, a step in bf16 takes ten times as long as in fp32.
    """
    slow = precision == "fp16" or (precision == "bf16" and not _has_fast_bf16())
    return "fp32" if device.type == "cpu" and slow else precision


def _has_fast_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Learner:
    """A network together with its optimizer, its memory and its wrappers.

    Args:
        net: the network with the weights that training starts from. It moves to the process's device and changes in place.
        stage: the stage that the network trains on.
        process: this process of the run.
        accumulate, compile, ema_decay: see `isc_fast.training.options.RunOptions`.

    Attributes:
        net: the network itself, without wrappers.
        optimizer: the optimizer of its weights.
        memory: the cross-batch memory.
        scaler: the scaler of the loss; it does something only in fp16.
        ema: the moving average of the weights, or None.
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
        self.memory = CrossBatchMemory(stage.memory_size, stage.dim, device, stage.photos_per_view)
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
            # The buffers need no exchange: every process normalises with the statistics of all processes.
            on = [device] if device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=on, gradient_as_bucket_view=True, **_KEEP_BUFFERS)
        self._model: nn.Module = model
        self.train()

    def train(self) -> None:
        """Switch the network to training mode.

        If the stage freezes statistics, the backbone's batch normalisation stays in evaluation mode. A head that was fitted to a
        teacher stays in it too: its statistics are a part of what was fitted.
        """
        self.net.train()
        if self.stage.freeze_statistics:
            for layer in batch_norms(self.net.backbone):
                layer.eval()
        if self.stage.head_start == "fitted":
            self.net.bn.eval()

    def set_epoch(self, epoch: int) -> float:
        """Set the learning rate of an epoch and return it."""
        rate = self.stage.learning_rate_of(epoch)
        set_learning_rate(self.optimizer, rate)
        return rate

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> LossParts:
        """Make one step on this process's share of a batch.

        Args:
            images: normalised images, ``float (b, 3, size, size)``, on the device.
            labels: their labels, ``int64 (b,)``, on the device; of a stage with a teacher its descriptors, ``float32 (b, dim)``.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._in_one(images, labels) if self._accumulate == 1 else self._in_parts(images, labels)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.net)
        return parts

    def is_finite(self) -> bool:
        """Return whether every weight and every statistic is finite."""
        return all(bool(torch.isfinite(value).all()) for value in self.net.state_dict().values())

    def _loss(self, vectors: torch.Tensor, labels: torch.Tensor) -> LossParts:
        stage, world = self.stage, self.process.world_size
        vectors, labels = gather(vectors, labels)
        # The batch is sorted view by view, as one process alone would have it. If a batch does not fit before the end of
        # the memory, any number of processes then keeps the same descriptors.
        order = torch.arange(len(labels), device=labels.device).view(world, -1, stage.batch_size // world)
        order = order.transpose(0, 1).flatten()
        vectors, labels = vectors[order], labels[order]
        if stage.teacher and stage.temperature is not None:
            return teaching_loss(
                vectors, labels,
                temperature=stage.temperature, similarity=stage.similarity, reported_margin=stage.neg_margin,
            )  # fmt: skip
        if stage.temperature is not None:
            return info_nce_loss(
                vectors, labels, self.memory,
                temperature=stage.temperature, spread=stage.spread, reported_margin=stage.neg_margin,
            )  # fmt: skip
        return contrastive_loss(
            vectors, labels, self.memory,
            pos_margin=stage.pos_margin, neg_margin=stage.neg_margin, spread=stage.spread,
        )  # fmt: skip

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
        """Compute the same as `_in_one` in equal parts, with the activations of only one part in memory.

        A first pass without gradients gives the descriptors, and they give the loss of the whole batch. A second pass takes
        the gradient of that loss with respect to the descriptors back through the network, part by part. Source: Gao et
        al., "Scaling deep contrastive learning batch size under memory limited setup", 2021.
        """
        parts = range(self._accumulate)
        vectors = torch.empty(len(images), self.stage.dim, device=images.device)
        with torch.no_grad(), self._autocast:
            for part in parts:  # a part is every n-th image, so that each part holds views of all kinds
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
        """Suppress the exchange of gradients, which is needed only once, after the last part."""
        model = self._model
        if without and isinstance(model, DistributedDataParallel):
            exchange: contextlib.AbstractContextManager[None] = model.no_sync()
            return exchange
        return contextlib.nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to continue exactly from here, as tensors and plain data."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "memory": self.memory.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned in the same stage."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.memory.load_state_dict(state["memory"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None and state["ema"] is not None:
            self.ema.load_state_dict(state["ema"])
