"""PixelCNN++ (arXiv 1701.05517), with the published code's optimiser.

Expected (published): 2.92 bits/dim on CIFAR-10's test set. Ours is not measured: no run of this
size has been made. The variant stands after the colon:

    --config=configs/pixelcnn_pp.py    CIFAR-10
    class_conditional                  CIFAR-10 with its ten classes
    demo                               32×32 crops of six photographs, the photograph as the class
    smoke                              seconds on a CPU; shows that everything runs

_demo and _smoke shrink any variant: cifar10_demo.

From the paper and its code: the network (160 maps, 5 blocks at each of 3 resolutions, 10 logistics,
dropout 0.5), Adam with .95/.9995 and ε inside the root, on the sum of a batch's nats, the rate
1e-3·0.999995^step, parameters averaged with .9995, the first batch deciding on scales and biases.
The batch is 8 GPUs × 16 images (from memory); the number of steps is ours.
"""

from ml_collections import ConfigDict

from jaxgen.variants import read_variant

VARIANTS = ('cifar10', 'class_conditional')


def get_config(variant: str = 'cifar10') -> ConfigDict:
    """The config of `variant`."""
    name, size = read_variant(variant, VARIANTS, shrinks='class_conditional')
    config = _paper()
    if name == 'class_conditional':
        config.update(dict(data=dict(label=True), model=dict(num_classes=10)))
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
            steps=500_000,
            batch_size=128,
            plan='jit',
            mesh=dict(data=-1, pixel=1),
            data=dict(
                name='cifar10',
                dir='',
                # Side of the images, or (height, width): multiples of 4.
                size=32,
                train_split='train',
                eval_split='test',
                flip=False,
                label=False,
                threads=8,
            ),
            model=dict(
                network='pixelcnn_pp',
                levels=256,
                colours=3,
                features=160,
                resnets=5,
                components=10,
                num_classes=0,
                nonlinearity='concat_elu',
                dropout=0.5,
                dtype='float32',
                remat=False,
            ),
            optimizer=dict(
                name='pixelcnn_pp',
                learning_rate=1e-3,
                beta1=0.95,
                beta2=0.9995,
                eps=1e-8,
                decay=0.999995,
            ),
            ema_decay=0.9995,
            log_every=50,
            sample_every=5_000,
            samples=64,
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
            data=dict(name='photographs/all', eval_split='test[:10%]', threads=1),
            model=dict(features=16, resnets=1, components=5, dropout=0.0),
            ema_decay=0.99,
            sample_every=500,
            samples=36,
            evaluate_every=500,
            checkpoint_every=500,
            checkpoint_keep_period=0,
        )
    )
    if config.model.num_classes:
        config.model.num_classes = 6


def _smoke(config: ConfigDict) -> None:
    config.update(
        dict(
            steps=8,
            data=dict(eval_split='test[:1%]'),
            model=dict(features=4, components=2, dropout=0.5),
            log_every=2,
            sample_every=4,
            samples=8,
            evaluate_every=8,
            checkpoint_every=4,
        )
    )
