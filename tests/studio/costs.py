"""Costs that do not depend on the machine."""

from __future__ import annotations

from studio.model.scheduler import Costs, Demand


class PerRow(Costs):
    """A second per row, known from the start, without any gain from batches."""

    def of(self, demand: Demand) -> float:
        return float(sum(demand.values()))

    def allows(self, demand: Demand) -> bool:
        return True
