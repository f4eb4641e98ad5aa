"""The word behind a config file's colon: a variant, whole or shrunk to a demo or a smoke test."""

SIZES = ('demo', 'smoke')


def read_variant(word: str, variants: tuple[str, ...], *, shrinks: str) -> tuple[str, str]:
    """(variant, size): 'NAME' has size '', 'NAME_demo' and 'NAME_smoke' are what they say.

    Args:
      variants: the names that there are.
      shrinks: the one that 'demo' and 'smoke' alone stand for.

    Raises:
      ValueError: another name.
    """
    if word in SIZES:
        return shrinks, word
    name, _, size = word.rpartition('_')
    if size not in SIZES:
        name, size = word, ''
    if name not in variants:
        raise ValueError(
            f'variant must be one of {[*variants, *SIZES]}, perhaps with _demo or _smoke behind, '
            f'got {word!r}'
        )
    return name, size
