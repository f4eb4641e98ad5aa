"""CIPS (arXiv 2011.13775): FFHQ at 256×256, the paper's uniform generator, on a v5e:4x4 slice.

Expected (published): FID 4.38 on FFHQ-256, 2.92 on LSUN Churches, 3.61 on Landscapes, 69.67 on
Satellite-Buildings, 48.47 on Satellite-Landscapes. Ours are not measured: no run of this size has
been made yet. The variant after the colon chooses the data set:

    --config=configs/cips.py                    FFHQ-256
    --config=configs/cips.py:demo               32×32 crops of a photograph, minutes on two cores
    --config=configs/cips.py:smoke              seconds on a CPU; shows that everything runs
    churches, landscapes, satellite_buildings, satellite_landscapes
"""

from ml_collections import ConfigDict

# Prepared data set and training steps; the published runs saw about as many images.
DATA_SETS = {
    'ffhq256': 'ffhq256',
    'churches': 'lsun_churches256',
    'landscapes': 'landscapes256',
    'satellite_buildings': 'satellite_buildings256',
    'satellite_landscapes': 'satellite_landscapes256',
}


def get_config(variant: str = 'ffhq256') -> ConfigDict:
    """The config of `variant`."""
    config = _paper()
    if variant in DATA_SETS:
        config.data.name = DATA_SETS[variant]
    elif variant == 'demo':
        _demo(config)
    elif variant == 'smoke':
        _demo(config)
        _smoke(config)
    else:
        raise ValueError(f'variant must be one of {[*DATA_SETS, "demo", "smoke"]}, got {variant!r}')
    return config.lock()


def _paper() -> ConfigDict:
    return ConfigDict(
        dict(
            task='adversarial',
            seed=0,
            steps=300_000,
            batch_size=32,
            plan='jit',
            mesh=dict(data=-1, pixel=1),
            data=dict(
                name='ffhq256',
                dir='',
                train_split='train',
                eval_split='train',
                flip=True,
                label=False,
                threads=8,
            ),
            model=dict(
                size=256,
                features=512,
                first_width=512,
                block_widths=(512,) * 7,
                latent=512,
                style=512,
                mapping_layers=8,
                num_classes=0,
                activation='lrelu',
                fourier=True,
                embedding=True,
                lookup='exact',
                residual=False,
                cumulative_rgb=True,
                noise='none',
                dtype='bfloat16',
                remat=False,
            ),
            discriminator=dict(
                channels=(512, 512, 512, 512, 512, 256, 128),
                coordinates=False,
                first_layers=0,
                minibatch_std_group=4,
                minibatch_std_grouping='contiguous',
                dtype='float32',
                remat=False,
            ),
            loss=dict(r1_weight=10.0, r1_every=16),
            optimizer=dict(
                learning_rate=2e-3, beta1=0.0, beta2=0.99, eps=1e-8, generator_interval=4
            ),
            ema_decay=0.5 ** (32 / 10_000),
            log_every=50,
            sample_every=1_000,
            samples=64,
            evaluate_every=5_000,
            evaluate=dict(images=512, pairs=3),
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
            data=dict(name='photographs/hubble_deep_field', eval_split='test', threads=1),
            model=dict(
                size=32,
                features=48,
                first_width=48,
                block_widths=(48, 48, 48),
                latent=64,
                style=64,
                mapping_layers=4,
                dtype='float32',
            ),
            discriminator=dict(channels=(64, 64, 32, 16)),
            # γ goes with the number of pixels, and 10 belongs to 256².
            loss=dict(r1_weight=0.5),
            # A long average would smooth the grain of the photograph away.
            ema_decay=0.5 ** (8 / 800),
            log_every=50,
            sample_every=500,
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
            model=dict(features=8, first_width=8, block_widths=(8, 8), latent=8, style=8),
            discriminator=dict(channels=(8, 8, 8, 8)),
            loss=dict(r1_every=4),
            log_every=2,
            sample_every=4,
            samples=16,
            evaluate_every=8,
            evaluate=dict(images=32, pairs=1),
            checkpoint_every=4,
        )
    )
