// Random calls of every kernel, on every instruction set of the machine, against answers found the
// slow way. Meant to run under sanitizers: every array is a heap block of exactly its own size.
//
//     fuzz KERNEL SECONDS [SEED]     a target of fuzz_pixels.cpp or fuzz_logits.cpp, or all
//     fuzz threads SECONDS [SEED]    all of them from four threads at once, each using threads
//     fuzz replay FOLDER             the files of the fuzzers' corpus, a folder per kernel
//
// A failure prints the kernel, the instruction set and the seed of the call, and ends with 1.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "fuzz.hpp"

using namespace fuzz;

namespace {

void run(const std::string& name, Target target, double seconds, std::uint64_t seed) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    std::uint64_t calls = 0;
    while (Clock::now() < end && !failed) {
        Call call(name, seed + calls++);
        target(call);
    }
    std::printf("%s: %llu calls from seed %llu\n", name.c_str(),
                static_cast<unsigned long long>(calls), static_cast<unsigned long long>(seed));
}

void run_threads(double seconds, std::uint64_t seed) {
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
        threads.emplace_back([=] {
            const std::uint64_t mine = seed + (t << 32);
            run("threads", fuzz_threads, seconds / 2, mine);
            for (const auto& [name, target] : targets()) {
                run(name, target, seconds / 2 / static_cast<double>(targets().size()), mine);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

// The whole of a file decides the call, as in libFuzzer. Returns the number of files.
std::size_t replay(const std::filesystem::path& folder) {
    std::size_t files = 0;
    for (const auto& [name, target] : targets()) {
        if (!std::filesystem::exists(folder / name)) {
            continue;  // a target without examples
        }
        for (const auto& entry : std::filesystem::directory_iterator(folder / name)) {
            std::ifstream file(entry.path(), std::ios::binary);
            const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
            Call call(name, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
            target(call);
            ++files;
        }
    }
    std::printf("replay: %zu files\n", files);
    return files;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: fuzz KERNEL|all|threads SECONDS [SEED] | replay FOLDER\n");
        return 2;
    }
    if (std::string(argv[1]) == "replay") {
        return replay(argv[2]) == 0 || failed ? 1 : 0;
    }
    const std::string wanted = argv[1];
    const double seconds = std::atof(argv[2]);
    const std::uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
    std::printf("sets:");
    for (const Table* table : tables()) {
        std::printf(" %s", table->name);
    }
    std::printf("\n");
    bool known = wanted == "threads";
    if (known) {
        run_threads(seconds, seed);
    }
    for (const auto& [name, target] : targets()) {
        if (wanted == name || wanted == "all") {
            known = true;
            run(name, target, seconds, seed);
        }
    }
    if (!known) {
        std::fprintf(stderr, "no kernel %s\n", wanted.c_str());
        return 2;
    }
    return failed ? 1 : 0;
}
