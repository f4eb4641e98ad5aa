"""StyleGAN3 (arXiv 2106.12423): configuration T on FFHQ at 256×256, on a v5e:4x4 slice.

Expected (published): FID / EQ-T / EQ-R of the ladder on FFHQ-U at 256², from memory but for C, D,
G, T and R: A 5.14, B 4.79/16.23/10.81, C 4.54/15.81/10.84, D 5.21/19.47/10.41, E 6.02/24.62/10.97,
F 6.35/30.60/10.81, G 4.78/43.90/10.84, H 4.64/45.20/10.61, T 4.62/63.01/13.12, R 4.50/66.65/40.48.
FID on FFHQ-1024: T 2.79, R 3.07. Training took, for 1,000 images on 8 A100: T 12.29 s at 512²,
20.01 s at 1024²; R 14.04 and 23.42 s. Ours are not measured: no run of this size has been made.
The variant stands after the colon:

    --config=configs/stylegan3.py      t256: configuration T on FFHQ-256
    r256, t512, r512, t1024, r1024     the same, and R, at other sizes
    config_a … config_h, config_t, config_r
                                       the paper's ladder at 256²: A is StyleGAN2, B has a Fourier
                                       input, C no noise, D a simpler generator (no mixing, path
                                       lengths and skips, a shorter mapping, inputs of unit
                                       magnitude), E margins and better upsampling, F filtered
                                       nonlinearities, G no critical sampling, H a transformed
                                       input, T flexible layers, R rotations too
    demo                               32×32 crops of a photograph, minutes on two cores
    smoke                              seconds on a CPU; shows that everything runs

_demo and _smoke shrink any variant: r256_demo, config_e_smoke. ADA in any of them:
--config.augment.pipeline=bgc. From other weights: --config.init_from=WORKDIR, which leaves out the
blur of R and the ramp of the average.
"""

from ml_collections import ConfigDict

from jaxgen.variants import read_variant

# Images, batch, channel base (of T; R has twice the channels), rates of G and D, γ of R1.
COLUMNS = ('name', 'size', 'batch', 'base', 'rate', 'd_rate', 'gamma')
PRESETS = {
    '256': ('ffhq256', 256, 32, 32768, 2.5e-3, 2e-3, 2.0),
    '512': ('ffhq512', 512, 32, 32768, 2.5e-3, 2e-3, 8.0),
    '1024': ('ffhq1024', 1024, 32, 32768, 2.5e-3, 2e-3, 32.0),
}
PAPER = ('ffhq256', 256, 64, 16384, 2.5e-3, 2.5e-3, 1.0)
R = {'kernel_size': 1, 'radial': True}
# The paper's ladder: what each rung changes of the one below it, from T down. Below E stand
# networks of StyleGAN2.
LADDER = {
    'config_t': {},
    'config_h': {'model.flexible': False},
    'config_g': {'model.learned_transform': False},
    'config_f': {'model.num_critical': 14},
    'config_e': {'model.lrelu_upsampling': 1},
    'config_d': {},
    'config_c': {
        'model.architecture': 'skip',
        'model.mapping_layers': 8,
        'model.normalize_inputs': False,
        'loss.path_length_every': 4,
        'loss.style_mixing': 0.9,
    },
    'config_b': {'model.noise': 'random'},
    'config_a': {'model.fourier_input': False},
}
STYLEGAN2_ROWS = ('config_a', 'config_b', 'config_c', 'config_d')
OF_STYLEGAN3 = (
    'num_layers',
    'num_critical',
    'flexible',
    'learned_transform',
    'margin',
    'kernel_size',
    'radial',
    'filter_size',
    'lrelu_upsampling',
)
VARIANTS = (*(k + size for size in PRESETS for k in 'tr'), *sorted(LADDER), 'config_r')


