"""What the workflow requests for each job: GPUs, threads, memory, time. Cheap, because it runs when rules are read."""

import math
from functools import cached_property

from ept.backbones.shape import BYTES, Shape
from ept.cost.estimate import PackCost, backbone_shape, pack_cost, zero_shot_flops
from ept.cost.hardware import LIMIT_CPU, LIMIT_GPU, Device
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack

# Smaller backbones train well on a CPU: `make bench` trains 15 million parameters on two cores.
LEAST_PARAMETERS_FOR_GPU = 30_000_000
# One thread drives the GPU, one makes the next batch.
THREADS_BESIDE_GPU = 2
# Python with torch and the data: 450 MB on the demonstration, more where logits over a large vocabulary are evaluated;
# CUDA's libraries add to it.
CPU_BASE_MB, GPU_BASE_MB = 1_500, 6_000
# Where the sizes are not known before the download.
UNKNOWN_MB = 32_000
# Starting and loading take minutes; a slower machine three times as long. A job that is cut goes on from its
# checkpoint, so that no limit needs to be longer than a day, which many partitions have as their own.
START_MINUTES, MARGIN, LONGEST_MINUTES = 20, 3, 24 * 60
# Rules that train nothing: the largest published data set (MNLI) is fetched, tokenized or read back whole.
LIGHT_MB, LIGHT_MINUTES = 4_000, 60
# T5-11B is a download of 45 GB.
DOWNLOAD_MINUTES = 6 * 60
# Times the first attempt's memory. Estimates are right within 1.5, and a job that its time limit has cut twenty times
# must not end up asking for memory that no node has.
MOST_MEMORY = 2


def grown_memory(megabytes: int, attempt: int) -> int:
    """MB to request at an attempt (1, 2, ...) of a job that first requests `megabytes`."""
    return megabytes * min(attempt, MOST_MEMORY)


def grown_minutes(minutes: int, attempt: int) -> int:
    """Minutes to request at an attempt (1, 2, ...) of a job that first requests `minutes`; at most a day."""
    return min(LONGEST_MINUTES, minutes * attempt)


class JobResources:
    """What the jobs of one configuration request. Memory and time grow with the attempt (1, 2, ...) up to a limit."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._costs: dict[str, PackCost] = {}

    @cached_property
    def gpus(self) -> int:
        """GPUs of a job: one, none for a backbone that is small enough for a CPU, two where it is spread over several.

        `--set-resources train:gpu=4` takes another number.
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
            return grown_memory(UNKNOWN_MB, attempt)
        if self.gpus:
            needed = GPU_BASE_MB + shape.parameters * BYTES["float32"] / 1e6
        else:
            needed = CPU_BASE_MB + self._cost(pack, shape).batch_bytes / 1e6
        return grown_memory(round_up(needed, 500), attempt)

    def minutes(self, pack: Pack, attempt: int = 1) -> int:
        """Time limit in minutes."""
        shape = self._shape
        if shape is None:
            return LONGEST_MINUTES
        needed = START_MINUTES + MARGIN * self._cost(pack, shape).hours(self._device) * 60
        return grown_minutes(round_up(needed, 10), attempt)

    def zero_shot_minutes(self, attempt: int = 1) -> int:
        """Time limit in minutes of predicting every target task's test rows, in one job."""
        shape, config = self._shape, self._experiment.config
        if shape is None:
            return LONGEST_MINUTES
        dtype = config.backbone.used_dtype()
        rate = self._device.rate("tf32" if self.gpus and dtype == "float32" and config.backbone.tf32 else dtype)
        needed = START_MINUTES + MARGIN * zero_shot_flops(self._experiment, shape) / rate / 60
        return grown_minutes(round_up(needed, 10), attempt)

    def download_mb(self, attempt: int = 1) -> int:
        """Main memory in MB of downloading the backbone. A .bin file may have to be read whole, in float32."""
        if self._experiment.config.backbone.weights == "safetensors":
            return grown_memory(LIGHT_MB, attempt)
        if self._shape is None:
            return grown_memory(UNKNOWN_MB, attempt)
        needed = CPU_BASE_MB + self._shape.parameters * BYTES["float32"] / 1e6
        return grown_memory(max(LIGHT_MB, round_up(needed, 500)), attempt)

    @property
    def _device(self) -> Device:
        """The device that time limits are computed for."""
        return LIMIT_GPU if self.gpus else LIMIT_CPU

    @cached_property
    def _shape(self) -> Shape | None:
        return backbone_shape(self._experiment)

    def _cost(self, pack: Pack, shape: Shape) -> PackCost:
        if pack.hash not in self._costs:
            self._costs[pack.hash] = pack_cost(self._experiment, pack, shape, gpu=bool(self.gpus))
        return self._costs[pack.hash]


def round_up(value: float, unit: int) -> int:
    """The next multiple of `unit`."""
    return math.ceil(value / unit) * unit
