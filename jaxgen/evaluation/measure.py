"""From names of metrics to their values: what must be collected, once each, and what is made of it.

`Sets` says what is compared. `measure` gives a `Result` for each metric. Statistics of reals stay
in the cache; those of generated images are removed once their figures are known.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxgen.errors import UserError
from jaxgen.evaluation import networks, streams
from jaxgen.evaluation.collect import MOMENTS, ROWS, Collected, Stream, Want, collect, forget
from jaxgen.evaluation.evaluators import SlicedWasserstein
from jaxgen.evaluation.images import Images, of_source
from jaxgen.evaluation.protocols import GROUPED, OF_MODELS, WITH_REALS, Metric, spell
from jaxgen.metrics import equivariance, perceptual_path, spectra
from jaxgen.metrics.frechet import frechet_distance
from jaxgen.metrics.inception_score import inception_score
from jaxgen.metrics.kid import draw_subsets, kernel_distance
from jaxgen.metrics.precision_recall import precision_recall
from jaxgen.metrics.stats import Moments
from jaxgen.training.restore import LikelihoodRun, Run

PATCH = 7  # side, of the sliced Wasserstein distance
PAIRS = 3  # of sets, for the sliced Wasserstein distance
MOST = {'kid': 1_000_000, 'pr': 200_000}  # reals


class Result(NamedTuple):
    """Figures by name, and what they were measured with."""

    metric: Metric
    values: Mapping[str, float]
    networks: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Sets:
    """What is compared.

    Attributes:
      images: the generated ones.
      reals: opens the data set that they are compared with; None: there is none.
      held_out: opens the images that swd and bits_per_dim take.
      run: the model, where it is one.
      mesh: the devices.
      batch: images at a time; 0: by their size.
      seed: of whatever is drawn.
      weights: files of the networks by kind, where flags name them.
    """

    images: Images
    reals: Callable[[], Sequence] | None
    held_out: Callable[[], Sequence] | None
    run: Run | LikelihoodRun | None
    mesh: Mesh
    batch: int = 0
    seed: int = 0
    weights: Mapping[str, str | None] = dataclasses.field(default_factory=dict)


class Plan(NamedTuple):
    """What a metric needs, `(stream, want, kept)` each, and what it makes of it.

    `kept`: whether the statistics stay in the cache. `finish` gets what was collected, in order; or
    what `draw` gives, which every process calls.
    """

    needs: Sequence[tuple[Stream, Want, bool]]
    finish: Callable[..., Mapping[str, float]]
    networks: Mapping[str, str]
    draw: Callable[[], Any] | None = None


def measure(
    metrics: Sequence[Metric],
    sets: Sets,
    cache: pathlib.Path,
    scratch: pathlib.Path,
    *,
    on_result: Callable[[Result], None] = lambda result: None,
    progress: bool = True,
    known: dict[tuple, Any] | None = None,
) -> list[Result]:
    """The results of all metrics. Every process calls it, and the first one gets them.

    Args:
      cache: where statistics of reals stay.
      scratch: where those of generated images are until they are no longer needed.
      on_result: called with each as soon as it is known.
      known: keeps compiled networks and the reals from one call to the next.

    Raises:
      UserError: too few images, no weights, a model that a metric is not defined for.
    """
    planner = _Planner(sets, {} if known is None else known)
    plans = {metric: planner.plan(metric) for metric in metrics}
    results, used = [], {}
    for metric, plan in plans.items():
        # Together with what later metrics want of the same images.
        needs = list(plan.needs)
        found: dict[tuple[str, int, Want], Any] = {}
        for stream, _, kept in needs:
            wants = [
                want
                for other in plans.values()
                for same, want, _ in other.needs
                if _same(same, stream)
            ]
            folder = cache if kept else scratch
            collected: Collected = collect(stream, wants, folder, sets.mesh, progress=progress)
            found |= {(stream.fingerprint, stream.count, want): x for want, x in collected.items()}
            if not kept:
                used[stream.fingerprint, stream.count] = (stream, wants)
        drawn = [plan.draw()] if plan.draw else []
        if jax.process_index() == 0:
            given = [found[stream.fingerprint, stream.count, want] for stream, want, _ in needs]
            given += drawn
            results.append(Result(metric, plan.finish(*given), plan.networks))
            on_result(results[-1])
    for stream, wants in used.values():
        forget(stream, wants, scratch)
    return results


def _profile(rows: np.ndarray, side: int) -> spectra.Profile:
    """The profile of a mean spectrum, from those of its images."""
    average = np.mean(rows, axis=0, dtype=np.float64)
    ring = np.arange(len(average))
    return spectra.Profile(ring / side, average, average, ring <= side // 2)


def _same(a: Stream, b: Stream) -> bool:
    return (a.fingerprint, a.count) == (b.fingerprint, b.count)


class _Planner:
    """Makes plans, and each network, set and stream once."""

    def __init__(self, sets: Sets, lasting: dict[tuple, Any]) -> None:
        self._sets, self._known, self._lasting = sets, {}, lasting

    def plan(self, metric: Metric) -> Plan:
        sets, kind = self._sets, metric.kind
        if kind in OF_MODELS and sets.run is None:
            raise UserError(f'{metric.name} needs a model (--workdir): images alone do not do')
        if sets.images.available is not None and kind not in OF_MODELS:
            metric.needs(sets.images.available, repr(sets.images.name))
        plans = {
            'fid': self._fid,
            'kid': self._kid,
            'is': self._inception_score,
            'pr': self._precision_recall,
            'ppl': self._path_length,
            'swd': self._sliced_wasserstein,
            'spectrum': self._spectrum,
            'bits_per_dim': self._bits,
        } | dict.fromkeys(GROUPED, self._equivariance)
        return plans[kind](metric)

    def _once(self, key: tuple, make: Callable[[], Any], *, lasting: bool = False) -> Any:
        known = self._lasting if lasting else self._known
        if key not in known:
            known[key] = make()
        return known[key]

    def _reals(self, metric: Metric) -> Images:
        sets = self._sets
        if sets.reals is None:
            raise UserError(f'{metric.name} needs real images: --reference=FOLDER or DATASET')
        source = self._once(('source',), sets.reals, lasting=True)
        most = MOST.get(metric.kind, metric.count if metric.kind == 'spectrum' else None)
        images = self._once(
            ('reals', most),
            lambda: of_source(source, sets.mesh, most=most, batch=sets.batch),
            lasting=True,
        )
        least = metric.least
        if images.available < least:
            raise UserError(
                f'{metric.name} needs {least} real images or more, {images.name!r} has '
                f'{images.available}'
            )
        return images

    def _pair(self, metric: Metric, kind: str) -> tuple[Stream, Stream | None, dict[str, str]]:
        """What a network sees in generated images, and in reals, and its digest."""
        make = {'inception': networks.inception, 'vgg': networks.vgg16}[kind]
        flag = self._sets.weights.get(kind)
        mesh = self._sets.mesh
        network = self._once((kind,), lambda: make(flag, metric.name, mesh), lasting=True)
        generated = self._once(
            (kind, metric.count),
            lambda: streams.features(self._sets.images, network, metric.count),
        )
        digest = {network.name: network.digest}
        if metric.kind not in WITH_REALS:
            return generated, None, digest
        reals = self._reals(metric)
        real = self._once(
            (kind, 'real', reals.available),
            lambda: streams.features(reals, network, reals.available),
            lasting=True,
        )
        return generated, real, digest

    def _fid(self, metric: Metric) -> Plan:
        generated, real, digest = self._pair(metric, 'inception')
        want = ('pool', MOMENTS)

        def finish(ours: Moments, theirs: Moments) -> Mapping[str, float]:
            return {metric.name: frechet_distance(ours, theirs, ddof=0)}

        return Plan([(generated, want, False), (real, want, True)], finish, digest)

    def _kid(self, metric: Metric) -> Plan:
        generated, real, digest = self._pair(metric, 'inception')
        want = ('pool', ROWS)

        def finish(ours: np.ndarray, theirs: np.ndarray) -> Mapping[str, float]:
            subsets = draw_subsets(self._sets.seed, len(ours), len(theirs))
            return {metric.name: kernel_distance(ours, theirs, subsets).mean}

        return Plan([(generated, want, False), (real, want, True)], finish, digest)

    def _inception_score(self, metric: Metric) -> Plan:
        generated, _, digest = self._pair(metric, 'inception')

        def finish(logits: np.ndarray) -> Mapping[str, float]:
            found = inception_score(logits)
            return {f'{metric.name}_mean': found.mean, f'{metric.name}_std': found.deviation}

        return Plan([(generated, ('logits', ROWS), False)], finish, digest)

    def _precision_recall(self, metric: Metric) -> Plan:
        generated, real, digest = self._pair(metric, 'vgg')
        want = ('dense', ROWS)

        def finish(ours: np.ndarray, theirs: np.ndarray) -> Mapping[str, float]:
            found = precision_recall(theirs, ours, k=3, half=True)
            return {f'{metric.name}_{name}': getattr(found, name) for name in found._fields[:2]}

        return Plan([(generated, want, False), (real, want, True)], finish, digest)

    def _path_length(self, metric: Metric) -> Plan:
        lpips = networks.find_lpips(self._sets.weights.get('lpips'), metric.name)
        stream = streams.path_steps(
            self._sets.run, lpips, metric.count, seed=self._sets.seed, labels=self._labels()
        )

        def finish(distances: np.ndarray) -> Mapping[str, float]:
            return {metric.name: perceptual_path.path_length(distances[:, 0]).mean}

        digest = {'LPIPS': networks.tree_digest(lpips[1])}
        return Plan([(stream, ('distance', ROWS), False)], finish, digest)

    def _equivariance(self, metric: Metric) -> Plan:
        stream = self._once(
            ('equivariance', metric.count),
            lambda: streams.equivariance_errors(
                self._sets.run, metric.count, seed=self._sets.seed, labels=self._labels()
            ),
        )
        column = 2 * streams.TRANSFORMS.index(metric.kind)

        def finish(errors: np.ndarray) -> Mapping[str, float]:
            total, count = np.asarray(errors, np.float64).sum(axis=0)[column : column + 2]
            return {metric.name: equivariance.decibels(equivariance.SquaredError(total, count))}

        return Plan([(stream, ('errors', ROWS), False)], finish, {})

    def _spectrum(self, metric: Metric) -> Plan:
        images, reals = self._sets.images, self._reals(metric)
        if images.shape[:2] != reals.shape[:2]:
            raise UserError(
                f'{metric.name} needs images of one size: {images.name!r} has {images.shape[:2]}, '
                f'{reals.name!r} {reals.shape[:2]} (height, width)'
            )
        want = ('profile', ROWS)
        pair = [
            (streams.spectrum(images, metric.count), want, False),
            (streams.spectrum(reals, reals.available), want, True),
        ]
        side = min(images.shape[:2])

        def finish(ours: np.ndarray, theirs: np.ndarray) -> Mapping[str, float]:
            return {
                metric.name: spectra.profile_distance(*(_profile(x, side) for x in (ours, theirs)))
            }

        return Plan(pair, finish, {})

    def _sliced_wasserstein(self, metric: Metric) -> Plan:
        sets = self._sets
        opened = sets.held_out or sets.reals
        if opened is None:
            raise UserError(f'{metric.name} needs real images: --reference=FOLDER or DATASET')
        source = self._once(('held out',), opened)
        pairs = min(PAIRS, len(source) // (2 * metric.count))
        if not pairs:
            fits = len(source) // 2
            offer = f': ask for {spell("swd", fits)}' if fits else ''
            raise UserError(
                f'{metric.name} needs {2 * metric.count} held-out images, {source.name!r} has '
                f'{len(source)}{offer}'
            )
        if sets.images.shape != tuple(source.image_shape):
            raise UserError(
                f'{metric.name} needs images of one size: {sets.images.name!r} has '
                f'{sets.images.shape}, {source.name!r} {tuple(source.image_shape)}'
            )
        if min(sets.images.shape[:2]) < PATCH:
            raise UserError(f'{metric.name} needs sides of {PATCH} pixels or more')
        distance = SlicedWasserstein(source, images=metric.count, pairs=pairs, seed=sets.seed)

        def finish(drawn: np.ndarray) -> Mapping[str, float]:
            found = distance(lambda count: drawn)
            return {metric.name: found['swd'], f'{metric.name}_real': found['swd_real']}

        # A few images themselves, not numbers of each.
        return Plan([], finish, {}, lambda: streams.pixels(sets.images, metric.count))

    def _bits(self, metric: Metric) -> Plan:
        source = self._once(('held out',), self._sets.held_out or self._sets.reals)
        stream = streams.scores(self._sets.run, source)

        def finish(scores: np.ndarray) -> Mapping[str, float]:
            return {metric.name: math.fsum(scores[:, 0]) / len(scores)}

        return Plan([(stream, ('score', ROWS), True)], finish, {})

    def _labels(self) -> Sequence | None:
        """The data set that labels are drawn from."""
        run = self._sets.run
        if not getattr(run.generator, 'num_classes', 0) or self._sets.reals is None:
            return None
        return self._once(('source',), self._sets.reals)