def get_config(variant: str = 't256') -> ConfigDict:
    """The config of `variant`."""
    name, size = read_variant(variant, VARIANTS, shrinks='t256')
    config = _published(dict(zip(COLUMNS, PRESETS.get(name[1:], PAPER), strict=True)))
    if size:
        _demo(config)
    if size == 'smoke':
        _smoke(config)
    if name in LADDER:
        rungs = list(LADDER)
        if name in STYLEGAN2_ROWS:
            rungs = rungs[rungs.index('config_d') :]
            _stylegan2(config)
        for rung in rungs[: rungs.index(name) + 1]:
            config.update_from_flattened_dict(LADDER[rung])
    elif name.startswith('r') or name == 'config_r':
        config.model.update(R)
        config.model.channel_base *= 2
        config.model.channel_max *= 2
        config.loss.blur_sigma = 10.0
    return config.lock()


def _published(preset: dict) -> ConfigDict:
    large = preset['size'] > 512
    return ConfigDict(
        dict(
            task='adversarial',
            seed=0,
            # Folder of a run, or of converted weights, to take the first weights from; '': none.
            init_from='',
            steps=25_000_000 // preset['batch'],
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
                network='stylegan3',
                size=preset['size'],
                latent=512,
                style=512,
                mapping_layers=2,
                num_classes=0,
                channel_base=preset['base'],
                channel_max=512,
                # Of T; H and below have two for every octave.
                num_layers=14,
                num_critical=2,
                flexible=True,
                learned_transform=True,
                margin=10,
                kernel_size=3,
                radial=False,
                filter_size=6,
                lrelu_upsampling=2,
                clamp=256.0,
                dtype='bfloat16',
                low_precision_blocks=4,
                remat=True,
            ),
            discriminator=dict(
                architecture='resnet',
                channel_base=preset['base'],
                channel_max=512,
                clamp=256.0,
                minibatch_std_group=4,
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
                # StyleGAN2's, which StyleGAN3 does without.
                path_length_weight=2.0,
                path_length_every=0,
                path_length_shrink=2,
                style_mixing=0.0,
                # Of the blur before the discriminator at first, in pixels (R).
                blur_sigma=0.0,
            ),
            # The pipeline ('' for none, 'blit', 'bg', 'bgc', …), its probability, and what the
            # probability aims at, the mean of sign(D(real)); 0: it stays as it is.
            augment=dict(pipeline='', p=0.0, target=0.6, every=4),
            optimizer=dict(
                learning_rate=preset['rate'],
                # Of the discriminator; 0: the same.
                discriminator_rate=preset['d_rate'],
                beta1=0.0,
                beta2=0.99,
                eps=1e-8,
            ),
            # Half-life in thousands of images (0: 10 for a batch of 32), and the largest share of
            # the images seen so far that it may be (0: any).
            ema=dict(kimg=0.0, ramp=0.05),
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


def _stylegan2(config: ConfigDict) -> None:
    """The network of configuration D."""
    for field in OF_STYLEGAN3:
        del config.model[field]
    config.model.update(
        dict(
            network='stylegan2',
            architecture='orig',
            normalization='demodulation',
            noise='none',
            fourier_input=True,
            normalize_inputs=True,
            remat=False,
        )
    )


def _demo(config: ConfigDict) -> None:
    """Many cheap steps: at this size they count for more than width."""
    config.update(
        dict(
            steps=3_000,
            batch_size=8,
            data=dict(name='photographs/hubble_deep_field', eval_split='test', threads=1),
            model=dict(
                size=32,
                latent=64,
                style=64,
                channel_base=512,
                channel_max=32,
                num_layers=6,
                margin=4,
                dtype='float32',
                remat=False,
            ),
            discriminator=dict(channel_base=512, channel_max=64, dtype='float32'),
            # γ goes with the number of pixels.
            loss=dict(r1_weight=0.5),
            optimizer=dict(learning_rate=2e-3, discriminator_rate=2e-3),
            # A long average would smooth the grain of the photograph away.
            ema=dict(kimg=0.8),
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
            model=dict(latent=8, style=8, channel_base=128, channel_max=4, num_layers=4),
            discriminator=dict(channel_base=128, channel_max=8),
            log_every=2,
            sample_every=4,
            samples=16,
            loss=dict(r1_every=4),
            evaluate_every=8,
            evaluate=dict(images=32, pairs=1),
            checkpoint_every=4,
        )
    )
