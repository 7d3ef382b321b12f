r"""Draws what conditions do, from what the examples wrote.

    python benchmarks/plot_conditions.py outputs/qm9_conditional/guidance.json     hit rate against stability, by scale
    python benchmarks/plot_conditions.py outputs/qm9_property/property.json        judged against requested values
"""
import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
from matplotlib import pyplot


def plot_groups(results: dict, path: Path) -> None:
    """Hit rate against molecule stability, one point a scale, with 95 % intervals."""
    figure, axes = pyplot.subplots(figsize=(6, 4.5), dpi=150, layout='constrained')
    x = [100 * result['report']['figures']['molecule_stability']['value'] for result in results.values()]
    y = [100 * result['hit_rate'] for result in results.values()]
    stable = [result['report']['figures']['molecule_stability']['interval'] for result in results.values()]
    hit = [result['intervals']['hit_rate'] for result in results.values()]
    for values, ends, direction in ((x, stable, 'xerr'), (y, hit, 'yerr')):
        bars = [[v - 100 * low for v, (low, _) in zip(values, ends, strict=True)],
                [100 * high - v for v, (_, high) in zip(values, ends, strict=True)]]
        axes.errorbar(x, y, **{direction: bars}, fmt='none', ecolor='0.8', zorder=0)
    axes.plot(x, y, 'o-', color='tab:blue')
    for scale, *point in zip(results, x, y, strict=True):
        axes.annotate(scale, point, xytext=(5, 5), textcoords='offset points')
    axes.set(xlabel='stable molecules (%)', ylabel='molecules with all requested groups (%)')
    figure.savefig(path)


def plot_property(found: dict, path: Path) -> None:
    """The regressor's values against those asked for, one panel a scale."""
    scales, requested = found['scales'], found['requested']
    figure, panels = pyplot.subplots(1, len(scales), figsize=(3.2 * len(scales) + 0.5, 3.5), dpi=150, sharex=True,
                                     sharey=True, squeeze=False, layout='constrained')
    ends, what = [min(requested), max(requested)], f"{found['target']} ({found['unit']})"
    margin = 0.3 * (ends[1] - ends[0])  # the regressor knows nothing of atoms that overlap
    for axes, (scale, result) in zip(panels[0], scales.items(), strict=True):
        axes.plot(ends, ends, color='0.8', zorder=0)
        pairs = [(x, y) for x, y in zip(requested, result['predicted'], strict=True) if y is not None]
        axes.plot(*zip(*pairs, strict=True), '.', color='tab:blue')
        axes.set(title=f'guidance scale {scale}', xlabel=f'requested {what}', ylim=(ends[0] - margin, ends[1] + margin))
    panels[0][0].set_ylabel(f'judged {what}')
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path)
    file = parser.parse_args().file
    found, path = json.loads(file.read_text()), file.with_suffix('.png')
    (plot_property if 'requested' in found else plot_groups)(found, path)
    print(f'wrote {path}')


if __name__ == '__main__':
    main()
