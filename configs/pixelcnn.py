"""PixelCNN (arXiv 1601.06759) and Gated PixelCNN (arXiv 1606.05328), trained on their likelihood.

Expected (published, bits/dim on the test set, the training set in brackets):

                     CIFAR-10       ImageNet 32²     ImageNet 64²
    masked           3.14 (3.08)
    gated            3.03 (2.90)    3.83 (3.77)      3.57 (3.48)

(the training numbers of masked and of ImageNet from memory); MNIST, binary, masked: 81.30 nats an
image, which is bits/dim × 784 × ln 2. Ours are not measured: no run of this size has been made. The
demo ends at 1.72 bits/dim of held-out digits. The variant stands after the colon:

    --config=configs/pixelcnn.py                Gated PixelCNN on CIFAR-10
    imagenet32, imagenet64    the small ImageNet of the paper, tfds's downsampled_imagenet. There is
                              another set of the name (class_conditional's): never compare the two
    mnist                     gated, two levels: a pixel is set where its byte is 128 or more. The
                              published nats are for another, random binarisation that is fixed
    class_conditional         ImageNet 32² with its 1000 classes
    masked                    the PixelCNN with a blind spot, on CIFAR-10
    autoencoder               ImageNet 32², a code of 100 numbers, a conditional PixelCNN decoder
    autoencoder_mse           the same encoder with a deconvolutional decoder and squared error
    demo                      scikit-learn's handwritten digits (8×8, 17 levels), by class
    smoke                     seconds on a CPU; shows that everything runs

_demo and _smoke shrink any variant. What is grey or an auto-encoder shrinks to the digits
(mnist_demo, autoencoder_demo), anything else to 32×32 crops of six photographs with 32 levels
(class_conditional_demo: the photograph is the class).

From the papers: the ImageNet networks (20 layers, 384 maps, 5×5; 200,000 steps of 128), the masked
network (15 blocks, h = 128, batch 16), the codes of 10 or 100 numbers. They give no optimiser for
the gated network, and RMSProp without its rates for the masked one; the rates, the gated network on
CIFAR-10 and MNIST, the encoder's widths and the averaging of parameters are ours.
"""

from ml_collections import ConfigDict

from jaxgen.variants import read_variant

AUTOENCODERS = ('autoencoder', 'autoencoder_mse')
VARIANTS = (
    'cifar10',
    'imagenet32',
    'imagenet64',
    'mnist',
    'class_conditional',
    'masked',
    *AUTOENCODERS,
)


def get_config(variant: str = 'cifar10') -> ConfigDict:
    """The config of `variant`."""
    name, size = read_variant(variant, VARIANTS, shrinks='class_conditional')
    config = _gated()
    if name.startswith('imagenet'):
        side = int(name.removeprefix('imagenet'))
        data = dict(name=f'downsampled_imagenet/{side}x{side}', size=side, eval_split='validation')
        config.update(dict(data=data, model=dict(remat=side == 64)))
    elif name == 'class_conditional':
        data = dict(name='imagenet_resized/32x32', eval_split='validation', label=True)
        config.update(dict(data=data, model=dict(num_classes=1000)))
    elif name == 'mnist':
        model = dict(levels=2, colours=1, features=64, blocks=12, head=32)
        config.update(dict(data=dict(name='mnist', size=28), model=model, steps=100_000))
    elif name == 'masked':
        _masked(config)
    elif name in AUTOENCODERS:
        _autoencoder(config, squared_error=name == 'autoencoder_mse')
    if size:
        _demo(config)
    if size and (variant == size or name in ('mnist', *AUTOENCODERS)):
        _digits(config)
    if size == 'smoke':
        _smoke(config)
    return config.lock()


def _gated() -> ConfigDict:
    return ConfigDict(
        dict(
            task='likelihood',
            seed=0,
            init_from='',
            steps=200_000,
            batch_size=128,
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
                network='gated_pixelcnn',
                levels=256,
                colours=3,
                features=384,
                blocks=20,
                kernel_size=5,
                head=1024,
                num_classes=0,
                shift='input',
                link='pre',
                dtype='bfloat16',
                remat=False,
            ),
            optimizer=dict(
                name='adam', learning_rate=3e-4, beta1=0.9, beta2=0.999, eps=1e-8, decay=1.0
            ),
            ema_decay=0.999,
            log_every=50,
            sample_every=2_000,
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


def _masked(config: ConfigDict) -> None:
    config.batch_size = 16
    config.optimizer = ConfigDict(
        dict(name='rmsprop', learning_rate=1e-4, beta1=0.0, beta2=0.9, eps=1e-8, decay=1.0)
    )
    config.model = ConfigDict(
        dict(
            network='pixelcnn',
            levels=256,
            colours=3,
            features=128,
            blocks=15,
            head=1024,
            first_kernel=7,
            kernel=3,
            dtype='bfloat16',
            remat=False,
        )
    )


def _autoencoder(config: ConfigDict, *, squared_error: bool) -> None:
    config.data.update(name='downsampled_imagenet/32x32', eval_split='validation')
    widths = (64, 128, 256)
    if squared_error:
        network = dict(network='mse_autoencoder', levels=256, colours=3)
    else:
        network = config.model.to_dict() | dict(network='pixelcnn_autoencoder')
        # The code is the one thing that images are conditioned on.
        del network['num_classes']
    config.model = ConfigDict(network | dict(code=100, widths=widths))


def _only_known(config: ConfigDict, **fields: object) -> None:
    """Sets the fields of the model that its network has."""
    config.model.update({name: value for name, value in fields.items() if name in config.model})


def _demo(config: ConfigDict) -> None:
    """Few levels: what is above the noise of a photograph is learned first."""
    config.update(
        dict(
            steps=2_000,
            batch_size=8,
            data=dict(
                name='photographs/all',
                size=32,
                train_split='train',
                eval_split='test[:10%]',
                threads=1,
            ),
            optimizer=dict(learning_rate=1e-3),
            ema_decay=0.99,
            log_every=50,
            sample_every=500,
            samples=36,
            evaluate_every=500,
            checkpoint_every=500,
            checkpoint_keep_period=0,
        )
    )
    _only_known(
        config, levels=32, colours=3, features=32, blocks=5, head=64, dtype='float32', remat=False
    )
    if config.model.get('num_classes'):
        config.model.num_classes = 6


def _digits(config: ConfigDict) -> None:
    """1,437 images of 64 sub-pixels: a small network, that sees each of them many times."""
    config.update(
        dict(
            # Until held-out bits/dim stop falling: 1.72; at step 3,000 they were 1.91.
            steps=1_200,
            batch_size=32,
            data=dict(name='digits', size=8, eval_split='test'),
            ema_decay=0.995,
            samples=100,
            evaluate_every=200,
        )
    )
    _only_known(config, levels=17, colours=1, kernel_size=3, code=10, widths=(16, 32))
    if config.model.get('num_classes'):
        config.model.num_classes = 10


def _smoke(config: ConfigDict) -> None:
    config.update(
        dict(
            steps=8,
            batch_size=8,
            data=dict(eval_split='test[:1%]'),
            log_every=2,
            sample_every=4,
            samples=8,
            evaluate_every=8,
            checkpoint_every=4,
        )
    )
    _only_known(config, levels=4, features=6, blocks=2, head=6, code=4, widths=(4, 6))
