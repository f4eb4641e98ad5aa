"""What the discriminator's minibatch statistics ask of a batch."""

from ml_collections import ConfigDict

from jaxgen.errors import UserError


def check_groups(config: ConfigDict, devices: int) -> None:
    """Minibatch-stddev groups must come out even, under pmap on each device."""
    discriminator = config.discriminator
    group, grouping = discriminator.minibatch_std_group, discriminator.minibatch_std_grouping
    rows = config.batch_size // devices
    if config.plan == 'pmap' and group and devices > 1 and rows % group:
        raise UserError(
            f"plan='pmap' forms minibatch-stddev groups on one device: batch_size must be a "
            f'multiple of {devices} devices × {group}, got {config.batch_size}'
        )
    if config.plan == 'pmap' and group and devices > 1 and grouping == 'strided':
        raise UserError(
            "plan='pmap' forms minibatch-stddev groups on one device: minibatch_std_grouping must "
            "be 'contiguous', got 'strided'"
        )
    if group and config.batch_size > group and config.batch_size % group:
        raise UserError(
            f'batch_size must be at most discriminator.minibatch_std_group={group} or a multiple '
            f'of it, got {config.batch_size}'
        )
