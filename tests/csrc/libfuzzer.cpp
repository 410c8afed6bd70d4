// The same targets for libFuzzer, which chooses the calls by what they reach; tests/csrc/fuzz.sh
// runs it. FCNKIT_FUZZ names the kernel. If it is empty, the names are printed.
#include <cstdlib>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::string kernel;

}  // namespace

int LLVMFuzzerInitialize(int*, char***) {
    const char* name = std::getenv("FCNKIT_FUZZ");
    if (name != nullptr && *name == '\0') {
        for (const auto& [known, target] : fuzz::targets()) {
            std::printf("%s\n", known.c_str());
        }
        std::exit(0);
    }
    if (name == nullptr || fuzz::targets().count(name) == 0) {
        std::fprintf(stderr, "FCNKIT_FUZZ must name a kernel\n");
        std::exit(2);
    }
    kernel = name;
    return 0;
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fuzz::Target target = fuzz::targets().at(kernel);
    fuzz::Call call(kernel, data, size);
    target(call);
    if (fuzz::failed) {
        std::abort();
    }
    return 0;
}
