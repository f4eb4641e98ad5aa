"""Figures of `jaxgen.apps.analyse` and others, from the arrays that they write as .npz.

matplotlib is imported inside the functions, and its Figure used without pyplot: no display, no
state. Each function returns a Figure; `figure.savefig(path)` writes it.
"""

from typing import Any

import numpy as np

from jaxgen.errors import UserError

_SPECTRUM = 'viridis'
_LAYERS_SHOWN = 5
_DPI = 110


def check() -> None:
    """UserError where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UserError(
            "plots need matplotlib, of the extra 'plots': pip install 'jaxgen[plots]'"
        ) from error


def encodings(result: dict[str, dict[str, np.ndarray]]) -> Any:
    """Row by row: magnitude spectrum (one colour scale), three components as RGB, each alone."""
    titles = {'fourier': 'Fourier features', 'embedding': 'coordinate embedding'}
    columns = 2 + max(part['components'].shape[-1] for part in result.values())
    figure, axes = _grid(len(result), columns)
    spectra = [part['log_magnitude'] for part in result.values()]
    for row, (name, part) in zip(axes, result.items(), strict=True):
        shown = _spectrum(row[0], part['log_magnitude'], spectra)
        row[0].set_title(f'{titles[name]}: magnitude')
        row[0].set_ylabel('cycles per pixel')
        figure.colorbar(shown, ax=row[0], shrink=0.8, label='mean ln |F|')
        components = part['components']
        row[1].imshow(_as_colours(components))
        row[1].set_title('components 1–3 as RGB')
        for i, axis in enumerate(row[2:]):
            if i < components.shape[-1]:
                axis.imshow(components[..., i], cmap='gray')
                axis.set_title(f'{i + 1}: {100 * part["explained"][i]:.1f} % of variance')
        for axis in row[1:]:
            axis.set_axis_off()
    return figure


def spectra(result: dict[str, np.ndarray]) -> Any:
    """Above: mean magnitude spectra, one colour scale. Below: azimuthal power, and its difference.

    Lines are of the mean power; the bands, of the decibels of single images, lie lower wherever a
    few images have most of the power. Beyond the dotted line, the Nyquist frequency of the axes,
    rings are no longer whole.
    """
    count = len(result['labels'])
    figure = _figure(3.4 * max(3, count), 7.6)
    above, below = figure.subfigures(2, 1)
    panels = above.subplots(1, count, squeeze=False)[0]
    for axis, label, magnitude in zip(
        panels, result['labels'], result['log_magnitude'], strict=True
    ):
        shown = _spectrum(axis, magnitude, result['log_magnitude'])
        axis.set_title(str(label))
    panels[0].set_ylabel('cycles per pixel')
    above.colorbar(shown, ax=list(panels), shrink=0.8, label='mean ln |F|')

    power, difference = below.subplots(1, 2)
    decibels = 10 * np.log10(np.maximum(result['profile'], np.finfo(np.float64).tiny))
    rows = slice(1, None)  # ring 0 is the brightness
    frequency = result['frequency'][rows]
    for i, label in enumerate(result['labels']):
        style = dict(color='black' if i == 0 else f'C{i - 1}', linewidth=1.5)
        power.plot(frequency, decibels[i, rows], label=f'{label} ({result["counts"][i]})', **style)
        middle, band = (result[f'decibels_{name}'][i, rows] for name in ('mean', 'deviation'))
        power.fill_between(
            frequency, middle - band, middle + band, color=style['color'], alpha=0.12, linewidth=0
        )
        difference.plot(frequency, (decibels[i] - decibels[0])[rows], **style)
    power.set_title('lines: mean power; bands: single images ± one deviation', fontsize='medium')
    power.set_ylabel('azimuthally averaged power, dB')
    power.legend(fontsize='small')
    difference.set_title(f'mean power against {result["labels"][0]}', fontsize='medium')
    difference.set_ylabel('dB')
    for axis in (power, difference):
        axis.axvline(result['frequency'][result['whole']].max(), color='gray', linestyle=':')
        axis.set_xlabel('cycles per pixel')
        axis.set_xlim(0, result['frequency'].max())
        axis.grid(alpha=0.3)
    return figure


def windowed(result: dict[str, np.ndarray]) -> Any:
    """StyleGAN3's layout: above heat maps in steps of 5 dB, below slices at 0° and 45°."""
    count = len(result['labels'])
    figure = _figure(3.6 * max(3, count), 7.6)
    above, below = figure.subfigures(2, 1)
    panels = above.subplots(1, count, squeeze=False)[0]
    levels = np.arange(-40, 21, 5)
    for axis, label, decibels in zip(panels, result['labels'], result['heatmap'], strict=True):
        y, x = (np.linspace(-0.5, 0.5, n) for n in decibels.shape)
        shown = axis.contourf(x, y, decibels, levels=levels, extend='both', cmap='Blues')
        axis.contour(x, y, decibels, levels=levels, colors='midnightblue', linewidths=0.3)
        axis.set_aspect('equal')
        axis.set_title(str(label))
    panels[0].set_ylabel('cycles per pixel')
    above.colorbar(shown, ax=list(panels), shrink=0.8, label='dB')
    for axis, name, end in zip(below.subplots(1, 2), ('0', '45'), (0.5, 0.5**0.5), strict=True):
        for i, (label, line) in enumerate(
            zip(result['labels'], result[f'slice_{name}'], strict=True)
        ):
            color = 'black' if i == 0 else f'C{i - 1}'
            axis.plot(np.linspace(0, end, len(line)), line, color=color, label=str(label))
        axis.set_title(f'{name}° slice')
        axis.set_xlabel('cycles per pixel')
        axis.set_ylabel('dB')
        axis.set_xlim(0, end)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def partition(result: dict[str, np.ndarray]) -> Any:
    """Left: the picture, and all crossings over it. Then layers: regions above, crossings below."""
    layers = len(result['regions'])
    shown = np.unique(np.linspace(0, layers - 1, min(layers, _LAYERS_SHOWN)).round().astype(int))
    figure, axes = _grid(2, 1 + len(shown))
    image = np.clip(result['image'] / 2 + 0.5, 0, 1)
    total = result['crossings'].sum(axis=0)
    axes[0, 0].imshow(image)
    axes[0, 0].set_title('picture')
    axes[1, 0].imshow(total, cmap='magma', vmax=_bright(total))
    axes[1, 0].set_title('sign changes, all layers')
    for column, layer in enumerate(shown, start=1):
        above, below = axes[:, column]
        above.imshow(result['colours'][layer], interpolation='nearest')
        above.set_title(f'layer {layer + 1}: {result["regions"][layer]:,} regions')
        crossings = result['crossings'][layer]
        below.imshow(crossings, cmap='magma', vmax=_bright(crossings), interpolation='nearest')
        joint = f'layers 1–{layer + 1}' if layer else 'layer 1'
        below.set_title(f'{joint}: {result["joint_regions"][layer]:,} regions')
    for axis in axes.flat:
        axis.set_axis_off()
    return figure


