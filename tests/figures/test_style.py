"""Methods can be told apart, also by color-blind readers."""

import itertools

import numpy as np
import pytest

from ept.methods.registry import METHODS, Method

pytestmark = pytest.mark.registry

# Machado, Oliveira and Fernandes 2009, severity 1.0: what linear RGB turns into.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]


def _lab(color, vision):
    """CIE L*a*b* of a hexadecimal color as seen with that vision."""
    rgb = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(TO_XYZ) @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_method_has_a_style_of_its_own():
    colors, markers = {style.color for style in METHODS.values()}, {style.marker for style in METHODS.values()}
    assert len(colors) == len(markers) == len(METHODS)
    assert Method.color not in colors


@pytest.mark.parametrize("vision", VISION)
def test_any_two_colors_differ_for_every_reader(vision):
    seen = {name: _lab(style.color, vision) for name, style in METHODS.items()}
    distances = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    # Differences above 2 are seen side by side, above 10 at a glance.
    assert min(distances.values()) > 15, min(distances, key=distances.get)
    assert all(lightness < 80 for lightness, _, _ in seen.values()), "too pale on white"
