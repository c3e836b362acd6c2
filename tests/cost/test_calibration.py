"""Estimates against measurements on this machine: memory within a factor of 1.5, time within one of 3."""

import os
import resource
import subprocess
import sys
import time

import psutil
import pytest
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.shape import shape_of
from ept.backbones.t5 import T5
from ept.backbones.t5_config import T5Config
from ept.cost.estimate import UNDER_WAY, graph_bytes

pytestmark = pytest.mark.long

SIZES = dict(vocab_size=500, d_model=256, d_kv=64, d_ff=1024, num_heads=4, num_layers=6, num_decoder_layers=2)
ROWS, POSITIONS = 16, 300


def shape(config):
    return shape_of({"model_type": "t5", **vars(config)})


def training_pass(config, rows, positions):
    """A function that runs forward and backward of a T5 with random weights down to its inputs."""
    backbone = EncoderDecoder(T5(config))
    for parameter in backbone.model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    inputs = torch.randn(rows, positions, config.d_model, requires_grad=True)
    mask = torch.ones(rows, positions, dtype=torch.int64)
    targets = torch.tensor([[3, 4, 1]]).expand(rows, -1)
    return lambda: backbone.token_losses(inputs, mask, targets).sum().backward()


def measure_memory():
    """Printed by the process of its own in which the test calls this: bytes that the first large pass adds."""
    torch.set_num_threads(1)
    # What torch allocates once.
    training_pass(T5Config(**SIZES), 1, 10)()
    run = training_pass(T5Config(**SIZES), ROWS, POSITIONS)
    before = psutil.Process().memory_info().rss
    run()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def test_memory_of_a_pass_is_as_estimated():
    code = "from cost.test_calibration import measure_memory; measure_memory()"
    # What glibc keeps of freed memory for later is none of the pass's: large pieces go back at once.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="tests", env=environment
    )
    sizes = shape(T5Config(**SIZES))
    expected = ROWS * (graph_bytes(sizes, POSITIONS, "float32") + UNDER_WAY * POSITIONS * sizes.kept_bytes("float32"))
    assert expected / 1.5 < int(done.stdout) < expected * 1.5


def test_one_measured_rate_tells_the_time_of_other_sizes():
    """In seconds of the processor, so that a busy machine does not count; sizes up to 16 times the smallest."""
    rates = []
    for width, rows, positions in ((128, 16, 80), (256, 16, 80), (256, 4, 300), (512, 16, 80)):
        config = T5Config(**SIZES | {"d_model": width, "num_heads": width // 64, "d_ff": 4 * width})
        run = training_pass(config, rows, positions)
        run()
        started, passes = time.process_time(), 0
        while time.process_time() - started < 3:
            run()
            passes += 1
        seconds = (time.process_time() - started) / passes
        rates.append(shape(config).training_flops(rows, positions, 3, 3 * rows) / seconds)
    assert max(rates) < 3 * min(rates), rates
