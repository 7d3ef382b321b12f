"""Where the real data of tests and benchmarks lie: the folder that INERTIAL_DATA names, else ../shared/data."""
import os
from pathlib import Path

DATA = Path(os.environ.get('INERTIAL_DATA', Path(__file__).resolve().parents[2] / 'shared' / 'data'))
