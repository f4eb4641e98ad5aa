"""The smallest models that still have every part, for tests of what is done with them."""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from PIL import Image

from configs import cips, pixelcnn, stylegan2, stylegan3
from jaxgen import tasks
from jaxgen.augment import ada
from jaxgen.data.prepare import prepare
from jaxgen.losses.likelihood import LogisticMixture
from jaxgen.models import (
    CIPSGenerator,
    Discriminator,
    StyleGAN2Generator,
    StyleGAN3Generator,
)
from jaxgen.models.pixelcnn import GatedPixelCNN
from jaxgen.models.pixelcnn_autoencoder import MSEAutoencoder, PixelCNNAutoencoder
from jaxgen.models.pixelcnn_pp import GatedResnet, WeightNormConv
from jaxgen.objectives.adversarial import Adversarial
from jaxgen.objectives.likelihood import Likelihood
from jaxgen.objectives.optim import outputs_apart
from jaxgen.objectives.reconstruction import PixelCNNReconstruction, SquaredError
from jaxgen.objectives.stylegan import Augmentation, StyleGAN
from jaxgen.ops.causal_conv import centred
from jaxgen.parallel.mesh import Layout
from jaxgen.training import workdir
from jaxgen.training.checkpoint import Checkpoints

SIZE = 8


def generator(**fields):
    """CIPS with three styled layers of eight channels for 8×8 pixels."""
    small = dict(
        size=SIZE,
        features=6,
        first_width=8,
        block_widths=(8,),
        latent=5,
        style=7,
        mapping_layers=1,
        mapping_lr_multiplier=1.0,
    )
    return CIPSGenerator(**small | fields)


def discriminator(**fields):
    """One residual block from 8×8 to 4×4."""
    return Discriminator(**dict(size=SIZE, channels={4: 6, 8: 4}) | fields)


def objective(layout=None, *, model=None, score=None, **fields):
    """The whole objective, with plain SGD: an update is then proportional to its gradient."""
    defaults = dict(
        generator=model or generator(),
        discriminator=score or discriminator(),
        generator_optimizer=optax.sgd(0.05),
        discriminator_optimizer=optax.sgd(0.05),
        r1_every=2,
        ema_decay=0.9,
        layout=layout or Layout(),
    )
    return Adversarial(**defaults | fields)


# Of the generators of both StyleGANs.
NARROW = dict(latent=4, style=4, mapping_layers=1, mapping_lr_multiplier=1.0, channel_max=4)


def stylegan(layout=None, **fields):
    """StyleGAN's objective with all that can be on, and two layers of StyleGAN3, for 16×16 pixels.

    StyleGAN3, since the batch has a part in its magnitudes. A probability of 1 is one image away
    for each step of ADA.
    """
    sgd = outputs_apart(optax.sgd(0.05))
    defaults = dict(
        generator=StyleGAN3Generator(
            **NARROW,
            size=16,
            channel_base=64,
            num_layers=2,
            num_critical=1,
            margin=2,
            filter_size=2,
            remat=False,
        ),
        discriminator=discriminator(
            size=16, channels={4: 4, 8: 4, 16: 4}, architecture='orig', minibatch_std_group=2
        ),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        batch_size=16,
        r1_every=2,
        path_length_every=2,
        ema_half_life=40,
        augmentation=Augmentation(ada.Pipeline(contrast=1.0), p=0.5, every=2, images_to_one=100),
        blur_sigma=1.0,
        blur_fade=100,
        layout=layout or Layout(),
    )
    return StyleGAN(**defaults | fields)


def noisy_stylegan(layout=None, **fields):
    """The same for StyleGAN2 with noise and three classes, for 8×8 pixels, without augmentation,
    blur and R1."""
    defaults = dict(
        generator=StyleGAN2Generator(**NARROW, size=8, channel_base=32, num_classes=3),
        discriminator=discriminator(architecture='orig', minibatch_std_group=2, num_classes=3),
        r1_every=0,
        augmentation=None,
        blur_sigma=0.0,
    )
    return stylegan(layout, **defaults | fields)


class SelfScaled(nn.Module):
    """What PixelCNN++ asks of an objective, in one block: it scales itself to its first batch and
    drops out. A pixel sees what it should not; compiling takes a tenth."""

    levels: int = 16
    colours: int = 3
    dropout: float = 0.5

    @property
    def likelihood(self):
        return LogisticMixture(self.levels, components=2)

    @nn.compact
    def __call__(self, pixels, *, dropout_keys=None):
        x = WeightNormConv(4, (2, 3), name='stem')(centred(pixels, self.levels))
        block = GatedResnet(4, (2, 2), 0, False, False, dropout=self.dropout, name='block')
        x = block(x, dropout_keys=dropout_keys)
        return WeightNormConv(self.likelihood.outputs(self.colours), name='out')(nn.elu(x))


def likelihood(model, **fields):
    """The objective of a model of `tests.autoregressive`, with plain SGD."""
    defaults = dict(optimizer=optax.sgd(0.5), frame=(SIZE, SIZE), ema_decay=0.9)
    return Likelihood(model, **defaults | fields)


def autoencoder(squared_error=False):
    """The objective of an auto-encoder with a PixelCNN decoder, or with its rival; plain SGD."""
    if squared_error:
        kind, model = SquaredError, MSEAutoencoder(code=3, widths=(4,), levels=5)
    else:
        decoder = GatedPixelCNN(
            levels=5, features=4, blocks=1, kernel_size=3, head=4, embedding=3, link='post'
        )
        kind, model = PixelCNNReconstruction, PixelCNNAutoencoder(decoder, widths=(4,))
    return kind(model, optax.sgd(0.5), frame=(SIZE, SIZE), ema_decay=0.9)


