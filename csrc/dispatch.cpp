#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "target.hpp"

namespace fcnkit {
namespace {

constexpr Table scalar_table("scalar", Scalar());

std::vector<const Table*> tables() {
    std::vector<const Table*> found;
#if FCNKIT_X86 && (defined(__GNUC__) || defined(__clang__))
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("gfni")) {
        found.push_back(&avx512_table);
    }
    // F16C is older than AVX2, and not every compiler can ask for it.
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("popcnt")) {
        found.push_back(&avx2_table);
    }
#endif
#if FCNKIT_NEON
    found.push_back(&neon_table);
#endif
    found.push_back(&scalar_table);
    return found;
}

const Table& named(const std::string& who, const std::string& name) {
    std::string names;
    for (const Table* table : tables()) {
        if (name == table->name) {
            return *table;
        }
        names += names.empty() ? "" : ", ";
        names += table->name;
    }
    throw std::invalid_argument(who + ": must name an instruction set this machine runs, got '" +
                                name + "'; use one of " + names + ", or unset it");
}

std::atomic<const Table*> selected{nullptr};

const Table* first_choice() {
    const char* forced = std::getenv("FCNKIT_FORCE_ISA");
    return forced != nullptr && *forced != '\0' ? &named("FCNKIT_FORCE_ISA", forced)
                                                : tables().front();
}

}  // namespace

std::vector<std::string> supported_tables() {
    std::vector<std::string> names;
    for (const Table* table : tables()) {
        names.emplace_back(table->name);
    }
    return names;
}

const Table& active_table() {
    const Table* table = selected.load(std::memory_order_acquire);
    if (table == nullptr) {  // two threads may both get here: they find the same answer
        table = first_choice();
        selected.store(table, std::memory_order_release);
    }
    return *table;
}

void select_table(const std::string& name) {
    selected.store(&named("select", name), std::memory_order_release);
}

}  // namespace fcnkit
