r"""Which parts of GeoMFormer the n-body task needs: the `n_body` preset with one thing changed at a time.

    python benchmarks/study_n_body.py --root data/n_body --results benchmarks/results/n_body_variants.jsonl

Trains each variant for the same few steps as `examples/n_body.py` does, and prints the mean squared error on the test
split, in all and without close encounters. The first rows are those of the paper's Tables 10 to 13.
"""
import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'examples'))
from n_body import FIT, errors, load

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.nn.two_stream_block import StreamNorm
from torch_geometric_inertial.training import FitConfig, PositionLoss, fit

ATTENTIONS = ('inv_self', 'inv_cross', 'equ_self', 'equ_cross')
#: Fields of the configuration to change; `silent`: a branch that adds nothing; `without`: a norm to leave out.
VARIANTS: dict[str, dict] = {
    'n_body': {},
    **{f'no {name}': dict(silent=f'.{name}.') for name in ATTENTIONS},
    'no inv_ffn': dict(silent='inv_down'),
    'no equ_ffn': dict(silent='equ_down'),
    'no inv_norm': dict(without='inv'),
    'equ_norm whiten': dict(equ_norm='whiten', head_norm='whiten'),
    'equ_norm rms': dict(equ_norm='rms', head_norm='rms'),
    'no structural encoding': dict(silent='encoding.0.out'),
    # what the preset adds to the paper
    'not directional': dict(directional=False),
    'linear radial': dict(radial='linear', radius=(0.0, 6.0)),
    'centroid': dict(equivariant_init='centroid'),
    'charges as types': dict(type_exchange_invariant=False),
    'paired streams': dict(velocity='paired'),
    'one look': dict(time_steps=0),
    'time_steps 4': dict(time_steps=4),
    'time_steps 16': dict(time_steps=16),
    'two layers': dict(num_layers=2),
    'channels 64': dict(channels=64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/n_body'), help='folder of the simulated data')
    parser.add_argument('--variants', nargs='*', default=list(VARIANTS), choices=list(VARIANTS), metavar='NAME')
    parser.add_argument('--steps', type=int, default=200)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--results', type=Path)
    args = parser.parse_args()
    train, test = (load(args.root, split) for split in ('train', 'test'))
    print(f'{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; {args.steps} steps of '
          f'100 trajectories, learning rate falling to 0')
    print(f'{"variant":24} {"parameters":>10} {"train":>9} {"test":>9} {"clean":>9} {"CPU s":>7}')
    for name in args.variants:
        row = run(name, train, test, args.steps, args.seed)
        print(f'{name:24} {row["parameters"]:10,} {row["train_mse"]:9.5f} {row["mse"]:9.5f} {row["clean"]:9.5f} '
              f'{row["cpu_seconds"]:7.0f}', flush=True)
        if args.results is not None:
            with open(args.results, 'a') as file:
                file.write(json.dumps(row) + '\n')


def run(name: str, train, test, steps: int, seed: int) -> dict:
    changes = dict(VARIANTS[name])
    silent, without = changes.pop('silent', None), changes.pop('without', None)
    torch.manual_seed(seed)
    model = GeoMFormer(GeoMFormerConfig.preset('n_body', **changes))
    for path, parameter in model.named_parameters():
        if silent is not None and silent in path:  # a branch that adds nothing
            parameter.requires_grad_(False).zero_()
    for module in model.modules():
        if without is not None and isinstance(module, StreamNorm):
            setattr(module, without, nn.Identity())
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        config = FitConfig(num_steps=steps, lr=1.5e-3, ema_decay=0.98, seed=seed, **FIT | dict(warmup_steps=50))
        model = fit(PositionLoss(model), train, folder, config).model
    seconds = time.process_time() - start
    some = train.subset(torch.arange(1000))
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return dict(variant=name, steps=steps, seed=seed, parameters=parameters,
                cpu_seconds=round(seconds, 1), train_mse=errors(model.predict(some, 500).vectors, some)['mse'],
                **errors(model.predict(test, 500).vectors, test))


if __name__ == '__main__':
    main()
