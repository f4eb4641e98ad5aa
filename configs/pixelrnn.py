"""PixelRNN (arXiv 1601.06759): the Diagonal BiLSTM and the Row LSTM.

Expected (published, bits/dim on the test set, the training set in brackets, from memory):

                      CIFAR-10       ImageNet 32²     ImageNet 64²
    Row LSTM          3.07 (3.00)    3.86             3.63
    Diagonal BiLSTM   3.00 (2.93)

MNIST, binary (nats an image, bits/dim × 784 × ln 2): Diagonal BiLSTM 79.20, Row LSTM 80.54. Ours
are not measured: no run of this size has been made. The variant stands after the colon:

    --config=configs/pixelrnn.py    Diagonal BiLSTM on CIFAR-10: 12 layers, h = 128
    cifar10_row                     Row LSTM of the same size
    imagenet32                      Row LSTM: 12 layers, h = 384, on the set of configs/pixelcnn.py
    mnist                           Diagonal BiLSTM: 7 layers, h = 16; configs/pixelcnn.py says
                                    what its two levels are
    demo                            32×32 crops of six photographs, 32 levels
    smoke                           seconds on a CPU; shows that everything runs

_demo and _smoke shrink any variant: cifar10_row_demo.

The layers, their widths, batches of 16 and RMSProp are the paper's; its rates, the larger batch on
ImageNet, the numbers of steps and the averaging of parameters are ours. There is no cached sampler:
a picture takes passes over the whole image until nothing changes.
"""

from ml_collections import ConfigDict

from jaxgen.variants import read_variant

VARIANTS = ('cifar10', 'cifar10_row', 'imagenet32', 'mnist')


def get_config(variant: str = 'cifar10') -> ConfigDict:
    """The config of `variant`."""
    name, size = read_variant(variant, VARIANTS, shrinks='cifar10')
    config = _paper()
    if name == 'cifar10_row':
        config.model.kind = 'row'
    elif name == 'imagenet32':
        data = dict(name='downsampled_imagenet/32x32', eval_split='validation')
        config.update(dict(batch_size=64, data=data, model=dict(kind='row', features=384)))
    elif name == 'mnist':
        model = dict(levels=2, colours=1, features=16, layers=7, head=32)
        config.update(dict(data=dict(name='mnist', size=28), model=model))
    if size:
        _demo(config)
    if size == 'smoke':
        _smoke(config)
    return config.lock()


def _paper() -> ConfigDict:
    return ConfigDict(
        dict(
            task='likelihood',
            seed=0,
            init_from='',
            steps=200_000,
            batch_size=16,
            plan='jit',
            mesh=dict(data=-1, pixel=1),
            data=dict(
                name='cifar10',
                dir='',
                # Side of the images, or (height, width).
                size=32,
                train_split='train',
                eval_split='test',
                flip=False,
                label=False,
                threads=8,
            ),
            model=dict(
                network='pixelrnn',
                kind='diagonal',
                levels=256,
                colours=3,
                features=128,
                layers=12,
                head=1024,
                first_kernel=7,
                kernel=3,
                dtype='float32',
                remat=False,
            ),
            optimizer=dict(
                name='rmsprop', learning_rate=1e-4, beta1=0.0, beta2=0.9, eps=1e-8, decay=1.0
            ),
            ema_decay=0.999,
            log_every=50,
            sample_every=5_000,
            samples=16,
            evaluate_every=5_000,
            # Images for the sliced Wasserstein distance beside bits/dim; 0: none are drawn.
            evaluate=dict(
                images=0,
                pairs=1,
                # Names as of jaxgen.evaluate, 'fid2k_full,is2k', at steps of their own.
                metrics='',
                metrics_every=0,
                # The metric whose best checkpoint stays; '+is2k_mean' where more is better;
                # '': none.
                best='',
            ),
            checkpoint_every=1_000,
            checkpoints_to_keep=3,
            checkpoint_keep_period=50_000,
        )
    )


def _demo(config: ConfigDict) -> None:
    config.update(
        dict(
            steps=1_000,
            batch_size=8,
            data=dict(
                name='photographs/all',
                size=32,
                train_split='train',
                eval_split='test[:10%]',
                threads=1,
            ),
            model=dict(levels=32, colours=3, features=16, layers=2, head=64),
            optimizer=dict(learning_rate=1e-3),
            ema_decay=0.99,
            sample_every=1_000,
            samples=4,
            evaluate_every=500,
            checkpoint_every=500,
            checkpoint_keep_period=0,
        )
    )


def _smoke(config: ConfigDict) -> None:
    config.update(
        dict(
            steps=8,
            data=dict(eval_split='test[:1%]'),
            model=dict(levels=4, features=6, layers=1, head=6),
            log_every=2,
            sample_every=8,
            samples=2,
            evaluate_every=8,
            checkpoint_every=4,
        )
    )
