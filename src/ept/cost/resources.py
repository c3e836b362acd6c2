"""What the workflow asks for each training job: GPUs, threads, memory, time. Cheap: it runs whenever rules are read."""

import math
from functools import cached_property

from ept.cost.estimate import PackCost, backbone_shape, pack_cost
from ept.cost.shapes import BYTES
from ept.experiment import Experiment
from ept.pack import Pack

# Smaller backbones train well on a CPU: `make bench` trains 15 million parameters on two cores.
LEAST_PARAMETERS_FOR_GPU = 30_000_000
# One thread drives the GPU, one makes the next batch.
THREADS_BESIDE_GPU = 2
# Python with torch and the data: 450 MB on the demonstration, more where logits over a large vocabulary are evaluated;
# CUDA's libraries add to it.
CPU_BASE_MB, GPU_BASE_MB = 1_500, 6_000
# Where the sizes are not known before the download.
UNKNOWN_MB = 32_000
# Operations per second that time limits count on: less than half of what one thread of an AMD EPYC does (37e9, by
# benchmarks/performance.json and by the demonstration's runs); 30 % of an A100's published peak, an assumption.
CPU_RATE, GPU_RATE = 15e9, 0.3 * 312e12
# Starting and loading take minutes; a slower machine three times as long. A job that is cut goes on from its
# checkpoint, so that no limit needs to be longer than a day, which many partitions have as their own.
START_MINUTES, MARGIN, LONGEST_MINUTES = 20, 3, 24 * 60
# Rules that train nothing: the largest published data set (MNLI) is fetched, tokenised or read back whole.
LIGHT_MB, LIGHT_MINUTES = 4_000, 60
# T5-11B is a download of 45 GB.
DOWNLOAD_MINUTES = 6 * 60


class JobResources:
    """Of the packs of one configuration. Memory and time grow with each attempt (1, 2, ...)."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._costs: dict[str, PackCost] = {}

    @cached_property
    def gpus(self) -> int:
        """One a job, none for a backbone that is small enough for a CPU, two where it is spread over several; another
        number through `--set-resources train:gpu=4`.
        """
        if self._experiment.config.backbone.device_map == "auto":
            return 2
        shape = self._shape
        return 0 if shape is not None and shape.parameters < LEAST_PARAMETERS_FOR_GPU else 1

    @property
    def threads(self) -> int:
        """CPU threads of a job."""
        return THREADS_BESIDE_GPU if self.gpus else 1

    def memory_mb(self, pack: Pack, attempt: int = 1) -> int:
        """Main memory in MB. With a GPU the float32 weights pass through it; without one training happens there."""
        shape = self._shape
        if shape is None:
            return UNKNOWN_MB * attempt
        if self.gpus:
            needed = GPU_BASE_MB + shape.parameters * BYTES["float32"] / 1e6
        else:
            needed = CPU_BASE_MB + self._cost(pack).batch_bytes / 1e6
        return round_up(needed, 500) * attempt

    def minutes(self, pack: Pack, attempt: int = 1) -> int:
        """Time limit in minutes."""
        if self._shape is None:
            return LONGEST_MINUTES
        rate = GPU_RATE if self.gpus else CPU_RATE
        needed = START_MINUTES + MARGIN * self._cost(pack).flops / rate / 60
        return min(LONGEST_MINUTES, round_up(needed, 10) * attempt)

    @cached_property
    def _shape(self):
        return backbone_shape(self._experiment)

    def _cost(self, pack: Pack) -> PackCost:
        if pack.hash not in self._costs:
            self._costs[pack.hash] = pack_cost(self._experiment, pack, self._shape, gpu=bool(self.gpus))
        return self._costs[pack.hash]


def round_up(value: float, unit: int) -> int:
    """The next multiple of `unit`."""
    return math.ceil(value / unit) * unit
