"""What only a GPU can show: training and writing there, in bfloat16."""
import pytest
import torch

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.frames import inertial_frames, to_frame
from torch_geometric_inertial.training import FitConfig, PackedMolecules, fit

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]


@pytest.fixture(scope='module')
def molecules():
    data = PackedMolecules.from_dataset(QM9Sample()[:256])
    return PackedMolecules(data.z, to_frame(data.pos, inertial_frames(data.pos, data.z.long(), data.ptr), data.ptr),
                           data.ptr)


def test_a_model_trains_and_writes_on_the_gpu(molecules, tmp_path):
    model = InertialAR(InertialARConfig.preset('tiny', elements=(1, 6, 7, 8))).fit_landmarks(molecules.pos)
    model = fit(model, molecules, tmp_path, FitConfig(num_steps=3, batch_size=64, precision='bfloat16'))
    assert next(model.parameters()).is_cuda
    written = model.generate(4, num_steps=8)
    assert all(data.pos.isfinite().all() and not data.pos.is_cuda for data in written)


def test_loss_on_the_gpu_is_the_loss_on_the_cpu(molecules):
    model = InertialAR(InertialARConfig.preset('tiny', elements=(1, 6, 7, 8))).fit_landmarks(molecules.pos).eval()
    batch = molecules.batch(torch.arange(32))
    with torch.no_grad():
        cpu = model(batch)
        gpu = model.cuda()(batch.clone().to('cuda'))
    assert abs(float(cpu.type) - float(gpu.type)) < 1e-3 and abs(float(cpu.parent) - float(gpu.parent)) < 1e-3
