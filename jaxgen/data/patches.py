"""Parts of images to train on, with the coordinates that they have in the whole.

    ScaledPatches   CIPS, section 3.3: parts of a large image at several scales
    RingWindows     CIPS, section 4.5: ordinary images as windows of a cylinder, for panoramas

Each is `crop(step, slot, image [H, W, C]) -> (part [P, P, C], coords [P, P, 2])`, a pure function
of its seed, the step and the example's slot in the global batch. Coordinates are float32 in the
order (x, y), as `jaxgen.ops.coords` has them.
"""

import dataclasses

import numpy as np

from jaxgen.errors import UserError

Crop = tuple[np.ndarray, np.ndarray]
# Keeps the draws of a batch apart from those of its examples.
_OF_BATCH, _OF_EXAMPLE = 0, 1


@dataclasses.dataclass(frozen=True)
class ScaledPatches:
    """Multi-scale strided patches, with the distribution of the released loader.

    With n = 2^k, for rows and columns alike:

        stride   positions phase, phase + n, phase + 2n, ...
        crop     P of these, from `start` on

    k is uniform over 0 ... floor(log2(R/P)), one for the whole batch. For k > 0 phases are uniform
    in 0 ... R - nP + n - 1 (they may exceed n), for k = 0 the phase is 0; crops are uniform over
    what is left. So pixels near the border are drawn less often than those inside.

    Attributes:
      side: P. shape: (height, width) of the images; R is the length along each axis.

    Raises:
      UserError: the images are smaller than the patch.
    """

    side: int
    shape: tuple[int, int]
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.side <= min(self.shape):
            raise UserError(
                f'data.patch must be from 1 to the {min(self.shape)} pixels of the shorter side, '
                f'got {self.side}'
            )

    @property
    def num_scales(self) -> int:
        """How many strides there are: 1, 2, 4, ..."""
        return (min(self.shape) // self.side).bit_length()

    def stride(self, step: int) -> int:
        """n of batch `step`."""
        rng = np.random.default_rng((self.seed, step, _OF_BATCH))
        return 2 ** int(rng.integers(self.num_scales))

    def positions(self, step: int, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the image that the patch shows, `[P]` each."""
        stride = self.stride(step)
        rng = np.random.default_rng((self.seed, step, _OF_EXAMPLE, slot))
        rows, columns = (self._along(length, stride, rng) for length in self.shape)
        return rows, columns

    def _along(self, length: int, stride: int, rng: np.random.Generator) -> np.ndarray:
        phase = 0 if stride == 1 else int(rng.integers(length - stride * self.side + stride))
        left = -(-(length - phase) // stride) - self.side
        return positions(phase, stride, int(rng.integers(left + 1)), self.side)

    def __call__(self, step: int, slot: int, image: np.ndarray) -> Crop:
        """The patch of an image and its coordinates."""
        rows, columns = self.positions(step, slot)
        return image[np.ix_(rows, columns)], patch_coords(self.shape, rows, columns)


@dataclasses.dataclass(frozen=True)
class RingWindows:
    """A random square window of an image that is as high as the ring, at a random angle.

    Whatever an ordinary image shows may lie anywhere around the viewer, so window and angle are
    independent. Windows begin at columns of the ring: training sees the entries of the embedding.

    Attributes:
      side: height of the ring and of the images. ring: pixels around. shape: of the images.

    Raises:
      UserError: images of another height, or narrower than the window, or a ring too small.
    """

    side: int
    ring: int
    shape: tuple[int, int]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shape[0] != self.side or self.shape[1] < self.side:
            raise UserError(
                f'data.patch must be the height of the images and of the ring, got {self.side} '
                f'for images of {self.shape[1]}×{self.shape[0]}'
            )
        if self.ring < self.side:
            raise UserError(
                f'the ring must be at least as wide as a window of {self.side}, got {self.ring}'
            )

    def __call__(self, step: int, slot: int, image: np.ndarray) -> Crop:
        """The window of an image and the coordinates where the ring shows it."""
        rng = np.random.default_rng((self.seed, step, _OF_EXAMPLE, slot))
        left = int(rng.integers(self.shape[1] - self.side + 1))
        angle = int(rng.integers(self.ring))
        columns = (angle + np.arange(self.side)) % self.ring
        coords = _grid(2 * columns / self.ring - 1, np.linspace(-1, 1, self.side))
        return image[:, left : left + self.side], coords


def positions(phase: int, stride: int, start: int, side: int) -> np.ndarray:
    """`[side]` pixels along an axis: every `stride`-th from `phase`, of these from `start` on."""
    return phase + stride * (start + np.arange(side))


def patch_coords(
    shape: tuple[int, int],
    rows: np.ndarray,
    columns: np.ndarray,
    dtype: np.typing.DTypeLike = np.float32,
) -> np.ndarray:
    """Coordinates `[P, P, 2]` of these rows and columns of an image of `shape`."""
    y, x = (np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in shape)
    return _grid(x[columns], y[rows], dtype)


def _grid(x: np.ndarray, y: np.ndarray, dtype: np.typing.DTypeLike = np.float32) -> np.ndarray:
    return np.stack(np.meshgrid(x, y), axis=-1).astype(dtype)
