"""Arithmetic coding: what goes in comes out, in two bits more than it must take."""

import numpy as np
import pytest

from jaxgen.apps.arithmetic_coder import TOTAL, Decoder, Encoder, table, uniform


def message(seed, sharpness, likely):
    """Up to 200 levels with the log p of each table; drawn from it, or from nowhere."""
    rng = np.random.default_rng(seed)
    count, levels = int(rng.integers(1, 200)), int(rng.integers(2, 257))
    logits = rng.normal(size=(count, levels)) * sharpness
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    drawn = [
        rng.choice(levels, p=np.exp(row)) if likely else rng.integers(levels) for row in log_probs
    ]
    return [int(level) for level in drawn], log_probs.astype(np.float32)


@pytest.mark.parametrize('sharpness', [0.1, 3, 30])
@pytest.mark.parametrize('likely', [True, False])
def test_a_message_comes_back_and_takes_two_bits_more_than_its_information(sharpness, likely):
    for seed in range(10):
        levels, log_probs = message(seed, sharpness, likely)
        encoder = Encoder()
        for level, row in zip(levels, log_probs, strict=True):
            encoder.encode(level, table(row))
        code, bits = encoder.finish()
        assert len(code) == -(-bits // 8)
        decoder = Decoder(code)
        assert [decoder.decode(table(row)) for row in log_probs] == levels
        # No level has less than a share 1/TOTAL.
        nats = np.float64([row[level] for level, row in zip(levels, log_probs, strict=True)])
        information = -np.maximum(nats, -np.log(TOTAL)).sum() / np.log(2)
        assert bits <= information + 2.01
        if sharpness < 30:
            assert bits >= information - 0.01


def test_whatever_follows_the_code_does_not_change_the_message():
    levels, log_probs = message(1, 3, True)
    encoder = Encoder()
    for level, row in zip(levels, log_probs, strict=True):
        encoder.encode(level, table(row))
    code, bits = encoder.finish()
    padding = (1 << (8 * len(code) - bits)) - 1
    filled = code[:-1] + bytes([code[-1] | padding]) + b'\xff' * 8
    decoder = Decoder(filled)
    assert [decoder.decode(table(row)) for row in log_probs] == levels


def test_nearly_certain_levels_cost_nearly_nothing():
    encoder, certain = Encoder(), table(np.log([1 - 1e-9, 1e-9]))
    for _ in range(10_000):
        encoder.encode(0, certain)
    assert encoder.finish()[1] <= 3


def test_tables_have_room_for_every_level_and_uniform_ones_are_even():
    cumulative = table(np.array([0.0, -200.0, -np.inf, -1e-30]))
    assert cumulative[0] == 0
    assert cumulative[-1] == TOTAL
    assert min(np.diff(cumulative)) >= 1
    assert uniform(3) == [0, 1, 2, 3]
