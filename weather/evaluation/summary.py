"""What a table of scores says about the headline fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from weather.evaluation import score_file
from weather.evaluation.headlines import Display, Headline
from weather.evaluation.pairing import BASELINES

# Scores of one day, three and five are what forecasters compare.
USUAL_LEADS = (24, 72, 120)
read_scores = score_file.read_scores


def choose_leads(lead_hours: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Returns the wanted lead times that there are; else first, middle and last."""
    found = [lead for lead in wanted if lead in lead_hours]
    if len(found) == len(wanted):
        return found
    ascending = sorted(lead_hours)
    middle = ascending[len(ascending) // 2]
    return sorted({ascending[0], middle, ascending[-1]})


class Summary:
    """A table of scores, by field.

    Attributes:
      models: names, the baselines last.
      regions: names, in the order of the table.
      lead_hours: lead times that have a score, ascending.
    """

    def __init__(self, table: pd.DataFrame):
        """Sorts the table.

        Raises:
          ValueError: it holds no model but baselines.
        """
        names = list(dict.fromkeys(table.model))
        self.models = [name for name in names if name not in BASELINES]
        if not self.models:
            raise ValueError(f'expected scores of a model, found only those of {names}')
        self.models += [name for name in BASELINES if name in names]
        self.regions = list(dict.fromkeys(table.region))
        self.lead_hours = sorted(set(table.lead_time_hours))
        # Surface variables have no level; -1 can be looked up, a missing value cannot.
        level = table.level.fillna(score_file.NO_LEVEL).astype(float)
        keyed = table.assign(level=level)
        keys = ['metric', 'variable', 'level', 'region', 'model', 'lead_time_hours']
        # Sorted, or pandas warns of every look-up by some of the keys.
        self._values = keyed.set_index(keys).value.sort_index()

    @property
    def model(self) -> str:
        """The first model that is no baseline."""
        return self.models[0]

    @property
    def region(self) -> str:
        """The globe, or the first region where it was not scored: `area`, if any."""
        return 'global' if 'global' in self.regions else self.regions[0]

    def curves(
        self,
        metric: str,
        variable: str,
        level: float,
        *,
        region: str | None = None,
        display: Display | None = None,
    ) -> pd.DataFrame:
        """Scores by lead time in hours (rows) and model (columns); empty if none.

        They are those of `region`, by default `self.region`, and SI without `display`.
        """
        try:
            values = self._values.loc[metric, variable, level, region or self.region]
        except KeyError:
            return pd.DataFrame()
        by_model = values.unstack('model').dropna(axis='columns', how='all')
        columns = [name for name in self.models if name in by_model]
        return by_model[columns] * (display.scale if display else 1)

    def rmse(self, headline: Headline, *, region: str | None = None) -> pd.DataFrame:
        """RMSE of a headline field in its unit, as `curves`."""
        return self.curves(
            'rmse',
            headline.scored,
            headline.level,
            region=region,
            display=headline.in_scores,
        )

    def skill(self, headline: Headline, *, region: str | None = None) -> pd.DataFrame:
        """1 - RMSE / RMSE of persistence, as `curves`; empty without persistence."""
        rmse = self.rmse(headline, region=region)
        if 'persistence' not in rmse:
            return pd.DataFrame()
        others = rmse.drop(columns='persistence')
        return 1 - others.div(rmse.persistence, axis='index')

    def acc(self, headline: Headline) -> dict[str, pd.DataFrame]:
        """ACC of the components of a headline field that have one, by their name."""
        found = {
            name: self.curves('acc', name, headline.level)
            for name in headline.components
        }
        return {name: curves for name, curves in found.items() if not curves.empty}

    def beats_until(self, headline: Headline, baseline: str) -> float | None:
        """Longest lead time up to which the model is better, without a break.

        Returns:
          Hours; 0 if it is worse from the start, `None` if there is no such score.
        """
        rmse = self.rmse(headline)
        if baseline not in rmse or self.model not in rmse:
            return None
        # Not `>=`: where either is missing nothing is better.
        worse = ~(rmse[self.model] < rmse[baseline]).to_numpy()
        # The end counts as worse: argmax of none would be 0.
        better = int(np.append(worse, True).argmax())
        return float(rmse.index[better - 1]) if better else 0.0