def resolution_usage(result: dict[str, np.ndarray]) -> Any:
    """Shares of the resolutions over training, stacked; of a single checkpoint as bars."""
    figure = _figure(7.6, 4.2)
    axis = figure.subplots()
    labels = [f'{side}×{side}' for side in result['resolution']]
    shares, images = 100 * result['share'], result['images']
    if len(shares) == 1:
        axis.bar(labels, shares[0], color='C0')
        axis.set_ylabel('share of the standard deviation, %')
        axis.grid(alpha=0.3, axis='y')
        return figure
    unit, name = (1e6, 'million') if images.max() >= 1e6 else (1e3, 'thousand')
    # Fine resolutions on top, as in the paper; light to dark.
    colours = _colours(len(labels))
    axis.stackplot(images / unit, shares.T, labels=labels, colors=colours)
    axis.set_xlim(images.min() / unit, images.max() / unit)
    axis.set_ylim(0, 100)
    axis.set_xlabel(f'images seen in training, {name}')
    axis.set_ylabel('share of the standard deviation, %')
    handles, names = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], names[::-1], loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def _colours(count: int) -> np.ndarray:
    import matplotlib

    return matplotlib.colormaps[_SPECTRUM](np.linspace(0.95, 0.05, count))


def detection(result: dict[str, np.ndarray], distance: str) -> Any:
    """Histograms of the projection's distances, generated and real, on one logarithmic axis."""
    figure = _figure(6.4, 3.8)
    axis = figure.subplots()
    everything = np.concatenate([result['generated'], result['real']])
    low, high = np.log10(np.maximum([everything.min(), everything.max()], 1e-12))
    bins = np.logspace(low - 0.02, high + 0.02, 33)
    for name, color in (('generated', 'C0'), ('real', 'C1')):
        axis.hist(result[name], bins, alpha=0.6, color=color, label=name)
    axis.set_xscale('log')
    axis.set_xlabel(f'distance at the end of the projection ({distance})')
    axis.set_ylabel('images')
    axis.set_title(f'{len(result["real"])} of each kind: AUC {float(result["auc"]):.3f}')
    axis.legend()
    return figure


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout='constrained')


def _grid(rows: int, columns: int) -> tuple[Any, np.ndarray]:
    figure = _figure(2.9 * columns, 3.1 * rows)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _spectrum(axis: Any, magnitude: np.ndarray, of_scale: Any) -> Any:
    """A centred spectrum over [-1/2, 1/2]², coloured as all of `of_scale` together."""
    # The few lowest frequencies are so strong that nothing else would show.
    low, high = np.percentile(np.stack(of_scale), (0.5, 99.5))
    v, u = ((-(n // 2) - 0.5, n - n // 2 - 0.5) for n in magnitude.shape)
    height, width = magnitude.shape
    extent = (u[0] / width, u[1] / width, v[1] / height, v[0] / height)
    return axis.imshow(
        magnitude, cmap=_SPECTRUM, vmin=low, vmax=high, extent=extent, interpolation='nearest'
    )


def _as_colours(components: np.ndarray) -> np.ndarray:
    """`[H, W, ≤3]` to RGB in [0, 1], each stretched by itself."""
    low, high = np.percentile(components, (1, 99), axis=(0, 1))
    colours = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.pad(colours, ((0, 0), (0, 0), (0, 3 - colours.shape[-1])))


def _bright(values: np.ndarray) -> float:
    return max(1.0, float(np.percentile(values, 99)))
