"""Measures a run, or a folder of images.

    python -m jaxgen.evaluate --workdir=runs/cips-demo --metrics=swd,spectrum2k
    python -m jaxgen.evaluate --images=FOLDER --reference=FOLDER|DATASET --metrics=fid10k_full

The names spell the protocols; jaxgen.evaluation.protocols lists them. Results are lines of the
run's metrics.jsonl. The same command goes on with an interrupted one; on several hosts, start it on
each of them. fid, kid and is look through the Inception network of FID, pr through VGG16, ppl2_wend
through LPIPS: what is missing is said in one line, with what to fetch.
"""

import sys

from absl import flags

from jaxgen import cli
from jaxgen.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run, trained or converted.')
_IMAGES = flags.DEFINE_string('images', None, 'Folder of RGB images of one size, instead.')
_METRICS = flags.DEFINE_string('metrics', 'swd', 'Names with commas between.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'newest', 'newest, all, best, or a step.')
_REFERENCE = flags.DEFINE_string('reference', None, 'Folder or data set; default: of the run.')
_SPLIT = flags.DEFINE_string('split', None, 'Of the data set; default: that of the training.')
_CACHE = flags.DEFINE_string(
    'cache', None, 'Where statistics of reals stay; default: `evaluation` in the data folder.'
)
_OUT = flags.DEFINE_string('out', None, "File of results; default: the run's metrics.jsonl.")
_PER_EXAMPLE = flags.DEFINE_string(
    'per_example', None, 'Table (.csv) of bits per dimension of each image of the reference.'
)
_EMA = flags.DEFINE_bool('ema', True, 'Averaged parameters.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of whatever is drawn.', lower_bound=0)
_BATCH = flags.DEFINE_integer('batch', 0, 'Images at a time; 0: by their size.', lower_bound=0)
_WEIGHTS = {
    kind: flags.DEFINE_string(kind, None, f'Weights of {kind}; default: the weights folder.')
    for kind in ('inception', 'vgg', 'lpips')
}


def main() -> None:
    """Restores, measures, writes down."""
    if (_WORKDIR.value is None) == (_IMAGES.value is None):
        raise UserError('exactly one of --workdir and --images must be given')
    if _PER_EXAMPLE.value is not None and _WORKDIR.value is None:
        raise UserError('--per_example needs a model: give --workdir')
    from jaxgen.evaluation import protocols
    from jaxgen.parallel import distributed

    metrics = protocols.parse(_METRICS.value)
    distributed.initialize()
    from jaxgen.evaluation import runs

    names = ('reference', 'split', 'cache', 'out', 'ema', 'seed', 'batch')
    options = runs.Options(
        **{name: flags.FLAGS[name].value for name in names},
        weights={kind: flag.value for kind, flag in _WEIGHTS.items()},
    )
    try:
        if _PER_EXAMPLE.value is not None:
            arguments = _WORKDIR.value, _PER_EXAMPLE.value, _CHECKPOINT.value, options
            mean = runs.score_examples(*arguments)
            if mean is not None:  # the first process
                print(f'bits_per_dim {mean:.5g}, image by image in {_PER_EXAMPLE.value}')
        elif _IMAGES.value is not None:
            runs.evaluate_images(_IMAGES.value, metrics, options)
        else:
            runs.evaluate_run(_WORKDIR.value, metrics, _CHECKPOINT.value, options)
    except KeyboardInterrupt:
        print('\nstopped on request; the same command goes on from what was collected')


if __name__ == '__main__':
    sys.exit(cli.run(main))
