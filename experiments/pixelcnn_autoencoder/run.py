"""Codes of two auto-encoders: a linear classifier, reconstructions, paths; see README.md."""

import numpy as np

from experiments import pixelcnn_runs, runs
from jaxgen.data import digits

HELD_OUT = 360
ROWS = ('pixelcnn:autoencoder_demo', 'pixelcnn:autoencoder_mse_demo')


def accuracy(codes, labels):
    """Share of the held-out codes that a linear classifier, fitted to the others, gets right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(codes[:-HELD_OUT], labels[:-HELD_OUT])
    return float(classifier.score(codes[-HELD_OUT:], labels[-HELD_OUT:]))


def codes_of(folder, levels):
    """Codes `[N, m]` of all digits under the auto-encoder of a run."""
    from jaxgen.apps.code_interpolation import encode
    from jaxgen.training.restore import restore

    images = digits.to_bytes(levels)[..., None] / np.float32(127.5) - 1
    return encode(restore(folder), images)


def main(argv=None):
    experiment = runs.parse(__file__, argv)
    folders = [pixelcnn_runs.trained(experiment, row) for row in ROWS]
    levels, labels = digits.read_digits()
    rows = []
    for name, folder in zip(('PixelCNN decoder', 'squared error'), folders, strict=True):
        metrics = pixelcnn_runs.held_out(folder)
        loss = next((f'{value:.3f}' for key, value in metrics.items() if 'held_out' in key), '')
        rows.append((name, loss, accuracy(codes_of(folder, levels), labels)))
    rows.append(('the 64 pixels themselves', '', accuracy(levels.reshape(-1, 64), labels)))
    pixelcnn_runs.write_table(
        experiment, ('code of', 'held-out loss', 'linear classifier, held out'), rows
    )
    workdir, beside = (f'--workdir={folders[0]}', f'--beside={folders[1]}')
    few = '--rows=2' if experiment.smoke else '--rows=6'
    out = experiment.out / 'reconstructions.png'
    runs.command('jaxgen.apps.reconstructions', workdir, beside, few, f'--out={out}')
    few = '--rows=1' if experiment.smoke else '--rows=4'
    out = experiment.out / 'paths.png'
    runs.command('jaxgen.apps.code_interpolation', workdir, few, f'--out={out}')


if __name__ == '__main__':
    main()
