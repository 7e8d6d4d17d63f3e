"""Packaged data: the default policies, their JSON Schema, the starter recording and its calibration."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

STARTER_RECORDING = _HERE / "starter.jsonl.gz"
STARTER_CALIBRATION = _HERE / "calibration.json"
POLICY_SCHEMA = _HERE / "policies.schema.json"


def default_policies() -> Path:
    """Returns the policy file that ships with the package; in a checkout, the one at its top."""
    packaged = _HERE / "policies.yaml"
    return packaged if packaged.is_file() else _HERE.parents[1] / "policies.yaml"
