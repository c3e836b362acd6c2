"""`--set-param` of DVC on the shipped configuration."""

import shutil

import pytest
import yaml


@pytest.mark.parametrize("section", ["training", "few_shot"])
def test_one_rate_changes_alone(project, tmp_path, section):
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "config.yaml"
    shutil.copy(project / "config/config.yaml", path)
    expected = yaml.safe_load(path.read_text())
    expected[section]["learning_rates"]["pt"]["prompt"] = [0.125]
    apply_overrides(path, [f"{section}.learning_rates.pt.prompt=[0.125]"])
    assert yaml.safe_load(path.read_text()) == expected
