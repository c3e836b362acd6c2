"""`--set-param` of DVC on the shipped configuration."""

import shutil

import yaml


def test_one_rate_changes_alone(project, tmp_path):
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "config.yaml"
    shutil.copy(project / "config/config.yaml", path)
    expected = yaml.safe_load(path.read_text())
    expected["training"]["learning_rates"]["pt"]["prompt"] = [0.125]
    apply_overrides(path, ["training.learning_rates.pt.prompt=[0.125]"])
    assert yaml.safe_load(path.read_text()) == expected
