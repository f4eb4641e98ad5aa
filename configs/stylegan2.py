"""StyleGAN2 (arXiv 1912.04958) with ADA (2006.06676): FFHQ at 256×256, on a v5e:4x4 slice.

Expected (published): FID 2.70 on FFHQ-1024; from memory, FID / PPL of the paper's configurations
on FFHQ-1024: A 4.40/212, B 4.39/175, C 4.38/158, D 4.34/122.5, E 3.31/124.5, F 2.84/145. Training
at 1024² took 14.57 s for 1,000 images on 8 A100. Ours are not measured: no run of this size has
been made. The variant stands after the colon:

    --config=configs/stylegan2.py      FFHQ-256: 'paper256' of the published code
    ffhq512, ffhq1024                  'paper512' and 'paper1024'
    cifar10                            'cifar', with ADA
    auto                               rules of thumb for batch, rate, γ and average, with ADA; set
                                       --config.model.size and --config.data.name to your images
    paper_config_a … paper_config_f    the paper's ladder on FFHQ-1024: A normalises activations
                                       (AdaIN), B demodulates weights, C regularises lazily, D
                                       regularises path lengths, E has the new G and D, F is larger.
                                       No network grows; A and B regularise in a step of their own
    demo                               32×32 crops of a photograph, minutes on two cores
    smoke                              seconds on a CPU; shows that everything runs

_demo and _smoke shrink any variant: paper_config_a_demo, cifar10_smoke. ADA in any of them:
--config.augment.pipeline=bgc. From other weights: --config.init_from=WORKDIR.
"""

from ml_collections import ConfigDict

from jaxgen.variants import read_variant

# Presets of the published code: images, batch, minibatch-stddev group, channel base, rate, γ of R1
# (0: by rule), half-life of the average in thousands of images (0: by rule), its ramp (0: none),
# mapping layers, millions of images.
COLUMNS = ('name', 'size', 'batch', 'group', 'base', 'rate', 'gamma', 'kimg', 'ramp', 'map', 'mimg')
PRESETS = {
    'ffhq256': ('ffhq256', 256, 64, 8, 16384, 2.5e-3, 1.0, 20.0, 0.0, 8, 25),
    'ffhq512': ('ffhq512', 512, 64, 8, 32768, 2.5e-3, 0.5, 20.0, 0.0, 8, 25),
    'ffhq1024': ('ffhq1024', 1024, 32, 4, 32768, 2e-3, 2.0, 10.0, 0.0, 8, 25),
    'cifar10': ('cifar10', 32, 64, 32, 32768, 2.5e-3, 0.01, 500.0, 0.05, 2, 100),
    'auto': ('ffhq256', 256, 64, 4, 16384, 2.5e-3, 0.0, 0.0, 0.05, 2, 25),
}
PAPER = ('ffhq1024', 1024, 32, 4, 32768, 2e-3, 10.0, 10.0, 0.0, 8, 25)
# The paper's ladder: what each rung changes of the one below it, from the top down.
LADDER = {
    'paper_config_f': {},
    'paper_config_e': {'model.channel_base': 16384, 'discriminator.channel_base': 16384},
    'paper_config_d': {'model.architecture': 'orig', 'discriminator.architecture': 'orig'},
    'paper_config_c': {'loss.path_length_every': 0},
    'paper_config_b': {'loss.r1_every': 1},
    'paper_config_a': {'model.normalization': 'instance'},
}
VARIANTS = (*PRESETS, *LADDER)


def get_config(variant: str = 'ffhq256') -> ConfigDict:
    """The config of `variant`."""
    name, size = read_variant(variant, VARIANTS, shrinks='ffhq256')
    config = _published(dict(zip(COLUMNS, PRESETS.get(name, PAPER), strict=True)))
    if name == 'cifar10':
        config.update(
            dict(
                data=dict(eval_split='test', flip=False),
                discriminator=dict(architecture='orig'),
                loss=dict(path_length_every=0, style_mixing=0.0),
            )
        )
    if name in ('cifar10', 'auto'):
        config.augment.pipeline = 'bgc'
    path_length_every = config.loss.path_length_every
    if size:
        _demo(config)
    if size == 'smoke':
        _smoke(config)
        config.loss.path_length_every = path_length_every
    if name in LADDER:
        rungs = list(LADDER)
        for rung in rungs[: rungs.index(name) + 1]:
            config.update_from_flattened_dict(
                {
                    field: value
                    for field, value in LADDER[rung].items()
                    if not (size and field.endswith('channel_base'))
                }
            )
    return config.lock()


