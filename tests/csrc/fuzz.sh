#!/bin/sh
# libFuzzer on the kernels, with AddressSanitizer and UndefinedBehaviorSanitizer.
#
#     tests/csrc/fuzz.sh [SECONDS [KERNEL...]]     seconds per kernel, 600 unless given
#
# Run from the root of a checkout; CLANG names the compiler. Each kernel begins with its files under
# tests/csrc/corpus, if it has any; what is found is written to build/fuzz. Debian: apt-get install clang.
set -eu
seconds=${1:-600}
[ $# -gt 0 ] && shift
clang=${CLANG:-clang++}
mkdir -p build/fuzz
sources="csrc/deflate.cpp csrc/dispatch.cpp csrc/encoder.cpp csrc/images.cpp csrc/tiles.cpp csrc/*/*.cpp"
# shellcheck disable=SC2086
$clang -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -fno-omit-frame-pointer -pthread -Icsrc $sources \
    tests/csrc/fuzz_*.cpp tests/csrc/libfuzzer.cpp \
    -o build/fuzz/kernels
for kernel in ${*:-$(FCNKIT_FUZZ="" build/fuzz/kernels)}; do
    mkdir -p "build/fuzz/kernel-$kernel"
    echo "== $kernel"
    log=build/fuzz/kernel-$kernel.log
    seeds=tests/csrc/corpus/$kernel
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086
    FCNKIT_FUZZ=$kernel build/fuzz/kernels -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
        -print_final_stats=1 -artifact_prefix="build/fuzz/$kernel-" \
        "build/fuzz/kernel-$kernel" $seeds > "$log" 2>&1 || {
        tail -n 40 "$log"
        exit 1
    }
    grep number_of_executed_units "$log"
done
echo "== clean"
