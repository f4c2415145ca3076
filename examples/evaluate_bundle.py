"""How well a deployed bundle tells anomalous clips from normal ones; no torch needed.

python examples/evaluate_bundle.py fan_id_00.edgeflow SOUNDS
"""

import sys

import edgeflow as ef


def main(bundle: str, sounds: str) -> None:
    """Print AUC and pAUC beside the baseline's, and the record of the machine."""
    evaluation = ef.evaluate(bundle, sounds)
    print(f"AUC {evaluation.auc:.3f}, pAUC {evaluation.pauc:.3f}")
    for record in evaluation.records():
        print(record)


if __name__ == "__main__":
    main(*sys.argv[1:])
