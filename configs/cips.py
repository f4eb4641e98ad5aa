"""CIPS (arXiv 2011.13775): FFHQ at 256×256, the paper's uniform generator, on a v5e:4x4 slice.

Expected (published): FID 4.38 on FFHQ-256, 2.92 on LSUN Churches, 3.61 on Landscapes, 69.67 on
Satellite-Buildings, 48.47 on Satellite-Landscapes; 10.07 on FFHQ-1024, from the weights at 256;
ablations on FFHQ-256 (300,000 steps at batch 16) base 6.31, ne 6.71, no_fourier 10.18, residual
6.52, sine 10.0 (the last from memory). Ours are not measured: no run of this size has been made.
The variant stands after the colon:

    --config=configs/cips.py                    FFHQ-256
    churches, landscapes, satellite_buildings, satellite_landscapes: the paper's other data sets
    ffhq1024     patches of 256×256 at three scales; start it with --config.init_from=WORKDIR, the
                 run (or the converted weights) at 256, whose embedding is kept and interpolated
    panorama     a ring of 1024×256 learned from windows of ordinary wide images
    ablation_base, ablation_ne, ablation_no_fourier, ablation_residual, ablation_sine
    demo         32×32 crops of a photograph, minutes on two cores
    smoke        seconds on a CPU; shows that everything runs

_demo and _smoke shrink any variant: panorama_demo, ablation_ne_smoke.
"""

from ml_collections import ConfigDict

from jaxgen.variants import read_variant

# Prepared data set and training steps; the published runs saw about as many images.
DATA_SETS = {
    'ffhq256': 'ffhq256',
    'churches': 'lsun_churches256',
    'landscapes': 'landscapes256',
    'satellite_buildings': 'satellite_buildings256',
    'satellite_landscapes': 'satellite_landscapes256',
}


# The paper's ablations: what differs from the base, in config.model.
ABLATIONS = {
    'ablation_base': {},
    'ablation_ne': dict(embedding=False),
    'ablation_no_fourier': dict(fourier=False),
    'ablation_residual': dict(residual=True),
    'ablation_sine': dict(activation='sin'),
}
VARIANTS = (*DATA_SETS, 'ffhq1024', 'panorama', *ABLATIONS)


def get_config(variant: str = 'ffhq256') -> ConfigDict:
    """The config of `variant`."""
    name, size = read_variant(variant, VARIANTS, shrinks='ffhq256')
    config = _paper()
    if name in DATA_SETS:
        config.data.name = DATA_SETS[name]
    elif name in ABLATIONS:
        config.update(dict(batch_size=16, model=ABLATIONS[name]))
    if size:
        _demo(config)
    if size == 'smoke':
        _smoke(config)
    if name == 'ffhq1024':
        _large_images(config, small=bool(size))
    elif name == 'panorama':
        _panorama(config, small=bool(size))
    return config.lock()


def _paper() -> ConfigDict:
    return ConfigDict(
        dict(
            task='adversarial',
            seed=0,
            # Folder of a run to take the first weights from; '': none.
            init_from='',
            steps=300_000,
            batch_size=32,
            plan='jit',
            mesh=dict(data=-1, pixel=1),
            data=dict(
                name='ffhq256',
                dir='',
                # Side of the images, or (height, width); 0: model.size, the embedding's grid.
                size=0,
                # Side of the parts of images that are trained on; 0: whole images.
                patch=0,
                train_split='train',
                eval_split='train',
                flip=True,
                label=False,
                threads=8,
            ),
            model=dict(
                network='cips',
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
                cylindrical=False,
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
            evaluate=dict(
                images=512,
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


def _large_images(config: ConfigDict, *, small: bool) -> None:
    """Section 3.3: patches with their coordinates in the whole image."""
    if small:
        config.model.size = config.data.patch = 16
        config.data.size = 32
        config.discriminator.channels = config.discriminator.channels[:3]
        return
    config.update(
        dict(
            data=dict(name='ffhq1024', size=1024, patch=256),
            samples=16,
            evaluate=dict(images=64, pairs=3),
        )
    )


def _panorama(config: ConfigDict, *, small: bool) -> None:
    """Section 4.5: a cylinder four windows around."""
    side = 32 if small else 256
    with config.ignore_type():
        config.model.size = (side, 4 * side)
        config.data.size = (side, side if small else 2 * side)
    config.model.cylindrical = True
    config.data.patch = side
    config.samples = 16
    if not small:
        config.data.name = 'landscapes_wide256'


def _demo(config: ConfigDict) -> None:
    """Many cheap steps: at this size they count for more than width."""
    config.update(
        dict(
            seed=1,
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
            seed=0,
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
