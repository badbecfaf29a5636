"""Optuna behind Ray Tune, with the true outcome of every trial.

Ray's ``OptunaSearch`` marks a stopped trial COMPLETE with the figures of half an ensemble, leaves a trial RUNNING for
ever if a figure is NaN, and forgets what was running when its process is killed. This one does not.
"""

from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Domain

from hardtune import disk
from hardtune.sweep.space import point_of, treatment_of
from hardtune.treatment import Treatment

FINISHED = "finished"
"""Report key: the whole ensemble was trained, so these figures count."""
FAILED = "failed"
"""Report key: there will be no figures; the trial's record has the reason."""
SHORTFALL = "shortfall"
"""Report key: how much worse the trial is than the control less what is tolerated; at most 0 is feasible."""
WARNING = "warning"
"""Key of a member's report: the trial's warnings so far."""

ORDER = "objectives"
"""Study attribute: which objective each of its values belongs to."""

MAX_ERRORS = 3
"""After this many errors not its own, the sweep continues without a trial; a newly trained member resets the count."""
MAX_REDRAWS = 1000
"""How many values of a proposal are redrawn, one after another, before the space counts as exhausted."""
MAX_REFUSED = 50
"""The same for infeasible ways to resample, each of which takes a second where there are a million samples."""


class StudySearch(OptunaSearch):
    """``OptunaSearch`` over a study that outlives its process.

    A trial's state in the study is COMPLETE only if its report says that it finished, FAIL if it failed or a figure
    is not finite, and PRUNED otherwise. Trials that a former process left RUNNING are handed out again, with their
    parameters, before any new one. So are those that ended in an error, up to a limit, and Tune itself retries none:
    whatever its ``max_failures``, it never does if a worker dies that it was about to reuse. Beyond the limit, the
    trial has ended for this process but stays RUNNING in the study, since FAIL is final: a resumed sweep, with a disk
    no longer full, say, tries it again.

    A new trial's treatment differs from all earlier ones and the control, as equal treatments train the same networks
    and nothing is learned, and it is feasible, unless it is one of ``first``, the suggested values of each trial that
    begins the study. TPE alone repeats treatments where there are few choices; and it never
    hears of trials that fail, so that it prefers infeasible treatments the more, the better it knows all others. So
    values of its proposal are redrawn at random, one after another, until the treatment is new and feasible; a space
    without any such repeats feasible ones. ``suggest`` adds the space's fixed values, which ``OptunaSearch`` drops, and
    the trial's ``number`` in the study.
    """

    def __init__(
        self,
        space: Any,
        objectives: Mapping[str, str],
        *,
        study_name: str,
        storage: optuna.storages.BaseStorage,
        seed: int,
        adopt: bool = False,
        first: Sequence[Mapping[str, Any]] = (),
        feasible: Callable[[Treatment], bool] = lambda treatment: True,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        names, modes = list(objectives), list(objectives.values())
        self._fixed: dict[str, Any] = {}
        if not callable(space):
            self._fixed = {name: value for name, value in space.items() if not isinstance(value, Domain)}
            space = {name: value for name, value in space.items() if isinstance(value, Domain)}
        super().__init__(
            space,
            metric=names if len(names) > 1 else names[0],
            mode=modes if len(modes) > 1 else modes[0],
            study_name=study_name,
            storage=storage,
        )
        # A resumed study keeps the order of objectives that it began with, whatever the script's is now.
        self._objectives: list[str] = self.study.user_attrs.get(ORDER) or names
        self.study.set_user_attr(ORDER, self._objectives)
        self._seed, self._feasible, self._first = seed, feasible, first
        self.proposed, self.redrawn = 0, 0
        """How many trials this process proposed, and of how many TPE's own treatment had been tried."""
        self._draw_for(len(self.study.get_trials(deepcopy=False)))
        ended = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        self._tried = {Treatment(), *(treatment_of(self._point_of(trial)).canonical() for trial in ended)}
        self._orphans = self._unfinished() if adopt else []
        self._errors: Counter[int] = Counter()
        self._later: set[int] = set()

    @property
    def study(self) -> optuna.Study:
        """The study itself."""
        return self._ot_study

    def count_asked(self) -> int:
        """How many trials this process handed out, including a former process's and those handed out again."""
        return len(self._ot_trials)

    def count_done(self) -> int:
        """How many trials have ended, one way or another, including those left to a resumed sweep."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False)) + len(self._later)

    def count_open(self) -> int:
        """How many proposed trials have not ended and will not be handed out again: those that Ctrl-C interrupted."""
        return len(self._unfinished()) - len(self._orphans) - len(self._later)

    def ended(self) -> dict[int, tuple[dict[str, Any], str]]:
        """The points of trials that ended, by number, with their states in the study."""
        states = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)
        ended = self.study.get_trials(deepcopy=False, states=states)
        return {trial.number: (self._point_of(trial), trial.state.name) for trial in ended}

    def waits_again(self, number: int) -> bool:
        """Whether the trial of this number will be handed out again."""
        trials = self.study.get_trials(deepcopy=False)
        return any(trial.number == number and trial._trial_id in self._orphans for trial in trials)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        if trial_id not in self._ot_trials:
            known = self._orphans.pop(0) if self._orphans else self._propose()
            self._ot_trials[trial_id] = optuna.Trial(self.study, known)
        trial = self._ot_trials[trial_id]
        point = self._point(trial)  # draws any parameters missing after a kill; the others keep their values
        self._tried.add(treatment_of(point).canonical())
        return {**point, "number": trial.number}

    def _propose(self) -> int:
        """Add a trial to the study, with parameters for a treatment not tried yet; returns its id there."""
        number = len(self.study.get_trials(deepcopy=False))
        self._draw_for(number)
        if number < len(self._first):
            return self._add(self._draft(number, dict(self._first[number]), self._random)[0])
        draft, treatment = self._draft(number, {}, self.study.sampler)
        self.proposed += 1
        self.redrawn += bool(draft.params) and treatment in self._tried
        spare, refused = draft, set()
        for _ in range(MAX_REDRAWS):
            if not draft.params:
                break
            if not self._feasible(treatment):
                refused.add(treatment.resampling())
            elif treatment in self._tried:
                spare = draft
            else:
                break
            if len(refused) == MAX_REFUSED:
                draft = spare
                break
            kept = dict(draft.params)
            del kept[self._dice.choice(list(kept))]
            draft, treatment = self._draft(number, kept, self._random)
        else:
            draft = spare
        return self._add(draft)

    def _add(self, draft: _Draft) -> int:
        self.study.add_trial(
            optuna.create_trial(state=TrialState.RUNNING, params=draft.params, distributions=draft.distributions)
        )
        return self.study.get_trials(deepcopy=False)[draft.number]._trial_id

    def _draw_for(self, number: int) -> None:
        """Draw as for this trial, whatever was drawn before: a resumed sweep goes on as if never interrupted."""
        self.study.sampler = optuna.samplers.TPESampler(seed=_sampler_seed(self._seed, number))
        self._random = optuna.samplers.RandomSampler(seed=_sampler_seed(self._seed, number, 1))
        self._dice = random.Random(_sampler_seed(self._seed, number))

    def _draft(
        self, number: int, params: dict[str, Any], sampler: optuna.samplers.BaseSampler
    ) -> tuple[_Draft, Treatment]:
        """A draft of trial ``number`` that keeps these parameters and gets the others from the sampler."""
        draft = _Draft(number, params, functools.partial(sampler.sample_independent, self.study))
        return draft, treatment_of(self._point(draft)).canonical()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its search next to the results, and the study's URL may contain a password."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing for Tune's own restore: the study is on disk, and a space may be a function of any kind."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell Optuna nothing, since some members are not the whole; but a trained one resets the error count."""
        if result.get("trained"):
            self._errors.pop(self._ot_trials[trial_id].number, None)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id in self._completed_trials:
            return
        trial = self._ot_trials[trial_id]
        report = result or {}
        values = [float(report.get(name, math.nan)) for name in self._objectives]
        if error:
            self._errors[trial.number] += 1
            if self._errors[trial.number] < MAX_ERRORS:
                self._orphans.append(trial._trial_id)
            else:
                self._later.add(trial.number)
        else:
            try:
                self._tell(trial, report, values)
            except Exception as failure:  # SQLAlchemy's, wrapped in Optuna's, which says "invalid data"
                said = disk.trouble(failure)
                if said is None:
                    raise
                raise OSError(f"Optuna's study cannot be written: {said}") from None
        self._completed_trials.add(trial_id)  # only now: what was not told may be told again

    def _tell(self, trial: optuna.Trial, report: Mapping[str, Any], values: list[float]) -> None:
        if report.get(FAILED) or (report.get(FINISHED) and not all(map(math.isfinite, values))):
            self.study.tell(trial, state=TrialState.FAIL)
        elif not report.get(FINISHED):
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_constraint(SHORTFALL, report.get(SHORTFALL, 0.0))
            self.study.tell(trial, values)

    def _point_of(self, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        return self._point(optuna.trial.FixedTrial(trial.params, number=trial.number))

    def _point(self, trial: Any) -> dict[str, Any]:
        """The trial's point in the space; draws the parameters that it does not have yet."""
        if callable(self._space):
            fixed = self._space(trial)
        else:
            fixed = self._fixed
            for name, distribution in self._space.items():
                trial._suggest(name, distribution)
        return point_of(trial.params, fixed)

    def _unfinished(self) -> list[int]:
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        return [trial._trial_id for trial in trials]


class _Draft(optuna.trial.FixedTrial):
    """A tentative trial: values are drawn for it as for any other, but the study does not know it."""

    def __init__(self, number: int, params: dict[str, Any], draw: Callable[..., Any]) -> None:
        super().__init__(params, number)
        self._draw = draw

    def _suggest(self, name: str, distribution: optuna.distributions.BaseDistribution) -> Any:
        if name not in self._params or not distribution._contains(distribution.to_internal_repr(self._params[name])):
            self._params[name] = self._draw(optuna.create_trial(state=TrialState.RUNNING), name, distribution)
        return super()._suggest(name, distribution)


def _sampler_seed(seed: int, number: int, stream: int = 0) -> int:
    """Another seed for each trial: with the same one, all would draw the same.

    Samplers of one trial each have their own ``stream``, for the same reason. Below 2³², as they need.
    """
    if not number and not stream and seed < 2**32:
        return seed
    return int(np.random.SeedSequence([seed, number, stream]).generate_state(1)[0])
