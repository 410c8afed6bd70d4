#!/bin/sh
# Coverage of Python and C++ by the tests.
#
#     tests/coverage.sh [PYTEST ARGUMENTS...]     all tests unless given
#
# Run from the root of a checkout; PYTHON names the interpreter with the test tools, coverage and
# gcovr (default: python), CXX the compiler. The extension is built once more, with gcov's counters,
# and put in place of the installed one by the environment variable that tests/conftest.py reads, so
# the C++ figure is that of the tests which run it in their own process. Reports: build/coverage.
set -eu
python=${PYTHON:-python}
cxx=${CXX:-g++}
out=build/coverage
rm -rf "$out"
mkdir -p "$out/objects"

echo "== build with counters"
suffix=$("$python" -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
includes=$("$python" -c "import pybind11, sysconfig; print('-isystem', pybind11.get_include(), \
'-isystem', sysconfig.get_path('include'))")
for source in csrc/*.cpp csrc/*/*.cpp; do
    object=$out/objects/$(echo "$source" | tr / -).o
    # shellcheck disable=SC2086
    $cxx -std=c++17 -O1 -g --coverage -fprofile-update=atomic -fvisibility=hidden -fPIC -Icsrc \
        $includes -c "$source" -o "$object"
done
$cxx --coverage -shared -pthread "$out"/objects/*.o -o "$out/_kernels$suffix"

echo "== tests"
# Where a disk is full, coverage cannot write its own database either.
[ $# -gt 0 ] || set -- tests --deselect 'tests/faults/test_short.py::test_promise[full_disks]'
# Processes that the tests start count as well: coverage patches how they are started.
cat > "$out/rc" <<END
[run]
source_pkgs = fcnkit
branch = False
parallel = True
concurrency = thread,multiprocessing
patch = subprocess
sigterm = True
data_file = $PWD/$out/data
[report]
exclude_also =
    if TYPE_CHECKING:
    \\.\\.\\.$
END
FCNKIT_TEST_KERNELS="$out/_kernels$suffix" COVERAGE_RCFILE="$PWD/$out/rc" \
    "$python" -m coverage run -m pytest -q -p no:cacheprovider -W ignore "$@" || failed=1

echo "== Python"
export COVERAGE_RCFILE="$PWD/$out/rc"
"$python" -m coverage combine -q
"$python" -m coverage report --skip-covered --show-missing --sort=cover > "$out/python.txt" || true
grep TOTAL "$out/python.txt"
echo "== C++ (csrc)"
"$python" -m gcovr --root . --filter csrc/ --exclude csrc/neon "$out/objects" \
    --gcov-ignore-errors=no_working_dir_found --exclude-unreachable-branches --merge-lines \
    --txt "$out/cpp.txt" --print-summary | grep lines
exit "${failed:-0}"