def batch(count=8, size=SIZE, step=0, classes=0):
    """Batch `step`: images in [-1, 1], slots, and labels where there are classes."""
    rng = np.random.default_rng(step)
    rows = {
        'image': rng.uniform(-1, 1, (count, size, size, 3)).astype(np.float32),
        'slot': np.arange(count, dtype=np.int32),
    }
    if classes:
        rows['label'] = rng.integers(0, classes, count).astype(np.int32)
    return rows


def variables(model, *arguments, seed=0, **options):
    """Variables of a module that are nowhere zero, noise and averages included; compiles nothing.

    A generator needs no arguments; for others they are those of its `init`.
    """
    if isinstance(model, CIPSGenerator):
        label = jnp.zeros((1,), jnp.int32) if model.num_classes else None
        arguments = (jnp.zeros((1, model.latent)), label)
        options = dict(
            coords=jnp.zeros((1, 1, 1, 2)),
            noise=jax.random.split(jax.random.key(0), 1),
            method='generate',
        )
    shapes = jax.eval_shape(lambda key: model.init(key, *arguments, **options), jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def prepare_data(folder):
    """Prepares the sets 'tiny' and 'tiny8' (with labels) and 'plain' in `folder`; returns it."""
    rng = np.random.default_rng(0)
    for i in range(48):
        path = folder / 'source' / 'abc'[i % 3] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    common = dict(source=str(folder / 'source'), size=(4, 4), data_dir=str(folder))
    larger = common | dict(size=(8, 8))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        prepare(name='tiny', labels=True, test_fraction=0.25, **common)
        prepare(name='plain', test_fraction=0.25, **common)
        prepare(name='tiny8', labels=True, test_fraction=0.25, **larger)
    return folder


# The smallest runs of the real command: `data__name` is the field data.name.
RUNS = {
    'cips': dict(
        data__name='tiny',
        model__size=4,
        model__features=4,
        model__first_width=4,
        model__block_widths=(4,),
        model__latent=4,
        model__style=4,
        model__mapping_layers=1,
        discriminator__channels=(4,),
        loss__r1_every=2,
        sample_every=0,
        samples=4,
        evaluate_every=0,
    ),
    'pixelcnn': dict(
        data__name='tiny',
        data__size=4,
        data__eval_split='test',
        model__num_classes=3,
        model__colours=3,
        model__features=4,
        model__blocks=1,
        model__kernel_size=3,
        sample_every=0,
        samples=4,
        evaluate_every=0,
    ),
}
# Conditional, with path lengths, half precision, and an augmentation that adapts and compiles
# quickly.
RUNS['stylegan2'] = dict(
    data__name='tiny8',
    data__label=True,
    model__num_classes=3,
    model__size=8,
    model__latent=4,
    model__style=4,
    model__mapping_layers=1,
    model__channel_base=32,
    model__channel_max=4,
    model__dtype='bfloat16',
    model__low_precision_blocks=1,
    discriminator__architecture='orig',
    discriminator__channel_base=32,
    discriminator__channel_max=4,
    discriminator__label_layers=0,
    discriminator__dtype='bfloat16',
    discriminator__low_precision_blocks=1,
    loss__r1_every=0,
    loss__path_length_every=2,
    augment__pipeline='cutout',
    sample_every=0,
    samples=4,
    evaluate_every=0,
)
# Never trained on the tiny images: 16×16 is its smallest.
RUNS['stylegan3'] = dict(
    model__size=16,
    model__latent=4,
    model__style=4,
    model__num_layers=2,
    model__num_critical=1,
    model__margin=2,
    model__channel_base=64,
    discriminator__channel_base=64,
    sample_every=0,
    samples=4,
    evaluate_every=0,
)
# An auto-encoder of the digits.
RUNS['autoencoder'] = RUNS['autoencoder_mse'] = dict(sample_every=0, evaluate_every=0)
CONFIGS = {
    'cips': cips.get_config,
    'pixelcnn': pixelcnn.get_config,
    'stylegan2': stylegan2.get_config,
    'stylegan3': stylegan3.get_config,
    'autoencoder': lambda size: pixelcnn.get_config(f'autoencoder_{size}'),
    'autoencoder_mse': lambda size: pixelcnn.get_config(f'autoencoder_mse_{size}'),
}


def config(kind='cips', **fields):
    """The config of the smallest run; `fields` override its own."""
    config = CONFIGS[kind]('smoke')
    config.update_from_flattened_dict(
        {name.replace('__', '.'): value for name, value in (RUNS[kind] | fields).items()}
    )
    return config


def flags(data_folder, kind='cips', **fields):
    """The command line of `jaxgen.train` for the smallest run; `fields` override its own."""
    overrides = RUNS[kind] | dict(data__dir=data_folder) | fields
    file, variant = ('pixelcnn', f'{kind}_smoke') if 'autoencoder' in kind else (kind, 'smoke')
    return [
        f'--config=configs/{file}.py:{variant}',
        *(f'--config.{name.replace("__", ".")}={value}' for name, value in overrides.items()),
    ]


def make_run(folder, kind='cips', **fields):
    """A run's folder as if it had been trained to step 5: every number of the state is random."""
    settings = config(kind, **fields)
    folder = workdir.create(str(folder))
    workdir.adopt_config(folder, settings)
    objective = tasks.make_objective(settings)
    rng = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(x.dtype),
        jax.eval_shape(objective.init_state, jax.random.key(0)),
    )
    checkpoints = Checkpoints(folder / 'checkpoints')
    checkpoints.save(5, jax.device_put(state), {})
    checkpoints.close()
    return folder
