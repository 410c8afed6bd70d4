// The same targets for libFuzzer, which chooses the calls by what they reach; csrc/fuzz.sh runs it.
// FCNKIT_FUZZ names the kernel.
#include <cstdlib>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Target = void (*)(fuzz::Call&);
const std::vector<std::pair<std::string, Target>> kTargets = {
    {"decode", fuzz::fuzz_decode},   {"encode", fuzz::fuzz_encode},
    {"overlay", fuzz::fuzz_overlay}, {"gather", fuzz::fuzz_gather},
    {"argmax", fuzz::fuzz_argmax},   {"cut", fuzz::fuzz_cut},
    {"stitch", fuzz::fuzz_stitch},   {"confusion", fuzz::fuzz_confusion},
};

const std::pair<std::string, Target>& chosen() {
    const char* name = std::getenv("FCNKIT_FUZZ");
    for (const auto& target : kTargets) {
        if (name != nullptr && target.first == name) {
            return target;
        }
    }
    std::fprintf(stderr, "FCNKIT_FUZZ must name a kernel\n");
    std::exit(2);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const std::pair<std::string, Target>& target = chosen();
    fuzz::Call call(target.first, data, size);
    target.second(call);
    if (fuzz::failed) {
        std::abort();
    }
    return 0;
}
