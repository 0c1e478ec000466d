"""The processes that train one recipe together: which of them writes, and what all of them must agree on.

    torchrun --nproc-per-node 8 -m -- cutaway train gpt2-124m --run FOLDER          (the -- is for torchrun)
Each process reads its own share of every batch; the first alone keeps the run's folder.
Read next: recipes/training.py, train/parallel/replicate.py
"""

from __future__ import annotations

import os

import torch
from torch import nn

from cutaway.base.device import pick_device
from cutaway.base.errors import BadInput
from cutaway.base.load import busy
from cutaway.recipes.recipe import Prepared, Recipe, Share
from cutaway.train.cores import OnCores
from cutaway.train.loss import Objective
from cutaway.train.parallel import fleet as fleets
from cutaway.train.parallel.replicate import replicate
from cutaway.train.world import Alone, World


class Crew:
    """One process, or this one's view of several. Made by `muster`, once, before anything else."""

    def __init__(self, device: str, fleet: fleets.Fleet | None = None):
        self.device, self._fleet = device, fleet

    @property
    def world(self) -> World:
        return self._fleet or Alone()

    @property
    def share(self) -> Share:
        return Share() if self._fleet is None else Share(rank=self._fleet.place("data"), world=self._fleet.size)

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.share.rank == 0

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it; all get the same answer. Waits for all of them."""
        if self._fleet is None:
            return wish
        return bool(self.world.sum(torch.tensor([float(wish)])).item())

    def wait(self) -> None:
        """Goes on when all are here."""
        self.agree(False)

    def spread(self, prepared: Prepared) -> tuple[nn.Module, Objective]:
        """(module, objective) for `fit`: on all processes, or on this one.

        On a quiet machine cores that share each operation are quicker than pieces on a core each (51 against 61 ms for
        a step of 0.8 million weights); beside other work they wait for each other, and pieces take half as long.
        """
        objective = prepared.objective
        if self._fleet is not None:
            return replicate(prepared.module, objective, self._fleet)
        cores, kind = torch.get_num_threads(), torch.device(self.device).type
        if cores == 1 or kind != "cpu" or not objective.splits or prepared.draws or not busy():
            return prepared.module, objective
        return prepared.module, OnCores(objective, cores)

    def leave(self) -> None:
        if self._fleet is not None:
            self._fleet.close()


def muster(recipe: Recipe) -> Crew:
    """Joins the other processes, if the recipe is for several. Raises BadInput where there are not as many."""
    here = int(os.environ.get("WORLD_SIZE", "1"))
    if here != recipe.processes:
        message = f"is for {recipe.processes}, and {here} at work: start it under torchrun, or say processes={here}"
        raise BadInput(message, source="recipe", field="processes")
    if recipe.processes == 1:
        return Crew(pick_device(recipe.device))
    fleet = fleets.start()
    return Crew(str(fleet.device), fleet)