def _published(preset: dict) -> ConfigDict:
    large = preset['size'] > 512
    return ConfigDict(
        dict(
            task='adversarial',
            seed=0,
            # Folder of a run, or of converted weights, to take the first weights from; '': none.
            init_from='',
            steps=preset['mimg'] * 1_000_000 // preset['batch'],
            batch_size=preset['batch'],
            plan='jit',
            mesh=dict(data=-1, pixel=1),
            data=dict(
                name=preset['name'],
                dir='',
                train_split='train',
                eval_split='train',
                flip=True,
                label=False,
                threads=8,
            ),
            model=dict(
                network='stylegan2',
                size=preset['size'],
                latent=512,
                style=512,
                mapping_layers=preset['map'],
                num_classes=0,
                channel_base=preset['base'],
                channel_max=512,
                architecture='skip',
                normalization='demodulation',
                noise='random',
                clamp=256.0,
                dtype='bfloat16',
                low_precision_blocks=4,
                remat=False,
            ),
            discriminator=dict(
                architecture='resnet',
                channel_base=preset['base'],
                channel_max=512,
                clamp=256.0,
                minibatch_std_group=preset['group'],
                minibatch_std_grouping='contiguous',
                # Behind the label's embedding, where there are classes.
                label_layers=8,
                # So many of its first layers stay as they are (freeze-D).
                freeze_layers=0,
                dtype='bfloat16',
                low_precision_blocks=4,
                remat=False,
            ),
            loss=dict(
                # γ; 0: 0.0002 · size² / batch_size.
                r1_weight=preset['gamma'],
                r1_every=16,
                path_length_weight=2.0,
                path_length_every=4,
                path_length_shrink=2,
                style_mixing=0.9,
                # Of the blur before the discriminator, in pixels (StyleGAN3-R).
                blur_sigma=0.0,
            ),
            # The pipeline ('' for none, 'blit', 'bg', 'bgc', …), its probability, and what the
            # probability aims at, the mean of sign(D(real)); 0: it stays as it is.
            augment=dict(pipeline='', p=0.0, target=0.6, every=4),
            optimizer=dict(
                learning_rate=preset['rate'],
                # Of the discriminator; 0: the same.
                discriminator_rate=0.0,
                beta1=0.0,
                beta2=0.99,
                eps=1e-8,
            ),
            # Half-life in thousands of images (0: 10 for a batch of 32), and the largest share of
            # the images seen so far that it may be (0: any).
            ema=dict(kimg=preset['kimg'], ramp=preset['ramp']),
            log_every=50,
            sample_every=1_000,
            samples=16 if large else 64,
            evaluate_every=5_000,
            evaluate=dict(
                images=64 if large else 512,
                pairs=3,
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
    """Many cheap steps: at this size they count for more than width."""
    config.update(
        dict(
            steps=6_000,
            batch_size=8,
            data=dict(
                name='photographs/hubble_deep_field', eval_split='test', flip=True, threads=1
            ),
            model=dict(
                size=32,
                latent=64,
                style=64,
                mapping_layers=4,
                channel_base=512,
                channel_max=48,
                dtype='float32',
            ),
            discriminator=dict(
                channel_base=512, channel_max=64, minibatch_std_group=4, dtype='float32'
            ),
            # γ goes with the number of pixels. Path lengths do not show at this size.
            loss=dict(r1_weight=0.5, path_length_every=0),
            optimizer=dict(learning_rate=2e-3),
            # A long average would smooth the grain of the photograph away.
            ema=dict(kimg=0.8, ramp=0.05),
            log_every=50,
            sample_every=500,
            samples=64,
            evaluate_every=1_000,
            evaluate=dict(images=256, pairs=7),
            checkpoint_every=1_000,
            checkpoint_keep_period=0,
        )
    )


def _smoke(config: ConfigDict) -> None:
    config.update(
        dict(
            steps=8,
            model=dict(latent=8, style=8, mapping_layers=2, channel_base=128, channel_max=8),
            discriminator=dict(channel_base=128, channel_max=8),
            log_every=2,
            sample_every=4,
            samples=16,
            evaluate_every=8,
            loss=dict(r1_every=min(config.loss.r1_every, 4)),
            evaluate=dict(images=32, pairs=1),
            checkpoint_every=4,
        )
    )
