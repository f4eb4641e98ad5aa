"""Trains the networks of the papers' tables of likelihoods; see README.md.

--only=pixelcnn:masked,pixelrnn:cifar10 chooses rows.
"""

import math

from experiments import pixelcnn_runs, runs

# Bits per dimension on the test set, MNIST in nats an image.
PUBLISHED = {
    'pixelcnn:masked': 3.14,
    'pixelrnn:cifar10_row': 3.07,
    'pixelrnn:cifar10': 3.00,
    'pixelcnn:cifar10': 3.03,
    'pixelcnn_pp:cifar10': 2.92,
    'pixelrnn:imagenet32': 3.86,
    'pixelcnn:imagenet32': 3.83,
    'pixelcnn:imagenet64': 3.57,
    'pixelrnn:mnist': 79.20,
}
NATS = 784 * math.log(2)


def main(argv=None):
    experiment = runs.parse(__file__, argv, rows=list(PUBLISHED))
    rows = []
    for row in experiment.rows:
        metrics = pixelcnn_runs.held_out(pixelcnn_runs.trained(experiment, row))
        bits = metrics.get('bits_per_dim/held_out', math.nan)
        ours = bits * NATS if row.endswith('mnist') else bits
        rows.append((row, PUBLISHED[row], metrics['step'], ours, metrics['bits_per_dim/train']))
    header = ('run', 'published', 'steps', 'held out, ours', 'bits/dim in training, ours')
    pixelcnn_runs.write_table(experiment, header, rows)


if __name__ == '__main__':
    main()
