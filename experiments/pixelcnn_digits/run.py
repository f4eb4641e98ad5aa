"""Bits per dimension of handwritten digits beside a histogram and image files; see README.md."""

import io

import numpy as np
from PIL import Image

from experiments import pixelcnn_runs, runs
from jaxgen.data import digits

HELD_OUT = 360


def histogram(train, test, groups=None):
    """Bits per sub-pixel of `test [M, H, W]` under the levels' frequencies at each place.

    `groups`: classes of (train, test), each with frequencies of its own. A half is added to every
    count, so that no level is impossible.
    """
    train_group, test_group = groups or (np.zeros(len(train), int), np.zeros(len(test), int))
    bits = np.zeros(test.shape)
    rows, columns = np.ogrid[: test.shape[1], : test.shape[2]]
    for group in np.unique(test_group):
        seen = train[train_group == group]
        counts = np.stack([(seen == level).sum(0) for level in range(digits.LEVELS)]) + 0.5
        share = counts / counts.sum(0)
        chosen = test_group == group
        bits[chosen] = -np.log2(share[test[chosen], rows[None], columns[None]])
    return float(bits.mean())


def file_size(sheet, **options):
    """Bits per sub-pixel of one picture that holds all images; the smaller of its two spellings.

    `sheet` holds levels; they are stored as they are, and as the bytes that show them.
    """
    sizes = []
    for picture in (sheet.astype(np.uint8), digits.to_bytes(sheet)):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, **options)
        sizes.append(len(buffer.getvalue()))
    return 8 * min(sizes) / sheet.size


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    run = experiment.workdir or pixelcnn_runs.trained(experiment, 'pixelcnn:demo')
    levels, labels = digits.read_digits()
    train, test = levels[:-HELD_OUT], levels[-HELD_OUT:]
    groups = labels[:-HELD_OUT], labels[-HELD_OUT:]
    # 18 × 20 digits as one picture: the header of a file counts once.
    sheet = test.reshape(18, 20, 8, 8).transpose(0, 2, 1, 3).reshape(144, 160)
    metrics = pixelcnn_runs.held_out(run)
    steps = f'class-conditional Gated PixelCNN, {metrics["step"]} steps'
    rows = [
        (steps, metrics.get('bits_per_dim/held_out', '')),
        ('histogram of each pixel, by class', histogram(train, test, groups)),
        ('histogram of each pixel', histogram(train, test)),
        ('WebP, lossless, one sheet', file_size(sheet, format='webp', lossless=True, method=6)),
        ('PNG, one sheet', file_size(sheet, format='png', optimize=True)),
        ('all levels equally likely', float(np.log2(digits.LEVELS))),
    ]
    pixelcnn_runs.write_table(experiment, ('code of the 360 held-out digits', 'bits/dim'), rows)
    classes = experiment.out / 'classes.png'
    runs.command('jaxgen.apps.class_samples', f'--workdir={run}', f'--out={classes}')
    rest = experiment.out / 'completions.png'
    runs.command('jaxgen.apps.completions', f'--workdir={run}', f'--out={rest}', '--rows=3')


if __name__ == '__main__':
    main()
