"""A small pipeline: each process has some of a decoder's blocks, and micro-batches follow one another through all.

Huang et al. 2018, GPipe (arXiv 1811.06965): with p stages and m micro-batches of equal work, (p - 1) / (m + p - 1) of
the time is spent waiting for the first and the last to pass.   torch.distributed.pipelining sends and schedules.
Departures: an example of the principle. All sequences of a batch have one length and every batch has the same shape;
only next tokens are learned; the head is never tied (the table is on the first stage, the head on the last).
N tokens, flat · D model dim.   Read next: train/parallel/tensor.py, train/parallel/fleet.py
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.train.loss import Loss, asked
from cutaway.train.objectives.causal import told
from cutaway.train.parallel.fleet import Fleet


class Stage(nn.Module):
    """The blocks that are this process's, with the tables (first) or the last norm and head (last) around them.

    Flat tokens of whole sequences of `length` go in, ids (N,) or residual (N, D); residual or scores (N, V) come out.
    Weights keep the names they have in the decoder.
    """

    def __init__(self, module: DecoderModel, place: int, count: int, length: int):
        super().__init__()
        total = len(module.blocks)
        self.spec, self.length = module.spec, length
        self.first, self.last = place == 0, place == count - 1
        self.start, end = total * place // count, total * (place + 1) // count
        self.blocks = nn.ModuleDict({str(layer): module.blocks[layer] for layer in range(self.start, end)})
        self.embedding = module.embedding if self.first else None
        self.positions = module.positions if self.first else None
        self.norm = module.norm if self.last else None
        self.head = module.head if self.last else None

    def forward(self, x: Tensor) -> Tensor:
        context = Context.of((self.length,) * (len(x) // self.length), device=x.device)
        if self.embedding is not None:
            x = self._read(x, context)
        for layer, block in self.blocks.items():
            x, _ = block(x, context.at(int(layer)))
        if not self.last:
            return x
        x = x if self.norm is None else self.norm(x, context)
        assert self.head is not None
        scores_NV = self.head(x, context)
        return scores_NV if self.spec.softcap is None else self.spec.softcap * (scores_NV / self.spec.softcap).tanh()

    def _read(self, ids_N: Tensor, context: Context) -> Tensor:
        assert self.embedding is not None
        x_ND = self.embedding(ids_N)
        x_ND = x_ND if self.spec.embedding_scale is None else x_ND * self.spec.embedding_scale
        return x_ND if self.positions is None else x_ND + self.positions(context.positions_N).to(x_ND.dtype)


class Pipeline:
    """The objective of a pipeline: when it returns, the gradients of this process's stage are there.

    What it returns is a number without a past, so that `fit`, which asks it to go backward, adds nothing to them. All
    processes call it with the same batch; the last one tells the loss, the others nothing (`Fleet.sum` adds them).
    """

    splits = True

    def __init__(self, stage: Stage, fleet: Fleet, micro: int):
        from torch.distributed.pipelining import PipelineStage, ScheduleGPipe  # here: it brings torch's compiler along

        self.stage, self.micro = stage, micro
        group, count = fleet.group("pipeline"), fleet.layout.pipeline
        held = PipelineStage(stage, fleet.place("pipeline"), count, fleet.device, group=group)
        # Sums, not means: torch would otherwise divide gradients by the number of micro-batches.
        self.schedule = ScheduleGPipe(held, n_microbatches=micro, loss_fn=_total, scale_grads=False)

    def __call__(self, module: nn.Module, batch: Batch) -> Loss:
        if set(batch.lengths) != {self.stage.length} or len(batch.lengths) % self.micro:
            message = f"a multiple of {self.micro} sequences of {self.stage.length} tokens is needed, in every batch"
            raise BadInput(message, field="Batch.lengths")
        targets_N = told(batch.targets_N, "targets_N")
        losses: list[Tensor] = []
        learned = {"target": targets_N, "losses": losses} if self.stage.last else {}
        self.schedule.step(*([batch.ids_N] if self.stage.first else []), **learned)
        device = batch.ids_N.device
        total = torch.stack(losses).sum().detach() if losses else torch.zeros((), device=device)
        count = asked(targets_N) if self.stage.last else 0
        return Loss(total=total.requires_grad_(), count=count)


def split_blocks(module: DecoderModel, fleet: Fleet, *, length: int, micro: int) -> tuple[Stage, Pipeline]:
    """(module, objective) for `fit`: this process's stage of `module`, all starting from the first process's weights.

    `length`: tokens of every sequence; `micro`: micro-batches that a batch is cut in. Build the optimiser on the stage.
    Raises BadInput for more stages than blocks, for a tied head, and for dropout on the embedding.
    """
    spec, count = module.spec, fleet.layout.pipeline
    if count > len(spec.blocks):
        raise BadInput(f"{count} stages are more than the {len(spec.blocks)} blocks", field="Layout.pipeline")
    if spec.tied:
        raise BadInput("a tied head would be on two stages at once: build it with tied=False", field="Decoder.tied")
    if spec.dropout:
        raise BadInput("dropout on the embedding has no place in a stage", field="Decoder.dropout")
    with torch.no_grad():
        for weight in module.parameters():
            dist.broadcast(weight.detach(), group=fleet.group("pipeline"), group_src=0)
    stage = Stage(module, fleet.place("pipeline"), count, length)
    return stage, Pipeline(stage, fleet, micro)


def _total(scores_NV: Tensor, targets_N: Tensor) -> Tensor:
    return F.cross_entropy(scores_NV, targets_N, ignore_index=IGNORE, reduction="sum")
