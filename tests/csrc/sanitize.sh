#!/bin/sh
# The kernels under sanitizers: the fuzz targets in AddressSanitizer with
# UndefinedBehaviorSanitizer and in ThreadSanitizer, then the Python kernel tests in the former.
#
#     tests/csrc/sanitize.sh [SECONDS]     seconds per fuzz target, 60 unless given
#
# Run from the root of a checkout; PYTHON names the interpreter with the test tools (default:
# python), CXX the compiler. Everything is built under build/sanitize.
set -eu
seconds=${1:-60}
python=${PYTHON:-python}
cxx=${CXX:-g++}
out=build/sanitize
sources="csrc/deflate.cpp csrc/dispatch.cpp csrc/encoder.cpp csrc/images.cpp csrc/tiles.cpp csrc/*/*.cpp"
warnings="-Wall -Wextra -Wconversion -Werror"
address="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
mkdir -p "$out"

echo "== fuzz, AddressSanitizer and UndefinedBehaviorSanitizer"
# shellcheck disable=SC2086
$cxx -std=c++17 -O1 -g $warnings $address -pthread -Icsrc $sources tests/csrc/*.cpp \
    -o "$out/fuzz-address"
"$out/fuzz-address" replay tests/csrc/corpus
"$out/fuzz-address" all "$seconds"

echo "== fuzz, ThreadSanitizer"
# shellcheck disable=SC2086
$cxx -std=c++17 -O1 -g $warnings -fsanitize=thread -pthread -Icsrc $sources tests/csrc/*.cpp \
    -o "$out/fuzz-thread"
"$out/fuzz-thread" threads "$seconds"

echo "== Python tests of the kernels, AddressSanitizer and UndefinedBehaviorSanitizer"
# The extension alone is built again, and put in place of the installed one by the environment
# variable that tests/conftest.py reads.
suffix=$("$python" -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
includes=$("$python" -c "import pybind11, sysconfig; print('-isystem', pybind11.get_include(), \
'-isystem', sysconfig.get_path('include'))")
# shellcheck disable=SC2086
$cxx -std=c++17 -O1 -g $warnings $address -fvisibility=hidden -fPIC -shared -pthread -Icsrc \
    $includes $sources csrc/bindings.cpp -o "$out/_kernels$suffix"
preload="$($cxx -print-file-name=libasan.so) $($cxx -print-file-name=libstdc++.so)"
# Python keeps what it allocated until it exits, so leaks are no finding.
FCNKIT_TEST_KERNELS="$out/_kernels$suffix" LD_PRELOAD=$preload \
    ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 \
    "$python" -m pytest -q -p no:cacheprovider \
    tests/runtime/pixels/test_deflate.py tests/runtime/pixels/test_palette.py \
    tests/runtime/pixels/test_tiling.py \
    tests/runtime/pixels/test_metrics.py tests/runtime/pixels/test_upsampling.py
echo "== clean"
