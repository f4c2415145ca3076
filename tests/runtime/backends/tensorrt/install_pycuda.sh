#!/usr/bin/env bash
# Builds pycuda where there is neither CUDA nor a GPU, so that test_cuda.py can run.
#
#   tests/runtime/backends/tensorrt/install_pycuda.sh .venv/bin/python
#
# CUDA's headers come from two small wheels, and the libcuda to link with is the tests' fake one.
# Both lie in a temporary folder that goes; only pycuda and its Python needs stay. It is built for
# tests: without cuRAND and without optimisation, and no cache keeps it for a machine with a GPU.
set -euo pipefail

fail() {
    echo "install_pycuda.sh: $*" >&2
    exit 1
}

python=${1:-}
[ -n "$python" ] || fail "which Python? Give the path of a virtual environment's"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip"
command -v g++ >/dev/null || fail "there is no C++ compiler: apt-get install g++"
included=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$included/Python.h" ] || fail "there is no $included/Python.h: apt-get install python3-dev"

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip=("$python" -m pip --disable-pip-version-check --no-cache-dir --quiet install)

"${pip[@]}" --no-deps --only-binary :all: --target "$work/headers" \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-profiler-api==13.0.85 >"$work/log" 2>&1 ||
    fail "pip did not fetch CUDA's headers: $(grep -m 1 ERROR "$work/log" || tail -n 1 "$work/log")"
g++ -x c -shared -fPIC -pthread -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so" \
    "$here/fake_cuda.c" >"$work/log" 2>&1 ||
    fail "fake_cuda.c does not compile: $(grep -m 1 error "$work/log" || tail -n 1 "$work/log")"

# pycuda's setup.py reads this from the home folder; pip's own settings stay where they are.
cat >"$work/.aksetup-defaults.py" <<END
CUDA_ENABLE_CURAND = False
CUDA_INC_DIR = ["$work/headers/nvidia/cu13/include"]
CUDADRV_LIB_DIR = ["$work"]
CXXFLAGS = ["-O0", "-g0"]
END
env HOME="$work" XDG_CONFIG_HOME="${XDG_CONFIG_HOME:-$(echo ~/.config)}" \
    "${pip[@]}" -c "$here/../../../../constraints.txt" --no-binary pycuda pycuda >"$work/log" 2>&1 ||
    fail "pip did not build pycuda: $(grep -m 1 -i error "$work/log" || tail -n 1 "$work/log")"
