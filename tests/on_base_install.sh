#!/usr/bin/env bash
# The runtime's tests where nothing but the base install is: on the oldest and on the newest Python,
# in a fresh environment each, against the installed wheel and not against the source tree.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
unset PYTHONPATH
export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A Python of version $1 that can make environments: on the path, or one of pyenv's.
python_of() {
    local each
    for each in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$each" -c "import sys, ensurepip; sys.exit(sys.version_info[:2] != (${1/./, }))" \
            2>/dev/null; then
            echo "$each"
            return
        fi
    done
    return 1
}

# Only what a wheel is made of: neither a build folder nor the environment of a developer.
mkdir "$work/source"
tar -c --exclude='*.egg-info' --exclude=__pycache__ \
    setup.py pyproject.toml README.md LICENSE edgeflow runtime export benchmarks |
    tar -x -C "$work/source"

test_on() {
    local place=$work/$1 python=$2
    "$python" -m venv "$place"
    "$place/bin/pip" install --quiet -c constraints.txt \
        "$work/source" pytest pytest-xdist hypothesis jsonschema
    cd "$place" # so that nothing is imported from the source tree
    bin/python - "$place" <<'CHECK'
import importlib.util, platform, sys
import edgeflow_runtime

assert edgeflow_runtime.__file__.startswith(sys.argv[1]), edgeflow_runtime.__file__
for name in ("torch", "onnx", "onnxscript", "sklearn", "matplotlib", "librosa", "tensorrt"):
    assert importlib.util.find_spec(name) is None, f"{name} is no part of the base install"
print(f"--- the base install on Python {platform.python_version()}", flush=True)
CHECK
    # The emulated board makes an install of its own and says nothing of this one.
    bin/pytest -c "$root/pyproject.toml" -o pythonpath= -p no:cacheprovider -n 2 -q \
        --ignore="$root/tests/runtime/test_aarch64.py" --pyargs edgeflow_runtime "$root/tests/runtime"
    cd "$root"
}

tried=0
for version in 3.10 3.13; do
    if python=$(python_of "$version"); then
        test_on "$version" "$python"
        tried=$((tried + 1))
    else
        echo "--- skipped: there is no Python $version with venv: 'pyenv install $version' brings one"
    fi
done
[ "$tried" -gt 0 ] || test_on any "${PYTHON:-python3}"
